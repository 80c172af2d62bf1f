"""Copies of data that runs share, and what happens where there is no room for them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kinetic_flows.runner_image.runner import data_cache, data_space
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.data_cache import Copies, key_of

from kinetic_flows.core.job import EXIT_DATA_UNAVAILABLE, EXIT_OBJECT_UNAVAILABLE
from kinetic_flows.core.job_parts import DataSpec
from runner_jobs import Job, wait, wait_until
from stored_data import Bring, a_run, as_said, store_data


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "source" / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("content")
    return tree


@pytest.fixture
def spec(tmp_path: Path, tree: Path) -> DataSpec:
    return store_data(tmp_path / "store", tree)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def bring(tmp_path: Path) -> Iterator[Bring]:
    with a_run(tmp_path) as bring:
        yield bring


def test_a_copy_is_kept_for_the_runs_that_come(tmp_path: Path, spec: DataSpec, cache: Path) -> None:
    with a_run(tmp_path) as bring:
        [first] = bring(spec, KINETIC_DATA_CACHE=str(cache))
    shutil.rmtree(tmp_path / "store")
    with a_run(tmp_path) as bring:
        [second] = bring(spec, KINETIC_DATA_CACHE=str(cache))
    assert first == second
    assert (Path(first) / "deep" / "file").read_text() == "content"


def test_a_copy_of_one_run_is_gone_with_its_directory(
    tmp_path: Path, spec: DataSpec, bring: Bring
) -> None:
    [path] = bring(spec)
    assert Path(path).is_relative_to(tmp_path / "scratch")


def test_a_shared_copy_cannot_be_added_to(bring: Bring, spec: DataSpec, cache: Path) -> None:
    [path] = bring(spec, KINETIC_DATA_CACHE=str(cache))
    folders = [Path(path), Path(path) / "deep"]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o555}


def test_what_differs_has_copies_of_its_own(
    tmp_path: Path, tree: Path, spec: DataSpec, bring: Bring
) -> None:
    (tree / "deep" / "file").write_text("changed")
    first, second = bring(spec, store_data(tmp_path / "store", tree))
    texts = [(Path(path) / "deep" / "file").read_text() for path in (first, second)]
    assert texts == ["content", "changed"]


def test_a_copy_that_another_run_brings_is_waited_for(
    tmp_path: Path, spec: DataSpec, cache: Path
) -> None:
    """Two runs at once: the pack is a pipe that can be read once."""
    [pack] = (tmp_path / "store" / "data" / "packs").iterdir()
    content = pack.read_bytes()
    pack.unlink()
    os.mkfifo(pack)
    source = "def main(): import os; return os.getpid()"
    changes = {"data": [as_said(spec)]}
    first = Job(tmp_path / "store", source=source, changes=changes)
    processes = [first.start(KINETIC_DATA_CACHE=str(cache))]
    wait_until(lambda: bool(list(cache.glob("*/draft/files"))))
    variables = {**first.variables, "KINETIC_DATA_CACHE": str(cache)}
    own = {"run_id": OTHER_RUN, "result": f"runs/{OTHER_RUN}/result.pkl"}
    other = Job(tmp_path / "store", source=source, changes={**changes, **own})
    processes.append(other.start(**variables))
    output = processes[1].stdout
    assert output is not None
    line = output.readline()
    assert b"another run brings it, which is waited for" in line
    pack.write_bytes(content)
    assert [wait(process).exit_code for process in processes] == [0, 0]
    [path] = cache.glob("*/files/tree/deep/file")
    assert path.read_text() == "content"


OTHER_RUN = "11111111-2222-3333-4444-666666666666"


def test_a_copy_that_is_removed_while_it_is_waited_for_is_made_anew(
    tmp_path: Path, spec: DataSpec, cache: Path
) -> None:
    place = cache / key_of(as_said(spec))
    place.mkdir(parents=True)
    job = Job(tmp_path / "store", source="def main(): pass", changes={"data": [as_said(spec)]})
    with (place / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = job.start(KINETIC_DATA_CACHE=str(cache))
        assert process.stdout is not None
        assert b"another run brings it" in process.stdout.readline()
        place.rename(cache / "gone-1")
    assert wait(process).exit_code == 0
    assert (place / "files" / "tree" / "deep" / "file").read_text() == "content"


def test_a_killed_run_leaves_nothing_that_counts_as_whole(
    tmp_path: Path, spec: DataSpec, cache: Path
) -> None:
    [pack] = (tmp_path / "store" / "data" / "packs").iterdir()
    content = pack.read_bytes()
    pack.unlink()
    os.mkfifo(pack)
    job = Job(tmp_path / "store", source="def main(): pass", changes={"data": [as_said(spec)]})
    process = job.start(KINETIC_DATA_CACHE=str(cache))
    wait_until(lambda: bool(list(cache.glob("*/draft/files"))))
    process.send_signal(signal.SIGKILL)
    wait(process)
    pack.unlink()
    pack.write_bytes(content)
    with a_run(tmp_path) as bring:
        [path] = bring(spec, KINETIC_DATA_CACHE=str(cache))
    assert (Path(path) / "deep" / "file").read_text() == "content"


def test_a_copy_counts_as_whole_when_its_disk_has_it(
    tmp_path: Path, spec: DataSpec, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(place: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), place)

    with a_run(tmp_path) as bring, monkeypatch.context() as patch:
        patch.setattr(data_cache, "flush", fails)
        with pytest.raises(Fault, match=r"cannot be written: .*: Input/output error"):
            bring(spec, KINETIC_DATA_CACHE=str(cache))
        assert not list(cache.glob("*/whole"))
    with a_run(tmp_path) as bring:
        bring(spec, KINETIC_DATA_CACHE=str(cache))
    assert list(cache.glob("*/whole"))


def test_a_cache_that_cannot_be_made_is_told_and_done_without(
    tmp_path: Path, spec: DataSpec, bring: Bring
) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    [path] = bring(spec, said=said, KINETIC_DATA_CACHE=str(tmp_path / "file" / "cache"))
    assert said == [f"no copies of data can be kept: {tmp_path}/file/cache: Not a directory"]
    assert Path(path).is_relative_to(tmp_path / "scratch")


def test_a_copy_in_memory_is_gone_with_the_last_run_that_uses_it(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.runner_image.runner.data.MEMORY", str(tmp_path / "shm"))
    (tmp_path / "shm").mkdir()
    spec = store_data(tmp_path / "store", tree, in_memory=True)
    with a_run(tmp_path) as first:
        [path] = first(spec)
        assert Path(path).is_relative_to(tmp_path / "shm")
        with a_run(tmp_path) as second:
            assert second(spec) == [path]
        assert (Path(path) / "deep" / "file").read_text() == "content"
    assert list((tmp_path / "shm").iterdir()) == []


def test_a_copy_that_cannot_be_removed_does_not_change_how_its_run_ends(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(place: str) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), place)

    monkeypatch.setattr("kinetic_flows.runner_image.runner.data.MEMORY", str(tmp_path / "shm"))
    (tmp_path / "shm").mkdir()
    spec = store_data(tmp_path / "store", tree, in_memory=True)
    with monkeypatch.context() as patch, a_run(tmp_path) as bring:
        bring(spec)
        patch.setattr(shutil, "rmtree", fails)
    with a_run(tmp_path) as bring:
        bring(spec)
    assert list((tmp_path / "shm").iterdir()) == []


def test_memory_that_another_user_has_prepared_is_not_used(
    tmp_path: Path, tree: Path, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.runner_image.runner.data.MEMORY", str(tmp_path))
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    said: list[str] = []
    with pytest.raises(Fault, match="can be put nowhere"):
        bring(store_data(tmp_path / "store", tree, in_memory=True), said=said)
    assert f"{tmp_path}/kinetic-{own + 1} belongs to another user" in said[0]


def test_where_nothing_is_kept_in_memory_a_disk_is_used(
    tmp_path: Path, tree: Path, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.runner_image.runner.data.MEMORY", str(tmp_path / "none"))
    said: list[str] = []
    [path] = bring(store_data(tmp_path / "store", tree, in_memory=True), said=said)
    assert said == [f"data {tree} is kept on disk: there is no {tmp_path}/none here"]
    assert (Path(path) / "deep" / "file").read_text() == "content"


def test_what_killed_runs_left_in_memory_is_removed(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.runner_image.runner.data.MEMORY", str(tmp_path / "shm"))
    (tmp_path / "shm").mkdir()
    root = tmp_path / "shm" / f"kinetic-{os.geteuid()}"
    left, used = root / "left", root / "used"
    for place in (left, used):
        place.mkdir(parents=True)
        (place / "lock").touch()
    with (used / "lock").open("rb") as lock, a_run(tmp_path) as bring:
        fcntl.flock(lock, fcntl.LOCK_SH)
        bring(store_data(tmp_path / "store", tree, in_memory=True))
        assert (left.exists(), used.exists()) == (False, True)


def test_a_copy_is_used_where_nothing_can_be_written(tmp_path: Path, cache: Path) -> None:
    """As an administrator may mount a cache; this process may be root, so that it is asked how."""
    place = cache / "key"
    (place / "files").mkdir(parents=True)
    (place / "whole").write_text("{}")
    copies = Copies(str(cache), is_kept=True, is_shared=True)
    (place / "lock").touch()
    copies.prepare()
    said = {"kind": "web", "identity": "1", "name": "n", "is_file": True, "place": {}}
    place.rename(cache / key_of(said))
    path = copies.bring(said, lambda *_: pytest.fail("it is there"), lambda: None)
    assert path == str(cache / key_of(said) / "files" / "n")
    copies.release()


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({}, "set KINETIC_HOME to a directory of a larger disk"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "raise ephemeral_storage in job_variables"),
    ],
)
def test_data_that_cannot_have_room_is_not_begun(
    tmp_path: Path, tree: Path, bring: Bring, variables: dict[str, str], advice: str
) -> None:
    spec = store_data(tmp_path / "store", tree, size_bytes=10**18)
    with pytest.raises(Fault, match=rf"it needs 1000000.0 TB, and .* free; .*{advice}") as caught:
        bring(spec, **variables)
    assert caught.value.exit_code == EXIT_DATA_UNAVAILABLE
    assert caught.value.message.startswith(f"there is no room for data {tree}")


def test_memory_that_is_too_small_is_told_with_what_to_raise(
    tmp_path: Path, tree: Path, bring: Bring
) -> None:
    spec = store_data(tmp_path / "store", tree, size_bytes=10**18, in_memory=True)
    with pytest.raises(Fault, match="raise shared_memory in job_variables, or leave in_memory"):
        bring(spec, KUBERNETES_SERVICE_HOST="10.0.0.1")
    with pytest.raises(Fault, match="leave in_memory out, or give this machine a larger /dev/shm"):
        bring(spec)


def test_memory_beyond_the_containers_limit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_space, "limit_bytes", lambda: 1000)
    room = data_space.Room(str(tmp_path), "data x", {}, in_memory=True)
    with pytest.raises(
        Fault, match=r"needs 5\.0 kB in memory, and the container's limit is 1\.0 kB"
    ):
        room.require(5000, None, str(tmp_path))


def test_what_is_there_already_needs_no_room(tmp_path: Path) -> None:
    state = os.statvfs(tmp_path)
    free = state.f_bavail * state.f_frsize
    (tmp_path / "left").write_bytes(os.urandom(5 << 20))
    room = data_space.Room(str(tmp_path), "data x", {})
    room.require(free - (64 << 20), None, str(tmp_path))
    with pytest.raises(Fault, match="there is no room for data x"):
        room.require(free + (1 << 40), None, str(tmp_path))


FULL_DISK = """
import json, sys
sys.path[:0] = json.loads(sys.argv[2])
from pathlib import Path
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.core.job_parts import DataSpec
from stored_data import a_run
import subprocess
directory = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", directory / "full"], check=True)
said = json.loads((directory / "spec.json").read_text())
with a_run(directory) as bring:
    try:
        bring(DataSpec(**said), KINETIC_DATA_CACHE=str(directory / "full" / "cache"))
    except Fault as fault:
        print(fault.exit_code, fault.message)
