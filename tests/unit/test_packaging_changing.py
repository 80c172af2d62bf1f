"""Files that are written during a call never fail it, and ship as they were at one moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetic_flows.code.snapshot import CodeSnapshot, take_snapshot
from kinetic_flows.code.upload import UploadSummary, code_spec
from kinetic_flows.platforms.local.store import LocalStore
from shipping import names_under, plain_root, restore, upload, write_project

WRITER = """
import json, os, pathlib, sys, threading, time

# Each in two halves; after the first, the file is no valid Python.
SOURCES = [("VALUES = [" + f"{n}, " * 20_000, f"{n}]\\n") for n in (1, 2)]
SMALL = ["X = [1,\\n", "X = [2,\\n"], "]\\n"

def append(path, pause):
    with open(path, "a") as file:
        for number in range(1, 10**9):
            file.write(f"line {number}\\n")
            file.flush()
            yield pause

def rewrite(path, pause):
    while True:
        for first, second in SOURCES:
            with open(path, "w") as file:
                file.write(first)
                file.flush()
                yield 0
                file.write(second)
            yield pause + 5

def replace(path, pause):
    for number in range(10**9):
        aside = path + ".aside"
        with open(aside, "w") as file:
            file.write(f"version {number}\\n" * 2000)
        os.replace(aside, path)
        yield pause

def come_and_go(path, pause):
    while True:
        pathlib.Path(path).write_text("here\\n")
        yield pause
        os.remove(path)
        yield pause

def directories(path, pause):
    while True:
        os.makedirs(path + "/deep/down")
        pathlib.Path(path + "/deep/down/file").touch()
        os.symlink("deep/down/file", path + "/link")
        yield pause
        os.remove(path + "/link")
        os.remove(path + "/deep/down/file")
        os.removedirs(path + "/deep/down")
        yield pause

def work(steps, stop):
    for milliseconds in steps:
        if stop.is_set():
            return
        time.sleep(milliseconds / 1000)

for line in sys.stdin:
    stop, threads = threading.Event(), []
    for name, path, pause in json.loads(line):
        steps = globals()[name](path, pause)
        next(steps)
        threads.append(threading.Thread(target=work, args=(steps, stop)))
    for thread in threads:
        thread.start()
    print("writing", flush=True)
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()
    print("stopped", flush=True)
"""

KINDS = ("append", "rewrite", "replace", "come_and_go", "directories")
NAMES = {
    "append": "log.txt",
    "rewrite": "helper.py",
    "replace": "state.json",
    "come_and_go": "lock",
    "directories": "made",
}


class Writer:
    """A process that writes files of a project while it is asked to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, jobs: list[tuple[str, str, int]]) -> None:
        self._say(json.dumps(jobs))
        assert self._hear() == "writing\n"

    def stop(self) -> None:
        self._say("")
        assert self._hear() == "stopped\n"

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def _hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()


@pytest.fixture(scope="module")
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    folder, numbers = tmp_path_factory.mktemp("changing"), count()
    return lambda: folder / str(next(numbers))


SOURCES = {f"VALUES = [{f'{n}, ' * 20_000}{n}]\n" for n in (1, 2)}

JOBS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.sampled_from([0, 1, 20, 60])),
    min_size=1,
    max_size=4,
    unique_by=lambda job: job[:2],
)


