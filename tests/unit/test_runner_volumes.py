"""Volumes in a run: mounted for the function alone, linked, or found where the cluster has them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import mounts as mounting
from kinetic_flows.runner_image.runner import volumes as runner
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.links import Taken, have_directory, have_link

from kinetic_flows.core.job import EXIT_RUNTIME_UNFIT
from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from runner_jobs import Ended, Job, wait

MOUNTS = Path(__file__).parents[2] / "runner_image" / "runner" / "mounts.py"
NOBODY = 65534
SOURCE = """
    import os, subprocess, sys
    def tree(path):
        return sorted(os.path.relpath(os.path.join(folder, name), path)
                      for folder, _, names in os.walk(path) for name in names)
    def tries(path):
        try:
            open(os.path.join(path, "new"), "w").close()
        except OSError as error:
            return error.strerror
        return "written"
    def main(*paths):
        child = subprocess.run(["ls", paths[0]], capture_output=True, text=True)
        return [(tree(path), tries(path)) for path in paths], child.stdout.split()
"""


def may_mount() -> bool:
    tried = subprocess.run([sys.executable, str(MOUNTS), "[]"], capture_output=True)
    return not tried.returncode


needs_namespaces = pytest.mark.skipif(not may_mount(), reason="no mount namespaces here")


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that is not there, in `/` where this user may make one."""
    parent = Path("/" if os.access("/", os.W_OK) else os.environ.get("TMPDIR", "/var/tmp"))
    path = parent / f"kinetic-test-{os.getpid()}"
    yield path
    assert not path.exists()


@pytest.fixture
def c4(tmp_path: Path) -> Path:
    root = tmp_path / "c4"
    (root / "en").mkdir(parents=True)
    (root / "en" / "0.txt").write_text("text")
    return root


def in_place(path: Path) -> DataSpec:
    return DataSpec(
        kind="local",
        identity="",
        source=str(path),
        name=path.name,
        path=str(path),
        is_file=path.is_file(),
    )


def a_job(tmp_path: Path, *volumes: VolumeSpec, data: tuple[DataSpec, ...] = ()) -> Job:
    return Job(
        root=tmp_path / "store",
        source=SOURCE,
        args=tuple(volume.path for volume in volumes),
        changes={"data": list(data), "volumes": list(volumes)},
        variables={"KINETIC_VOLUMES": str(tmp_path / "volumes")},
    )


def of_data(path: Path, number: int = 0) -> VolumeSpec:
    return VolumeSpec(path=str(path), kind="data", data=number)


def returned(job: Job, ended: Ended) -> Any:
    assert ended.exit_code == 0, ended.output + ended.errors
    return job.value()


@needs_namespaces
def test_the_function_and_its_children_find_data_at_its_path_and_cannot_write_there(
    tmp_path: Path, top: Path, c4: Path
):
    job = a_job(tmp_path, of_data(top / "c4"), data=(in_place(c4),))
    found, listed = returned(job, job.run())
    assert found == [(["en/0.txt"], "Read-only file system")]
    assert listed == ["en"]


