"""A command beside a run's function: its environment, its directory, its mounts, and its files."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import carrying
from kinetic_flows.runner_image.runner.enter import shell

from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from kinetic_flows.runs.insight import beside
from runner_jobs import RUN_ID, Job, wait_until

RUNNER = Path(__file__).parents[2] / "runner_image"
WAY_IN = RUNNER / "way_in.py"
CARRYING = RUNNER / "runner" / "carrying.py"

WAITS = dedent(
    """
    import os, pathlib, time
    def main(ready):
        os.environ["SET_BY_FUNCTION"] = "x" * 100_000
        os.environ["TOO_LARGE"] = "x" * 200_000
        os.makedirs("deeper")
        os.chdir("deeper")
        pathlib.Path("model.bin").write_bytes(b"weights")
        pathlib.Path(ready).touch()
        time.sleep(1000)
    """
)
KEEPS_LOCK = dedent(
    """
    import ctypes, pathlib
    def main(ready):
        pathlib.Path(ready).touch()
        ctypes.PyDLL(None).pause()
    """
)
SLEEPS = dedent(
    """
    import pathlib, time
    def main(ready):
        pathlib.Path(ready).touch()
        time.sleep(1000)
    """
)

OWN_ID = "22222222-3333-4444-5555-666666666666"
"""Of a run whose door no other test has open at the same time, in `/tmp`."""

Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start runs whose functions wait, and end them."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(source: str, **fields: Any) -> Job:
        ready = tmp_path / "ready"
        job = Job(tmp_path / "store", source, args=(str(ready),), **fields)
        started.append(job.start(TMPDIR=str(tmp_path)))
        wait_until(ready.exists)
        return job

    yield begin
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def way_in(
    directory: Path, *command: str, host: int = 0, run_id: str = RUN_ID, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Do as clients do, with the environment that a pod's container begins with."""
    return subprocess.run(
        [sys.executable, "-c", WAY_IN.read_text(), run_id, str(host), *command],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(directory), "FROM": "outside"},
        capture_output=True,
        check=False,
        timeout=60,
        **options,
    )


def entered(directory: Path, source: str, **options: Any) -> dict[str, Any]:
    """Return what Python says of where it is when it is started beside the function."""
    code = f"import json, os; print(json.dumps({source}))"
    done = way_in(directory, "enter", json.dumps(options), "python", "-c", code)
    assert done.returncode == 0, done.stderr
    return {"said": done.stderr.decode(), "found": json.loads(done.stdout)}


def test_a_command_has_what_the_function_has_and_nothing_else(start: Start, tmp_path: Path) -> None:
    job = start(WAITS, sealed={"TOKEN": "secret-value"})
    seen = entered(tmp_path, "[dict(os.environ), os.getcwd()]", term="xterm-kitty")
    environ, place = seen["found"]
    assert seen["said"] == "kinetic: too large to be passed on: TOO_LARGE\n"
    assert environ["TOKEN"] == "secret-value"
    assert len(environ["SET_BY_FUNCTION"]) == 100_000
    assert environ["KINETIC_RUN_ID"] == RUN_ID
    assert environ["TERM"] == "xterm-kitty"
    assert place.endswith("/workspace/deeper")
    # What the supervisor alone knows, and what was there before.
    assert not {"KINETIC_RUN_KEY", "KINETIC_SEAL_KEY", "FROM", "TOO_LARGE"} & environ.keys()
    # The project's modules can be imported, as in the function.
    assert entered(tmp_path, "__import__('app').__name__")["found"] == "app"
    # Values of secrets stand in no file.
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != job.root]
    assert not [path for path in written if b"secret-value" in path.read_bytes()]


def test_a_command_can_be_started_while_native_code_keeps_pythons_lock(
    start: Start, tmp_path: Path
) -> None:
    start(KEEPS_LOCK, sealed={"TOKEN": "secret-value"})
    seen = entered(tmp_path, "[dict(os.environ), __import__('app').__name__]")
    environ, module = seen["found"]
    assert (environ["KINETIC_RUN_ID"], module) == (RUN_ID, "app")
    assert "TOKEN" not in environ
    assert "its secrets, are not here" in seen["said"]


def test_ends_of_commands_are_told(start: Start, tmp_path: Path) -> None:
    start(WAITS)
    assert way_in(tmp_path, "enter", "{}", "sh", "-c", "exit 3").returncode == 3
    missing = way_in(tmp_path, "enter", "{}", "nosuch", "--help")
    assert missing.returncode == 127
    assert b"kinetic: nosuch: there is no such program in the run\n" in missing.stderr
    unknown = way_in(tmp_path, "fly")
    assert unknown.returncode == beside.EXIT_UNKNOWN_COMMAND
    # A shell that is told its commands has no prompt.
    told = way_in(tmp_path, "enter", '{"title": "train"}', input=b"pwd; exit 4\n")
    assert (told.returncode, b"$" in told.stderr) == (4, False)
    assert told.stdout.endswith(b"/workspace/deeper\n")


