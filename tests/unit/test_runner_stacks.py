"""What the threads of a run do, told from outside of the function's process."""

from __future__ import annotations

import fcntl
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
from kinetic_flows.runner_image.runner.child_stacks import may_tell
from kinetic_flows.runner_image.runner.control import STACKS_FILE
from kinetic_flows.runner_image.runner.door import Entrance, open_door
from kinetic_flows.runner_image.runner.dumped_stacks import Dumped, Frame, parse_dump
from kinetic_flows.runner_image.runner.spied_stacks import parse_spied
from kinetic_flows.runner_image.runner.stack_signal import NotWritten, dump_of
from kinetic_flows.runner_image.runner.stack_view import Kernel, View
from kinetic_flows.runner_image.runner.stacks import IS_BUSY, KEEPS_LOCK, LEFT_BEHIND, _notes
from kinetic_flows.runner_image.runner.thread_states import ThreadTime

from loopback.tools import find_tool
from runner_jobs import RUN_ID, Job, wait, wait_until

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
LEAVES = dedent(
    """
    import pathlib, threading
    def main(ready):
        threading.Thread(target=threading.Event().wait, name="uploader").start()
        pathlib.Path(ready).touch()
    """
)
STOPS = "pathlib.Path(ready).touch(); import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
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
        # Kindly, so that it ends whatever the function has started.
        process.terminate()
        wait(process)


def look(directory: Path, *command: str, **variables: str) -> dict[str, Any]:
    """Do what somebody does who looks into the run."""
    done = way_in(directory, RUN_ID, *command, **variables)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def way_in(
    directory: Path, run_id: str, *command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WAY_IN.read_text(), run_id, "0", *command],
        # Whoever runs the tests may have py-spy.
        env={**os.environ, "TMPDIR": str(directory), "PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        check=False,
        text=True,
    )


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
    assert (seen["host"], seen["how"], seen["notes"]) == (0, "python", [])


def test_native_code_that_never_returns_and_keeps_pythons_lock_is_seen(
    start: Start, tmp_path: Path, native: str
) -> None:
    # It cannot end as it is asked to.
    start(HANGS, native, grace_seconds=1)
    seen = look(tmp_path, "stacks")
    (main,) = seen["threads"]
    assert lines(main) == [("main", 6, "train(hang)"), ("train", 8, "hang()")]
    assert (main["state"], seen["how"]) == ("running", "faulthandler")
    assert "keeps Python's lock" in seen["notes"][0]


def test_a_process_that_is_stopped_is_told_of_without_waiting_for_it(
    start: Start, tmp_path: Path
) -> None:
    start(LEAVES.replace("pathlib.Path(ready).touch()", STOPS), grace_seconds=0.1)
    wait_until(lambda: "error" in look(tmp_path, "stacks"))
    assert look(tmp_path, "stacks")["error"] == (
        "the function's process does not tell what it does: it is stopped by a signal"
    )


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


def spied_thread(ident: int, *frames: tuple[str, str, int], **more: Any) -> dict[str, Any]:
    """Return a thread as py-spy 0.4.1 prints it, the innermost frame first."""
    told = [{"name": name, "filename": file, "line": line} for name, file, line in frames]
    return {
        "thread_id": ident,
        "thread_name": "MainThread",
        "os_thread_id": 7,
        **more,
        "frames": told,
    }


def test_native_functions_are_shown_beneath_pythons_and_those_around_them_are_not(
    tmp_path: Path,
) -> None:
    libc = "/usr/lib/x86_64-linux-gnu/libc.so.6"
    spied = spied_thread(
        5,
        ("pause", libc, 0),
        ("0x7f1f1bf96f7a", "/usr/lib/x86_64-linux-gnu/libffi.so.8.1.2", 0),
        ("load", f"{tmp_path}/data.py", 10),
        ("Thread.run", "/usr/lib/python3.12/threading.py", 982),
        ("thread_run", "/usr/lib/libpython3.12.so.1.0", 0),
        owns_gil=True,
    )
    (thread,) = parse_spied([spied])
    assert (thread.ident, thread.native_id, thread.has_lock) == (5, 7, True)
    task = {"workspace": str(tmp_path), "root": "/home/ada", "packages": None}
    view = View("/tmp/runner.pyz", task, {"main": 5, "ident": 6}, {}, 7)
    assert view.frames(thread.frames) == (
        Frame("load", "/home/ada/data.py", 10, "", is_project=True),
        Frame("pause", libc, None),
    )


def test_a_lock_is_not_blamed_where_the_runner_is_at_something_else(tmp_path: Path) -> None:
    task = {"workspace": str(tmp_path), "root": "", "packages": None}
    view = View("/tmp/runner.pyz", task, {"main": 5, "ident": 6}, {}, 7)
    at, function = "/tmp/runner.pyz/_kinetic_runner/control.py", Frame("f", "app.py", 1)
    main = Dumped(5, (function,), "MainThread", has_lock=True)
    listens = Dumped(6, (Frame("_listen", at, 70),))
    answers = Dumped(6, (Frame("_listen", at, 75), Frame("_answer", at, 80), function))
    assert _notes(True, view, [main, listens]) == [KEEPS_LOCK, "the thread 'MainThread' keeps it"]
    assert _notes(True, view, [main, answers])[0] == IS_BUSY
    assert _notes(False, view, [main, listens]) == []