@needs_namespaces
def test_what_is_mounted_in_the_data_cannot_be_written_to_either(tmp_path: Path, c4: Path):
    disk, path = tmp_path / "disk", tmp_path / "path"
    inner = c4 / "a disk"
    for directory in (disk, path, inner):
        directory.mkdir()
    first = [{"path": str(inner), "source": str(disk), "read_only": False}]
    second = [{"path": str(path), "source": str(c4), "read_only": True}]
    program = [sys.executable, str(MOUNTS)]
    tries = f"touch '{inner}/x' && ls '{path}/a disk' && touch '{path}/a disk/y'"
    done = subprocess.run(
        [*program, json.dumps(first), *program, json.dumps(second), "sh", "-c", tries],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "x\n", done.stderr
    assert "Read-only file system" in done.stderr
    assert [each.name for each in disk.iterdir()] == ["x"]


@needs_namespaces
def test_a_directory_that_is_there_is_covered_for_the_run_alone(tmp_path: Path, c4: Path):
    there = tmp_path / "there"
    there.mkdir()
    (there / "own").write_text("mine")
    job = a_job(tmp_path, of_data(there), data=(in_place(c4),))
    (found, *_), _ = returned(job, job.run())
    assert found[0] == ["en/0.txt"]
    assert [path.name for path in there.iterdir()] == ["own"]


@needs_namespaces
def test_a_single_file_is_in_its_volume_under_its_name(tmp_path: Path, top: Path, c4: Path):
    job = a_job(tmp_path, of_data(top), data=(in_place(c4 / "en" / "0.txt"),))
    (found, *_), _ = returned(job, job.run())
    assert found[0] == ["0.txt"]


@needs_namespaces
def test_scratch_is_empty_can_be_written_to_and_goes_with_the_run(tmp_path: Path, top: Path):
    scratch = VolumeSpec(path=str(top), kind="scratch", size="1Gi", read_only=False)
    job = a_job(tmp_path, scratch)
    found, _ = returned(job, job.run())
    assert found == [([], "written")]


@needs_namespaces
def test_several_volumes_are_there_at_once(tmp_path: Path, top: Path, c4: Path):
    scratch = VolumeSpec(path=str(top / "b" / "x"), kind="scratch", size="1Gi", read_only=False)
    job = a_job(tmp_path, of_data(top / "a"), scratch, data=(in_place(c4),))
    found, _ = returned(job, job.run())
    assert found == [(["en/0.txt"], "Read-only file system"), ([], "written")]


def test_a_volume_that_is_where_it_comes_from_needs_nothing(tmp_path: Path, c4: Path):
    job = a_job(tmp_path, of_data(c4), data=(in_place(c4),))
    (found, *_), _ = returned(job, job.run())
    assert found[0] == ["en/0.txt"]
    assert not (tmp_path / "volumes").exists()


def test_a_claim_cannot_be_on_this_machine(tmp_path: Path):
    job = a_job(tmp_path, VolumeSpec(path="/d", kind="claim", claim="datasets"))
    ended = job.run()
    assert ended.exit_code == EXIT_RUNTIME_UNFIT
    assert "/d is a PersistentVolumeClaim" in ended.output


@needs_namespaces
@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/usr/bin/python3", os.X_OK),
    reason="becomes another user, with Debian's Python",
)
def test_somebody_who_may_make_no_directory_there_has_it_all_the_same(tmp_path: Path):
    # Directories of tests are this user's alone.
    program = Path(f"/tmp/kinetic-mounts-{os.getpid()}.py")
    program.write_bytes(MOUNTS.read_bytes())
    program.chmod(0o644)
    mounts = [
        {"path": "/kinetic-test-data/c4", "source": "/usr/include", "read_only": True},
        {"path": "/usr/kinetic-test/x", "source": "/usr/share", "read_only": False},
        {"path": "/kinetic-test-data/b/c", "source": "/usr/share", "read_only": True},
    ]
    script = (
        "ls -d /kinetic-test-data/c4 /kinetic-test-data/b/c/doc /usr/kinetic-test/x /usr/bin;"
        "ls -d /proc/self; id -u;"
        "grep CapEff /proc/self/status; touch /kinetic-test-x /usr/kinetic-test-x; pwd"
    )
    try:
        done = subprocess.run(
            ["/usr/bin/python3", str(program), json.dumps(mounts), "sh", "-c", script],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/usr/share",
            capture_output=True,
            text=True,
        )
    finally:
        program.unlink()
    assert done.stdout.splitlines() == [
        *("/kinetic-test-data/b/c/doc", "/kinetic-test-data/c4", "/usr/bin"),
        *("/usr/kinetic-test/x", "/proc/self"),
        str(NOBODY),
        "CapEff:\t0000000000000000",
        "/usr/share",
    ]
    assert done.stderr.count("Read-only file system") == 2
    assert not Path("/kinetic-test-data").exists()


