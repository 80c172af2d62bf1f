"""Listing and downloading what runs have written, from a directory and from Cloud Storage."""

from __future__ import annotations

import pickle
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from kinetic_flows.api.outputs import Outputs
from kinetic_flows.clients.google import outputs as google_outputs
from kinetic_flows.clients.google.outputs import BucketOutputs, OutputBucket
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.errors import StoreError, UsageError
from kinetic_flows.core.output_files import OutputFile, OutputSource
from kinetic_flows.core.progress import NullProgress, StepStatus
from kinetic_flows.platforms.local.outputs import DirectoryOutputs
from kinetic_flows.runs.output_download import Downloaded, download, matching
from loopback.storage_wire import WireStorage
from loopback.wire import Fault

FILES = {
    "model.bin": random.Random(1).randbytes(70_000),
    "checkpoints/1/state": b"one",
    "checkpoints/2/state": b"two" * 1000,
    "empty": b"",
    "größe 1.txt": b"x",
}


class Place(Protocol):
    """Where runs write."""

    source: OutputSource

    def write(self, name: str, data: bytes) -> None: ...

    def remove(self, name: str) -> None: ...


@dataclass
class Directory:
    """A directory of this machine."""

    root: Path

    def __post_init__(self) -> None:
        self.source = DirectoryOutputs(self.root)

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()