"""


def may_mount() -> bool:
    """Whether this process can make a file system of its own."""
    try:
        own = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return own.returncode == 0


@pytest.mark.skipif(not may_mount(), reason="no mount namespaces on this machine")
def test_a_disk_that_becomes_full_is_told_in_words(tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(3 << 20))
    # Nobody has counted it, so that it is found out while it is written.
    spec = store_data(tmp_path / "store", source, size_bytes=None)
    (tmp_path / "spec.json").write_text(json.dumps(as_said(spec)))
    (tmp_path / "full").mkdir()
    ended = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", FULL_DISK, str(tmp_path), json.dumps(sys.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    code, _, message = ended.stdout.partition(" ")
    assert int(code) == EXIT_DATA_UNAVAILABLE, ended.stderr
    assert message.startswith(f"there is no room for data {source}: {tmp_path}/full/cache has ")
    assert "free; make room there, or set KINETIC_HOME" in message


def test_a_missing_object_is_told_as_such(tmp_path: Path, spec: DataSpec, bring: Bring) -> None:
    shutil.rmtree(tmp_path / "store" / "data" / "manifests")
    with pytest.raises(Fault, match=r"the object data/manifests/.* cannot be fetched") as caught:
        bring(spec)
    assert caught.value.exit_code == EXIT_OBJECT_UNAVAILABLE