def test_where_py_spy_may_not_look_the_process_tells(start: Start, tmp_path: Path) -> None:
    spy = tmp_path / "bin" / "py-spy"
    spy.parent.mkdir()
    spy.write_text("#!/bin/sh\necho 'Error: Permission Denied' >&2; exit 1\n")
    spy.chmod(0o755)
    start(DEADLOCK)
    seen = look(tmp_path, "stacks", PATH=f"{spy.parent}:/usr/bin:/bin")
    assert (seen["how"], len(seen["threads"])) == ("python", 2)


LISTENS = """
import faulthandler, os, sys, threading
from signal import SIG_DFL, SIGUSR2, pthread_sigmask, signal, SIG_BLOCK
file = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND)
faulthandler.register(SIGUSR2, file=file)
print(file, flush=True)
for line in sys.stdin:
    exec(line)
    print(flush=True)
"""


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        ({7: ThreadTime("R", 1.0)}, {7: ThreadTime("R", 1.2)}, True),
        ({8: ThreadTime("S", 1.0)}, {8: ThreadTime("S", 1.0)}, True),
        ({8: ThreadTime("S", 1.0)}, {8: ThreadTime("R", 1.0)}, False),
        ({8: ThreadTime("S", 1.0)}, {8: ThreadTime("S", 1.1)}, False),
        ({}, {8: ThreadTime("S", 0.0)}, False),
    ],
)
def test_a_process_is_not_asked_whose_other_threads_run(
    before: dict[int, ThreadTime], after: dict[int, ThreadTime], may: bool
) -> None:
    main = {7: ThreadTime("S", 1.0)}
    assert may_tell(7, Kernel({**main, **before}, {**main, **after}, 0.2)) is may


def test_a_signal_is_sent_to_nobody_whom_it_would_end(tmp_path: Path) -> None:
    stacks = tmp_path / STACKS_FILE
    stacks.touch()
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS, str(stacks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        number = int(process.stdout.readline())
        control = {"native_id": process.pid, "signal": signal.SIGUSR2, "stacks": number}

        def dumped(**changes: int) -> str:
            try:
                return dump_of(process.pid, str(tmp_path), {**control, **changes}, 5)
            except NotWritten as error:
                return str(error)

        assert parse_dump(dumped())
        assert "has closed the file" in dumped(stacks=0)
        for done, why in (
            ("pthread_sigmask(SIG_BLOCK, [SIGUSR2])", "it lets no signal reach it"),
            ("signal(SIGUSR2, SIG_DFL)", "it does not handle the signal"),
            ("os.close(file)", "has closed the file"),
        ):
            process.stdin.write(done + "\n")
            process.stdout.readline()
            assert why in dumped()
        process.stdin.close()
        assert process.wait() == 0
    assert "is over" in dumped()


def test_two_who_look_at_once_do_not_wait_for_ever(tmp_path: Path) -> None:
    with (tmp_path / STACKS_FILE).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(NotWritten, match="somebody else looks at it"):
            dump_of(os.getpid(), str(tmp_path), {}, 0.01)


def test_a_dump_is_read_as_later_versions_of_python_write_it() -> None:
    text = """
Thread 0x00007f0a [load\\xe9r] (most recent call first):
  File "/app/d\\xe9p\\u0142.py", line 3 in f
  ...
Current thread 0x00007f0b (most recent call first):
  <no Python frame>
"""
    first, second = parse_dump(text.replace("\\\\", "\\"))
    assert (first.ident, first.frames) == (
        0x7F0A,
        (Frame("...", "", None), Frame("f", "/app/d\xe9p\u0142.py", 3)),
    )
    assert second.frames == ()


def test_what_is_known_is_what_is_not_the_function_where_that_is_over(
    start: Start, tmp_path: Path
) -> None:
    start(LEAVES)
    wait_until(lambda: look(tmp_path, "stacks").get("notes"))
    seen = look(tmp_path, "stacks")
    assert seen["notes"] == [LEFT_BEHIND]
    assert [thread["name"] for thread in seen["threads"]] == ["main", "uploader"]


def test_what_is_not_here_or_was_killed_with_its_door_open_is_not_looked_into(
    tmp_path: Path,
) -> None:
    run_id = "99999999-2222-3333-4444-555555555555"
    scratch = tmp_path / "kinetic-left"
    scratch.mkdir()
    # This process lives, and is no worker of that run.
    open_door(Entrance(run_id, 0, "runner.pyz", str(scratch)), os.getpid(), str(scratch / "try-0"))
    done = way_in(tmp_path, run_id, "stacks")
    assert (done.returncode, done.stdout) == (69, "")
    assert f"host 0 of run {run_id} is not at its function here" in done.stderr


def test_a_commands_name_that_is_not_known_is_told(start: Start, tmp_path: Path) -> None:
    start(LEAVES)
    done = way_in(tmp_path, RUN_ID, "future")
    assert (done.returncode, done.stdout) == (64, "")
    assert "this run's runner knows no future" in done.stderr