@needs_namespaces
def test_what_goes_wrong_half_way_removes_nothing(tmp_path: Path, c4: Path):
    mounts = [
        {"path": "/kinetic-test", "source": str(c4), "read_only": False},
        # A path below a file can be no directory: it is found out when the source is mounted.
        {"path": str(c4 / "en" / "0.txt" / "x"), "source": str(c4), "read_only": False},
    ]
    before = sorted(Path(tempfile.gettempdir()).glob("kinetic-mounts-*"))
    done = subprocess.run(
        [sys.executable, str(MOUNTS), json.dumps(mounts)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "Not a directory" in done.stdout
    assert (c4 / "en" / "0.txt").read_text() == "text"
    assert sorted(Path(tempfile.gettempdir()).glob("kinetic-mounts-*")) == before


def test_a_source_that_is_gone_is_told(tmp_path: Path):
    mounts = [{"path": str(tmp_path), "source": str(tmp_path / "gone"), "read_only": True}]
    done = subprocess.run(
        [sys.executable, str(MOUNTS), json.dumps(mounts)], capture_output=True, text=True
    )
    assert done.returncode == 1
    if may_mount():
        assert done.stdout.strip() == f"mount: No such file or directory ({tmp_path / 'gone'})"


def test_mounts_are_read_as_they_are_written():
    written = {"path": "/a", "source": "/b", "read_only": True}
    assert mounting.read_mounts([written]) == [mounting.Mount("/a", "/b", True)]


# Links


@pytest.fixture
def notes(tmp_path: Path) -> str:
    return str(tmp_path / "notes")


def test_a_link_goes_with_the_last_that_uses_it(tmp_path: Path, c4: Path, notes: str):
    path = tmp_path / "data" / "c4"
    first, second = (have_link(str(path), str(c4), notes) for _ in range(2))
    first.release()
    assert (path / "en" / "0.txt").read_text() == "text"
    second.release()
    assert not path.parent.exists()
    assert (c4 / "en" / "0.txt").exists()


def test_another_runs_link_to_something_else_is_left_alone(tmp_path: Path, c4: Path, notes: str):
    path = tmp_path / "data"
    held = have_link(str(path), str(c4), notes)
    with pytest.raises(Taken, match="another run that has not ended"):
        have_link(str(path), str(tmp_path), notes)
    assert path.readlink() == c4
    path.unlink()
    with pytest.raises(Taken, match="another run that has not ended"):
        have_link(str(path), str(tmp_path), notes)
    held.release()
    again = have_link(str(path), str(tmp_path), notes)
    assert path.readlink() == tmp_path
    again.release()


def test_what_is_there_already_is_never_replaced(tmp_path: Path, c4: Path, notes: str):
    (tmp_path / "data").mkdir()
    with pytest.raises(Taken, match="something is there already"):
        have_link(str(tmp_path / "data"), str(c4), notes)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Taken, match="no directory"):
        have_directory(str(tmp_path / "file"), "", notes)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_a_killed_process_has_left_is_removed_by_the_next(
    tmp_path: Path, c4: Path, notes: str
):
    path = tmp_path / "data" / "deep" / "c4"
    left = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import sys, time; sys.path.insert(0, sys.argv[1]); import links;"
                "held = links.have_link(*sys.argv[2:]); print('up', flush=True); time.sleep(600)"
            ),
            *(str(MOUNTS.parent), str(path), str(c4), notes),
        ],
        stdout=subprocess.PIPE,
    )
    assert left.stdout is not None
    assert left.stdout.readline() == b"up\n"
    left.send_signal(signal.SIGKILL)
    left.communicate()
    assert path.is_symlink()
    held = have_directory(str(path), "", notes)
    assert path.is_dir()
    assert not path.is_symlink()
    held.release()
    assert not (tmp_path / "data").exists()


def test_a_directory_that_is_used_meanwhile_stays(tmp_path: Path, notes: str):
    path = tmp_path / "a" / "b"
    held = have_directory(str(path), "", notes)
    (tmp_path / "a" / "somebody's").write_text("own")
    held.release()
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["somebody's"]


def a_place(tmp_path: Path, leaving: ExitStack, said: list[str]) -> runner.Place:
    return runner.Place(
        environ={"KINETIC_VOLUMES": str(tmp_path / "notes")},
        scratch=str(tmp_path),
        say=said.append,
        leaving=leaving,
    )


def test_where_nothing_can_be_mounted_links_are_made_and_told(
    tmp_path: Path, c4: Path, monkeypatch: pytest.MonkeyPatch
):
    # An interpreter that cannot be started stands for a machine without namespaces.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    volume = vars(of_data(tmp_path / "data"))
    said: list[str] = []
    with ExitStack() as leaving:
        assert runner.have_volumes([volume], [str(c4)], a_place(tmp_path, leaving, said)) == []
        assert (tmp_path / "data").readlink() == c4
    assert not (tmp_path / "data").is_symlink()
    (line,) = said
    assert "linked while the run goes on" in line
    (tmp_path / "data").mkdir()
    with ExitStack() as leaving, pytest.raises(Fault, match="pass it to the function"):
        runner.have_volumes([volume], [str(c4)], a_place(tmp_path, leaving, said))