@settings(
    max_examples=settings().max_examples // 4,  # each takes a while
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(jobs=JOBS)
def test_what_another_process_writes_ships_as_it_was_at_one_moment(
    writer: Writer, places: Callable[[], Path], jobs: list[tuple[str, int, int]]
) -> None:
    place = places()
    project = write_project(place / "project", {"main.py": "", "notes.txt": "at rest"})
    paths = [(kind, f"{number}/{NAMES[kind]}", pause) for kind, number, pause in jobs]
    for _, path, _ in paths:
        (project / path).parent.mkdir(exist_ok=True)
    writer.start([(kind, str(project / path), pause) for kind, path, pause in paths])
    try:
        snapshot = take_snapshot(project, cache_home=place / "home")
        sent = upload(snapshot, LocalStore(place / "store"))
    finally:
        writer.stop()
    workspace = restore_sent(sent, place)
    assert {"main.py", "notes.txt"} <= names_under(workspace)
    for kind, path, _ in paths:
        check(kind, workspace / path, project / path)


def restore_sent(sent: UploadSummary, place: Path) -> Path:
    """Restore what was sent, as the runner does, which checks every digest."""
    spec = code_spec(sent.snapshot, plain_root(sent.snapshot.root))
    return restore(spec, place / "store", place / "workspace")


def check(kind: str, shipped: Path, now: Path) -> None:
    """Check that what shipped was there at some moment."""
    match kind:
        case "append":
            assert shipped.read_text().startswith("line 1\n")
            assert now.read_text().startswith(shipped.read_text())
        case "rewrite":
            assert shipped.read_text() in SOURCES
        case "replace":
            first, *more = shipped.read_text().splitlines()
            assert more == [first] * 1999
        case "come_and_go":
            assert not shipped.exists() or shipped.read_text() in ("here\n", "")


def snap(project: Path) -> CodeSnapshot:
    return take_snapshot(project, cache_home=None)


def append(path: Path) -> str:
    with path.open("a") as file:
        file.write("more")
    return "first"


def rewrite(path: Path) -> str:
    path.write_text("second, which is longer")
    return "second, which is longer"


def shorten(path: Path) -> str:
    path.write_text("2")
    return "2"


def replace(path: Path) -> str:
    aside = path.with_suffix(".aside")
    aside.write_text("second")
    aside.replace(path)
    return "second"


@pytest.mark.parametrize("change", [append, rewrite, shorten, replace])
def test_what_changes_between_the_plan_and_the_upload_ships_as_it_was_or_is(
    tmp_path: Path, change: Callable[[Path], str]
) -> None:
    project = write_project(tmp_path / "project", {"a.txt": "first", "b.txt": "still"})
    snapshot = snap(project)
    expected = change(project / "a.txt")
    sent = upload(snapshot, LocalStore(tmp_path / "store"))
    assert sent.warnings == ()
    workspace = restore_sent(sent, tmp_path)
    assert (workspace / "a.txt").read_text() == expected
    assert (workspace / "b.txt").read_text() == "still"


def vanish(path: Path) -> None:
    path.unlink()


def become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_secret(path: Path) -> None:
    path.write_text("-----BEGIN PRIVATE KEY-----\n")


def become_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    "change", [vanish, become_directory, become_secret, become_link_to_nothing]
)
def test_what_is_no_file_to_ship_any_more_is_left_out_with_a_line(
    tmp_path: Path, change: Callable[[Path], Any]
) -> None:
    project = write_project(tmp_path / "project", {"a.txt": "first", "b.txt": "still"})
    (project / "link").symlink_to("a.txt")
    snapshot = snap(project)
    change(project / "a.txt")
    sent = upload(snapshot, LocalStore(tmp_path / "store"))
    [warning] = sent.warnings
    assert "a.txt" in warning
    assert sent.snapshot.files == 1
    assert (restore_sent(sent, tmp_path) / "b.txt").read_text() == "still"


def test_a_large_file_that_grows_ships_as_its_beginning(tmp_path: Path) -> None:
    beginning = b"x" * 3_000_000
    project = write_project(tmp_path / "project", {"events": beginning})
    snapshot = snap(project)
    with (project / "events").open("ab") as file:
        file.write(b"y" * 10)
    sent = upload(snapshot, LocalStore(tmp_path / "store"))
    assert sent.snapshot == snapshot
    assert (restore_sent(sent, tmp_path) / "events").read_bytes() == beginning


def test_a_large_file_that_is_replaced_ships_as_what_it_is(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", {"model": b"x" * 3_000_000})
    snapshot = snap(project)
    (project / "model").write_bytes(b"y" * 2_500_000)
    sent = upload(snapshot, LocalStore(tmp_path / "store"))
    assert sent.snapshot.size_bytes == 2_500_000
    assert (restore_sent(sent, tmp_path) / "model").read_bytes() == b"y" * 2_500_000


def test_a_whole_project_that_changes_after_the_plan_ships(tmp_path: Path) -> None:
    names = [f"pkg/module_{number}.py" for number in range(300)]
    project = write_project(tmp_path / "project", dict.fromkeys(names, "OLD = 1\n"))
    snapshot = snap(project)
    write_project(project, dict.fromkeys(names, "NEW = 2\n# and longer\n"))
    sent = upload(snapshot, LocalStore(tmp_path / "store"))
    workspace = restore_sent(sent, tmp_path)
    assert {(workspace / name).read_text() for name in names} == {"NEW = 2\n# and longer\n"}


def test_what_was_sent_before_is_not_sent_again_when_a_file_changes(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", {"big.bin": b"x" * 3_000_000, "a.txt": "1"})
    store = LocalStore(tmp_path / "store")
    upload(snap(project), store)
    (project / "a.txt").write_text("2")
    snapshot = snap(project)
    (project / "a.txt").write_text("3")
    sent = upload(snapshot, store)
    assert 0 < sent.bytes_uploaded < 10_000  # the pack of the small file, and the manifest