def test_a_command_that_nobody_waits_for_is_ended(start: Start, tmp_path: Path) -> None:
    start(WAITS)
    beginning = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(1000)"
    marks = tmp_path / "begun"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", WAY_IN.read_text(), RUN_ID, "0"),
            *("enter", '{"lifeline": true}', "python", "-c", beginning, str(marks)),
        ],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    wait_until(marks.exists)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=30) == 128 + signal.SIGINT


def test_there_is_no_way_in_before_a_function_and_after_it(start: Start, tmp_path: Path) -> None:
    assert way_in(tmp_path, "enter", "{}", "true", host=7).returncode == beside.EXIT_NO_DOOR
    start(SLEEPS)
    (door,) = tmp_path.glob("kinetic-*/door.json")
    assert way_in(tmp_path, "enter", "{}", "true").returncode == 0
    # One that was killed has closed nothing; another process may have its number by now.
    told = {**json.loads(door.read_text()), "worker": os.getpid(), "run_id": OWN_ID}
    door.write_text(json.dumps(told))
    done = way_in(tmp_path, "enter", "{}", "true", run_id=OWN_ID)
    assert done.returncode == beside.EXIT_NO_DOOR
    assert b"is not at its function here" in done.stderr


def test_a_door_that_others_could_have_made_is_left_alone(start: Start, tmp_path: Path) -> None:
    """Whoever enters becomes the program that a door names, and anybody may write to `/tmp`."""
    start(SLEEPS)
    (door,) = tmp_path.glob("kinetic-*/door.json")
    told = json.loads(door.read_text())
    evil = tmp_path / "evil"
    evil.write_text("#!/bin/sh\necho evil\n")
    evil.chmod(0o755)
    door.write_text(json.dumps({**told, "python": str(evil), "run_id": OWN_ID}))

    def enter() -> subprocess.CompletedProcess[bytes]:
        return way_in(tmp_path, "enter", "{}", "true", run_id=OWN_ID)

    assert enter().stdout == b"evil\n"
    door.parent.chmod(0o777)
    assert enter().returncode == beside.EXIT_NO_DOOR
    door.parent.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(door, 65534, 65534)
        assert enter().returncode == beside.EXIT_NO_DOOR


def may_mount() -> bool:
    tried = subprocess.run(
        [sys.executable, str(RUNNER / "runner" / "mounts.py"), "[]"], check=False
    )
    return not tried.returncode


@pytest.mark.skipif(not may_mount(), reason="no mount namespaces here")
def test_a_command_sees_the_functions_mounts(start: Start, tmp_path: Path) -> None:
    source, place = tmp_path / "data", tmp_path / "mounted"
    source.mkdir()
    place.mkdir()
    (source / "seen.txt").write_text("text")
    data = DataSpec(kind="local", identity="", source=str(source), name="data", path=str(source))
    volume = VolumeSpec(path=str(place), kind="data", data=0)
    start(
        SLEEPS,
        changes={"data": [data], "volumes": [volume]},
        variables={"KINETIC_VOLUMES": str(tmp_path / "volumes")},
    )
    assert not list(place.iterdir())
    assert entered(tmp_path, f"os.listdir({str(place)!r})")["found"] == ["seen.txt"]
    given = way_in(tmp_path, "give", str(place))
    assert carried(given.stdout, tmp_path / "copy") == 0
    assert (tmp_path / "copy" / "seen.txt").read_text() == "text"


def carried(stream: bytes, target: Path | str, cwd: Path | None = None) -> int:
    """Take a stream on this machine; return the exit code."""
    return subprocess.run(
        [sys.executable, str(CARRYING), "take", str(target)],
        input=stream,
        capture_output=True,
        check=False,
        cwd=cwd,
    ).returncode