# In a pod


def in_a_pod(tmp_path: Path, *volumes: VolumeSpec, data: tuple[DataSpec, ...] = ()) -> Job:
    job = a_job(tmp_path, *volumes, data=data)
    job.variables = {}
    return job


def test_what_the_cluster_did_not_mount_is_named(tmp_path: Path):
    volume = VolumeSpec(path=str(tmp_path / "data"), kind="claim", claim="datasets")
    ended = in_a_pod(tmp_path, volume).run()
    assert ended.exit_code == EXIT_RUNTIME_UNFIT
    assert f"nothing is mounted at {tmp_path / 'data'}" in ended.output
    assert "`kinetic pool create`" in ended.output


def test_a_copy_is_put_into_the_volume_itself(tmp_path: Path, c4: Path):
    from kinetic_flows.runner_image.runner.data_own import OwnDirectory

    root = tmp_path / "mounted"
    # As a try has left it that was interrupted just before its end.
    (root / "en").mkdir(parents=True)
    (root / "en" / "0.txt").write_text("text")
    spec = {"name": "c4", "is_file": False}

    def make(draft: str, path: str) -> None:
        assert Path(draft).is_relative_to(root)
        (Path(path) / "en").mkdir(parents=True)
        (Path(path) / "en" / "0.txt").write_text("text")

    own = OwnDirectory(str(root), str(tmp_path))
    assert own.bring(spec, make, lambda: None) == str(root)
    assert [str(path.relative_to(root)) for path in root.rglob("*")] == ["en", "en/0.txt"]

    def never(draft: str, path: str) -> None:
        raise AssertionError(draft, path)

    assert OwnDirectory(str(root), str(tmp_path)).bring(spec, never, lambda: None) == str(root)


def test_data_goes_into_directories_of_the_runs_own_in_pods_alone(tmp_path: Path, c4: Path):
    job = {
        "data": [vars(in_place(c4)), {**vars(in_place(c4)), "mode": "mount"}],
        "volumes": [vars(of_data(tmp_path / "a")), vars(of_data(tmp_path / "b", 1))],
    }
    assert runner.own_directories(job, {}) == {0: str(tmp_path / "a")}
    assert runner.own_directories(job, {"KINETIC_VOLUMES": "/notes"}) == {}


@needs_namespaces
def test_two_runs_at_once_have_one_path_each_with_its_own(tmp_path: Path, top: Path, c4: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "1.txt").write_text("other")
    jobs = [
        Job(
            root=tmp_path / f"store-{name}",
            source="""
                import os, pathlib, time
                def main(path, here, there):
                    pathlib.Path(here).touch()
                    while not os.path.exists(there):
                        time.sleep(0.01)
                    return sorted(os.listdir(path))
            """,
            args=(str(top), str(tmp_path / name), str(tmp_path / against)),
            changes={"data": [in_place(source)], "volumes": [of_data(top)]},
            variables={"KINETIC_VOLUMES": str(tmp_path / "volumes")},
        )
        for name, against, source in (("a", "b", c4), ("b", "a", other))
    ]
    processes = [job.start() for job in jobs]
    ended = [wait(process) for process in processes]
    assert [returned(*each) for each in zip(jobs, ended, strict=True)] == [["en"], ["1.txt"]]


def test_cloud_storage_that_is_not_mounted_or_cannot_be_read_is_told(tmp_path: Path):
    with pytest.raises(Fault, match=r"gs://corpus is not mounted at .*kinetic pool create"):
        runner.require_mounted(str(tmp_path / "gone"), "gs://corpus")
    looped = tmp_path / "looped"
    looped.symlink_to(looped)
    with pytest.raises(Fault, match="cannot be read: Too many levels of symbolic links"):
        runner.require_mounted(str(looped), "gs://corpus")
    runner.require_mounted(str(tmp_path), "gs://corpus")
