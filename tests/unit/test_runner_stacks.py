"""What the threads of a run do, told from outside of the function's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from loopback.tools import find_tool
from runner_jobs import RUN_ID, Job, wait_until

WAY_IN = Path(__file__).parents[2] / "runner_image" / "way_in.py"

HANGS = dedent(
    """
    import ctypes, os, pathlib, threading
    def main(ready, library):
        hang = ctypes.PyDLL(library).hang
        pathlib.Path(ready).touch()
        train(hang)
    def train(hang):
        hang()
    """
)
AWAITS = dedent(
    """
    import asyncio, pathlib
    async def main(ready):
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch(ready), name="fetch")
    async def fetch(ready):
        pathlib.Path(ready).touch()
        await answer()
    async def answer():
        await asyncio.get_running_loop().create_future()
    """
)
FORKS = dedent(
    """
    import multiprocessing, pathlib, subprocess, time
    def main(ready):
        other = subprocess.Popen(["sleep", "1000"])
        loader = multiprocessing.get_context("fork").Process(target=load, args=(ready,))
        loader.start()
        loader.join()
    def load(ready):
        pathlib.Path(ready).touch()
        time.sleep(1000)
    """
)
DEADLOCK = dedent(
    """
    import pathlib, threading
    first, second = threading.Lock(), threading.Lock()
    both = threading.Barrier(2)
    def main(ready):
        other = threading.Thread(target=load, args=(ready,), name="loader")
        other.start()
        with first:
            both.wait()
            with second:
                other.join()
    def load(ready):
        with second:
            both.wait()
            pathlib.Path(ready).touch()
            with first:
                pass
    """
)


Start = Callable[..., tuple[Job, "subprocess.Popen[bytes]"]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start runs that are stuck, and end them."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(source: str, *args: str, **changes: Any) -> tuple[Job, subprocess.Popen[bytes]]:
        ready = tmp_path / "ready"
        job = Job(tmp_path / "store", source, args=(str(ready), *args), changes=changes)
        process = job.start(TMPDIR=str(tmp_path))
        started.append(process)
        wait_until(ready.exists)
        return job, process

    yield begin
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def look(directory: Path, *command: str) -> dict[str, Any]:
    """Do what somebody does who looks into the run."""
    done = subprocess.run(
        [sys.executable, "-c", WAY_IN.read_text(), RUN_ID, "0", *command],
        env={**os.environ, "TMPDIR": str(directory)},
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library whose function never returns."""
    directory = tmp_path_factory.mktemp("native")
    (directory / "hang.c").write_text("void hang(void) { for (;;) ; }")
    library = str(directory / "hang.so")
    source = str(directory / "hang.c")
    subprocess.run([find_tool("tcc"), "-shared", "-o", library, source], check=True)
    return library


def lines(thread: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(each["function"], each["line"], each["source"]) for each in thread["frames"]]


def test_two_threads_that_wait_for_each_other_are_seen_by_name(
    start: Start, tmp_path: Path
) -> None:
    start(DEADLOCK)
    seen = look(tmp_path, "stacks")
    main, loader = seen["threads"]
    assert (main["name"], main["is_main"], main["state"]) == ("main", True, "waiting")
    assert lines(main) == [("main", 10, "with second:")]
    assert (loader["name"], loader["is_main"], loader["state"]) == ("loader", False, "waiting")
    assert lines(loader) == [("load", 16, "with first:")]
    assert (seen["host"], seen["how"], seen["notes"]) == (0, "faulthandler", [])


def test_native_code_that_never_returns_and_keeps_pythons_lock_is_seen(
    start: Start, tmp_path: Path, native: str
) -> None:
    start(HANGS, native)
    seen = look(tmp_path, "stacks")
    (main,) = seen["threads"]
    assert lines(main) == [("main", 6, "train(hang)"), ("train", 8, "hang()")]
    assert main["state"] == "running"
    assert "keeps Python's lock" in seen["notes"][0]


def test_the_tasks_of_a_coroutine_are_seen_where_they_wait(start: Start, tmp_path: Path) -> None:
    start(AWAITS)
    main, *tasks = look(tmp_path, "stacks")["threads"]
    assert [frame["function"] for frame in main["frames"]] == ["select"]
    seen = {task["name"]: lines(task)[-1] for task in tasks}
    assert seen["task fetch"] == ("answer", 10, "await asyncio.get_running_loop().create_future()")


def test_processes_that_the_function_has_forked_or_started_are_seen(
    start: Start, tmp_path: Path
) -> None:
    start(FORKS)
    main, *children = look(tmp_path, "stacks")["threads"]
    assert lines(main)[0] == ("main", 7, "loader.join()")
    seen = {child["process"]: child for child in children}
    assert len(seen) == 2
    (forked,) = (lines(each) for each in children if each["frames"])
    assert forked[-1] == ("load", 10, "time.sleep(1000)")
    (started,) = (each for each in children if not each["frames"])
    assert (started["name"], started["state"]) == ("sleep", "waiting")