def given(path: Path | str) -> bytes:
    done = subprocess.run([sys.executable, str(CARRYING), "give", str(path)], capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_go_both_ways(start: Start, tmp_path: Path) -> None:
    start(WAITS)
    sent = way_in(tmp_path, "give", "model.bin")
    assert carried(sent.stdout, tmp_path) == 0
    assert (tmp_path / "model.bin").read_bytes() == b"weights"
    taken = way_in(tmp_path, "take", "new/", input=given(tmp_path / "model.bin"))
    assert taken.returncode == 0, taken.stderr
    assert json.loads(taken.stdout)["path"].endswith("/deeper/new/model.bin")
    missing = way_in(tmp_path, "give", "nothing")
    assert missing.returncode == carrying.EXIT_NOTHING_THERE
    assert b"there is nothing at nothing (in " in missing.stderr


def a_tree(place: Path) -> Path:
    top = place / "tree"
    (top / "empty").mkdir(parents=True)
    (top / "sub").mkdir()
    (top / "sub" / "a.txt").write_text("a")
    (top / "run.sh").write_text("#!/bin/sh")
    (top / "run.sh").chmod(0o750)
    os.utime(top / "run.sh", (1_000_000_000, 1_000_000_000))
    os.link(top / "sub" / "a.txt", top / "same.txt")
    (top / "latest").symlink_to("sub")
    (top / "out").symlink_to("/etc/passwd")
    os.mkfifo(top / "pipe")
    return top


def test_a_tree_arrives_as_it_was(tmp_path: Path) -> None:
    top = a_tree(tmp_path)
    target = tmp_path / "there" / "copy"
    assert carried(given(top), target) == 0
    assert sorted(each.name for each in target.iterdir()) == [
        "empty",
        "latest",
        "run.sh",
        "same.txt",
        "sub",
    ]
    assert (target / "latest" / "a.txt").read_text() == "a"
    assert (target / "same.txt").read_text() == "a"
    is_now = (target / "run.sh").stat()
    assert (stat.S_IMODE(is_now.st_mode), is_now.st_mtime) == (0o750, 1_000_000_000)
    # Again, it goes into the directory that is there, and over what it has of it.
    assert carried(given(top), target) == 0
    assert (target / "tree" / "sub" / "a.txt").read_text() == "a"


def test_what_breaks_off_leaves_no_file_in_parts(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(3_000_000))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "large").write_bytes(b"before")
    stream = given(tmp_path / "large")
    for length in (0, 10, 5_000, 1_000_000, len(stream) - 12_000):
        assert carried(stream[:length], tmp_path / "there") == carrying.EXIT_FAILED
        assert [each.name for each in (tmp_path / "there").iterdir()] == ["large"]
        assert (tmp_path / "there" / "large").read_bytes() == b"before"
    assert carried(stream, tmp_path / "there") == 0
    assert (tmp_path / "there" / "large").read_bytes() == (tmp_path / "large").read_bytes()


def a_stream(name: str, *members: tarfile.TarInfo) -> bytes:
    """Return a stream as somebody may make it who wishes no good."""
    stream = io.BytesIO()
    head = {"name": name, "is_directory": True, "files": 1, "bytes": 4, "skipped": []}
    stream.write(json.dumps(head).encode() + b"\n")
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"evil"))
    return stream.getvalue()


def a_file(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 4
    return member


def a_link(name: str, leads_to: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, leads_to
    return member


@pytest.mark.parametrize("name", ["../evil", "/tmp/kinetic-evil", "sub/../../evil"])
def test_nothing_is_written_beside_where_it_is_to_be(tmp_path: Path, name: str) -> None:
    assert carried(a_stream("x", a_file(name)), tmp_path / "in" / "x") == 0
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/kinetic-evil").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/kinetic-evil", "..", ""])
def test_the_name_of_what_comes_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    there.mkdir()
    assert carried(a_stream(name, a_file("evil")), there) == carrying.EXIT_FAILED
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/kinetic-evil").exists()


def test_links_that_come_lead_nothing_out_together(tmp_path: Path) -> None:
    top = tarfile.TarInfo(".")
    top.type = tarfile.DIRTYPE
    members = (top, a_link("a", "."), a_link("a/b", "../outside"), a_file("b"))
    assert carried(a_stream("x", *members), tmp_path / "x") == 0
    assert sorted(each.name for each in (tmp_path / "x").iterdir()) == ["a", "b"]
    assert (tmp_path / "x" / "b").read_bytes() == b"evil"
    assert not (tmp_path / "x" / "b").is_symlink()


def test_what_is_removed_while_it_is_copied_is_not_there(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    for name in ("kept", "removed"):
        (top / name).write_text(name)

    class Removes(io.BytesIO):
        def write(self, content: Any) -> int:
            (top / "removed").unlink(missing_ok=True)
            return super().write(content)

    stream = Removes()
    carrying.give(str(top), stream)
    stream.seek(0)
    done = carrying.take(str(tmp_path / "there"), stream)
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["kept"]
    assert (done["files"], done["bytes"], done["skipped"]) == (1, 4, [])


def test_a_link_that_is_there_leads_nothing_out(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "a.txt").write_text("a")
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()
    (there / "tree").mkdir()
    (there / "tree" / "sub").symlink_to(elsewhere)
    assert carried(given(top), there) == carrying.EXIT_FAILED
    assert not list(elsewhere.iterdir())


def test_a_prompt_says_which_run_it_is() -> None:
    environ = {"PATH": os.environ["PATH"], "BASH_ENV": "/etc/profile"}
    command = shell({"title": "train 9229eced host 1", "term": "xterm"}, environ)
    assert command[-1] == "-i"
    assert environ["PS1"].startswith("[train 9229eced host 1]")
    assert "BASH_ENV" not in environ
    bare = {"PATH": "/nowhere"}
    assert shell({"term": "xterm"}, bare) == ["sh", "-i"]