@dataclass
class Bucket:
    """A directory in Cloud Storage."""

    wire: WireStorage

    def __post_init__(self) -> None:
        url = self.wire.url
        self.bucket = OutputBucket("bucket", prefix="outputs/a", endpoint=url)
        self.store = GoogleStore("bucket", prefix="outputs/a", endpoint=url)
        self.source = BucketOutputs(self.bucket)

    def write(self, name: str, data: bytes) -> None:
        self.store.delete(name)
        self.store.put_if_absent(name, data)

    def remove(self, name: str) -> None:
        self.store.delete(name)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """A directory in a bucket that has other things, too."""
    wire = WireStorage().start()
    wire.create_bucket("bucket")
    place = Bucket(wire)
    with closing(place.bucket), closing(place.store):
        with closing(GoogleStore("bucket", endpoint=wire.url)) as beside:
            beside.put_if_absent("outputs/ab/beside", b"not ours")
        yield place
    wire.stop()


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """What a run has written, in a place of each kind."""
    made: Place
    if request.param == "directory":
        made = Directory(tmp_path / "outputs")
    else:
        made = request.getfixturevalue("bucket")
    for name, data in FILES.items():
        made.write(name, data)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where files are downloaded to."""
    return tmp_path / "here" / "and there"


class Steps(NullProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[tuple[StepStatus, str]] = []
        self.counts: list[tuple[int, int | None, str]] = []

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:
        assert name == "download"
        self.ended.append((status, detail))

    def count(self, name: str, done: int, total: int | None, detail: str) -> None:
        assert name == "download"
        self.counts.append((done, total, detail))


def fetch(place: Place, target: Path, progress: Steps | None = None) -> Downloaded:
    return download(place.source, list(place.source.list()), target, progress or Steps())


def content(target: Path) -> dict[str, bytes]:
    found = (path for path in target.rglob("*") if path.is_file())
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in found}


def test_files_are_listed_by_name_with_size_and_time(place: Place) -> None:
    files = list(place.source.list())
    assert [file.name for file in files] == sorted(FILES)
    assert {file.name: file.size_bytes for file in files} == {
        name: len(data) for name, data in FILES.items()
    }
    assert all(file.updated.tzinfo and file.version for file in files)
    assert [file.name for file in matching(files, "checkpoints/*")] == [
        "checkpoints/1/state",
        "checkpoints/2/state",
    ]


def test_a_directory_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert list(DirectoryOutputs(tmp_path / "nothing").list()) == []


def test_what_stands_for_a_directory_in_a_bucket_is_no_file(bucket: Bucket) -> None:
    bucket.wire.buckets.put("bucket", {"name": "outputs/a/folder/"}, b"", {})
    bucket.write("folder/file", b"1")
    assert [file.name for file in bucket.source.list()] == ["folder/file"]


def test_a_download_is_a_copy_that_was_checked_and_leaves_nothing_else(
    place: Place, target: Path
) -> None:
    steps = Steps()
    done = fetch(place, target, steps)
    assert content(target) == FILES
    size = sum(map(len, FILES.values()))
    assert (done.files, done.kept, done.read_bytes, done.size_bytes) == (5, 0, size, size)
    assert steps.ended == [("started", ""), ("done", str(done))]
    assert steps.counts[-1][:2] == (size, size)
    assert steps.counts[-1][2].startswith("5 of 5 files")
    updated = {file.name: file.updated.timestamp() for file in place.source.list()}
    assert (target / "model.bin").stat().st_mtime == pytest.approx(updated["model.bin"], abs=1)


def test_what_is_there_is_not_read_again_and_what_differs_is(place: Place, target: Path) -> None:
    fetch(place, target)
    (target / "mine").write_text("not the run's")
    # Of the same size, and as young as you like.
    (target / "checkpoints/1/state").write_bytes(b"ONE")
    done = fetch(place, target)
    assert (done.kept, done.read_bytes) == (4, 3)
    assert content(target) == {**FILES, "mine": b"not the run's"}


def test_a_new_version_takes_the_place_of_an_old_one(place: Place, target: Path) -> None:
    fetch(place, target)
    place.write("model.bin", b"better")
    assert fetch(place, target).kept == 4
    assert content(target)["model.bin"] == b"better"


def part_of(file: OutputFile, target: Path) -> Path:
    """Return where a file arrives, found out by breaking its download off at once."""
    source = BrokenOff(file, 0)
    with pytest.raises(StoreError):
        download(source, [file], target, NullProgress())
    [part] = [path for path in target.rglob("*") if path.is_file()]
    return part


def test_a_place_is_checked_before_anything_is_written_there(
    place: Place, bucket: Bucket, tmp_path: Path
) -> None:
    place.source.check()
    DirectoryOutputs(tmp_path / "not" / "there" / "yet").check()
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"/file/a: .*/file is no directory"):
        DirectoryOutputs(tmp_path / "file" / "a").check()
    missing = OutputBucket("nobodys", endpoint=bucket.wire.url)
    with closing(missing), pytest.raises(StoreError, match="nobodys"):
        BucketOutputs(missing).check()
    # Of what this user may not look at, the run may write all the same.
    with bucket.wire.server.fault(Fault(kind="status", status=403, times=5)):
        bucket.source.check()


@dataclass
class BrokenOff:
    """A source that breaks off after so many bytes, as an outage does."""

    file: OutputFile
    after: int
    data: bytes = b""

    def list(self) -> Iterator[OutputFile]:
        yield self.file

    def check(self) -> None:
        """Find nothing."""

    def read(self, _file: OutputFile, start: int) -> Iterator[bytes]:
        if start < self.after:
            yield self.data[start : self.after]
        raise StoreError("the connection is gone")

    def checksum(self, _file: OutputFile) -> str:
        return "right"

    def checksum_of(self, _path: Path) -> str:
        return "wrong"


def test_a_download_that_was_broken_off_goes_on_where_it_was(place: Place, target: Path) -> None:
    [file] = matching(place.source.list(), "model.bin")
    source = BrokenOff(file, 50_000, FILES["model.bin"])
    steps = Steps()
    with pytest.raises(StoreError, match="the connection is gone"):
        download(source, [file], target, steps)
    assert steps.ended[-1][0] == "failed"
    assert not (target / "model.bin").exists()
    done = download(place.source, [file], target, NullProgress())
    assert done.read_bytes == 20_000
    assert content(target) == {"model.bin": FILES["model.bin"]}


def test_a_part_that_is_not_what_it_should_be_is_read_anew(place: Place, target: Path) -> None:
    [file] = matching(place.source.list(), "model.bin")
    part = part_of(file, target)
    part.write_bytes(b"x" * 1000)
    done = download(place.source, [file], target, NullProgress())
    assert done.read_bytes == 69_000 + 70_000
    assert content(target) == {"model.bin": FILES["model.bin"]}


def test_a_part_of_another_version_is_not_gone_on_with(place: Place, target: Path) -> None:
    [file] = matching(place.source.list(), "model.bin")
    part_of(file, target).write_bytes(FILES["model.bin"][:1000])
    place.write("model.bin", b"better")
    fetch(place, target)
    assert content(target) == {**FILES, "model.bin": b"better"}


def test_what_does_not_fit_its_checksum_is_refused_by_name(place: Place, target: Path) -> None:
    [file] = matching(place.source.list(), "checkpoints/1/state")
    with pytest.raises(StoreError, match="checkpoints/1/state does not arrive as its checksum"):
        download(Wrong(place.source), [file], target, NullProgress())
    assert content(target) == {}


@dataclass
class Wrong:
    """A source whose files arrive changed."""

    right: OutputSource

    def list(self) -> Iterator[OutputFile]:
        return self.right.list()

    def check(self) -> None:
        self.right.check()

    def read(self, file: OutputFile, start: int) -> Iterator[bytes]:
        for piece in self.right.read(file, start):
            yield bytes(len(piece))

    def checksum(self, file: OutputFile) -> str:
        return self.right.checksum(file)

    def checksum_of(self, path: Path) -> str:
        return self.right.checksum_of(path)


def test_files_that_go_meanwhile_are_left_out_and_told(place: Place, target: Path) -> None:
    files = list(place.source.list())
    place.remove("checkpoints/1/state")
    place.write("model.bin", b"another version of it")
    done = download(place.source, files, target, NullProgress())
    assert sorted(done.gone) == ["checkpoints/1/state", "model.bin"]
    assert "2 were removed or changed meanwhile" in str(done)
    assert not list(target.rglob(".*"))
    assert set(content(target)) == FILES.keys() - set(done.gone)


@pytest.mark.parametrize("name", ["../up", "a/../../b", "/etc/passwd", "a//b", "./a", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(
    place: Place, target: Path, name: str
) -> None:
    files = [*place.source.list()]
    files.append(replace(files[0], name=name))
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        download(place.source, files, target, NullProgress())
    assert not target.exists()


def test_names_that_are_one_file_where_they_go_are_refused(place: Place, target: Path) -> None:
    place.write("Checkpoints/1/state", b"one more")
    fetch(place, target)
    assert content(target)["Checkpoints/1/state"] == b"one more"
    # As a file system does that ignores case.
    shutil.rmtree(target / "Checkpoints")
    (target / "Checkpoints").symlink_to("checkpoints")
    with pytest.raises(UsageError, match=r"'Checkpoints/1/state' and .* are one file in "):
        fetch(place, target)


def test_a_directory_that_cannot_be_written_to_is_said(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file/here cannot be made"):
        fetch(place, tmp_path / "file" / "here")
    (tmp_path / "to" / "model.bin").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"model\.bin cannot be written"):
        fetch(place, tmp_path / "to")


@pytest.mark.parametrize("kind", ["status", "truncate", "reset"])
def test_objects_are_read_in_parts_and_a_part_that_fails_is_read_again(
    bucket: Bucket, target: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setattr(google_outputs, "PIECE_BYTES", 30_000)
    bucket.write("model.bin", FILES["model.bin"])
    server = bucket.wire.server
    with server.fault(Fault(kind=kind, path="alt=media")):
        done = fetch(bucket, target)
    assert content(target) == {"model.bin": FILES["model.bin"]}
    assert done.read_bytes == 70_000
    assert len([path for _, path in server.requests if "alt=media" in path]) == 4


def test_what_is_altered_on_its_way_is_read_again(bucket: Bucket, target: Path) -> None:
    bucket.write("model.bin", FILES["model.bin"])
    with bucket.wire.server.fault(Fault(kind="alter", path="alt=media")):
        done = fetch(bucket, target)
    assert content(target) == {"model.bin": FILES["model.bin"]}
    assert done.read_bytes == 140_000


# The handle's


def test_outputs_are_a_text_that_can_be_pickled() -> None:
    outputs = Outputs("gs://bucket/a", {"project": "vision"})
    assert outputs == "gs://bucket/a"
    assert Path(outputs).name == "a"
    again = pickle.loads(pickle.dumps(outputs))
    assert (type(again), again) == (Outputs, outputs)


@pytest.mark.parametrize("to", ["", None, 3])
def test_a_target_that_is_no_directory_is_refused(to: Any) -> None:
    with pytest.raises(UsageError, match="to is"):
        Outputs("/nowhere", {}).download(to)
