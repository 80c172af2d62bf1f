"""Data of the client's machine in a run: brought from the store, checked, and resumed."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import data_draft, data_packs, data_work
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.data_checks import Check
from kinetic_flows.runner_image.runner.data_draft import Draft, SlicedFile
from kinetic_flows.runner_image.runner.data_selected import select
from kinetic_flows.runner_image.runner.data_work import Stopped, Work

from kinetic_flows.code.data import format as of_client
from kinetic_flows.code.data_places import data_in_run
from kinetic_flows.core.job import EXIT_DATA_UNAVAILABLE, EXIT_OBJECT_REFUSED, EXIT_TERMINATED
from kinetic_flows.core.job_parts import DataSpec
from runner_jobs import Job, wait, wait_until
from stored_data import Bring, a_run, as_said, store_data

LARGE = of_client.PART_BYTES + 1000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with all that a directory can have."""
    tree = tmp_path / "source" / "tree"
    (tree / "deep" / "deeper").mkdir(parents=True)
    (tree / "empty").mkdir()
    for number in range(8):
        (tree / "deep" / f"file-{number}").write_bytes(b"%d" % number * 100)
    (tree / "nothing").write_bytes(b"")
    (tree / "deep" / "deeper" / "small").write_bytes(b"small")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / os.fsdecode(b"no-utf-8-\xff")).write_bytes(b"bytes")
    (tree / "link").symlink_to("deep/file-1")
    return tree


@pytest.fixture
def large_tree(tree: Path) -> Path:
    """As `tree`, with a file that is kept in parts."""
    (tree / "deep" / "deeper" / "large").write_bytes(os.urandom(1000) * (LARGE // 1000 + 1))
    return tree


@pytest.fixture
def bring(tmp_path: Path) -> Iterator[Bring]:
    with a_run(tmp_path) as bring:
        yield bring


def contents(tree: Path) -> dict[str, Any]:
    """Return all that is in a directory."""
    found: dict[str, Any] = {}
    for path in tree.rglob("*"):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = None if path.is_dir() else (path.read_bytes(), os.access(path, os.X_OK))
    return found


def test_both_sides_mean_the_same_format() -> None:
    assert data_packs.VERSION == of_client.VERSION
    assert data_packs.PART_BYTES == of_client.PART_BYTES
    assert data_packs.IDENTITY_SALT == of_client.IDENTITY_SALT
    assert (data_packs.RAW, data_packs.DEFLATED) == (of_client.RAW, of_client.DEFLATED)


def test_a_directory_is_brought_as_it_is(tmp_path: Path, large_tree: Path, bring: Bring) -> None:
    [path] = bring(store_data(tmp_path / "store", large_tree))
    assert contents(Path(path)) == contents(large_tree)
    assert Path(path).name == "tree"


def test_a_file_is_brought_under_its_name(tmp_path: Path, large_tree: Path, bring: Bring) -> None:
    script, large = bring(
        store_data(tmp_path / "store", large_tree / "run.sh"),
        store_data(tmp_path / "store", large_tree / "deep" / "deeper" / "large"),
    )
    assert (Path(script).name, Path(script).read_text()) == ("run.sh", "#!/bin/sh\n")
    assert os.access(script, os.X_OK)
    assert Path(large).stat().st_size > of_client.PART_BYTES


def test_files_of_a_copy_cannot_be_written_to(tmp_path: Path, tree: Path, bring: Bring) -> None:
    [path] = bring(store_data(tmp_path / "store", tree))
    modes = {file.stat().st_mode & 0o777 for file in Path(path).rglob("*") if file.is_file()}
    assert modes == {0o444, 0o555}


def test_data_that_is_where_it_is_is_not_copied(tmp_path: Path, tree: Path, bring: Bring) -> None:
    spec = DataSpec(kind="local", identity="0" * 64, source=str(tree), name="tree", path=str(tree))
    assert bring(spec) == [str(tree)]
    assert not list((tmp_path / "scratch").iterdir())


def test_data_that_is_gone_is_named(tmp_path: Path, bring: Bring) -> None:
    gone = str(tmp_path / "gone")
    spec = DataSpec(kind="local", identity="0" * 64, source=gone, name="gone", path=gone)
    with pytest.raises(Fault, match=r"is not at .*gone any more") as caught:
        bring(spec)
    assert caught.value.exit_code == EXIT_DATA_UNAVAILABLE


def test_data_whose_path_ends_in_no_name_has_one(tmp_path: Path, tree: Path, bring: Bring) -> None:
    [path] = bring(store_data(tmp_path / "store", tree, name=".."))
    assert Path(path).name == "data"
    assert contents(Path(path)) == contents(tree)


def test_the_same_data_twice_is_one_copy(tmp_path: Path, tree: Path, bring: Bring) -> None:
    spec = store_data(tmp_path / "store", tree / "run.sh")
    first, second = bring(spec, spec)
    assert first == second


def spoil(path: Path) -> None:
    """Change a byte of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["packs", "parts"])
def test_what_is_not_what_it_was_is_refused_by_name(
    tmp_path: Path, large_tree: Path, bring: Bring, kind: str
) -> None:
    spec = store_data(tmp_path / "store", large_tree)
    for path in (tmp_path / "store" / "data" / kind).iterdir():
        path.write_bytes(b"r" + bytes(path.stat().st_size - 1 if kind == "packs" else LARGE))
    with pytest.raises(Fault, match=f"{large_tree} is refused: its SHA-256 is") as caught:
        bring(spec)
    assert caught.value.exit_code == EXIT_OBJECT_REFUSED


def test_a_manifest_with_another_line_is_refused(tmp_path: Path, tree: Path, bring: Bring) -> None:
    spec = store_data(tmp_path / "store", tree)
    assert spec.manifest is not None
    path = tmp_path / "store" / spec.manifest.name
    path.write_bytes(
        gzip.compress(gzip.decompress(path.read_bytes()).replace(b"run.sh", b"sun.rh"))
    )
    with pytest.raises(Fault, match=f"the object {spec.manifest.name} is refused: its SHA-256"):
        bring(spec)


def test_a_damaged_manifest_is_refused(tmp_path: Path, tree: Path, bring: Bring) -> None:
    spec = store_data(tmp_path / "store", tree)
    assert spec.manifest is not None
    path = tmp_path / "store" / spec.manifest.name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(Fault, match=f"the object {spec.manifest.name} is refused"):
        bring(spec)


def test_another_identity_than_the_job_says_is_refused(
    tmp_path: Path, tree: Path, bring: Bring
) -> None:
    spec = store_data(tmp_path / "store", tree, identity="1" * 64)
    with pytest.raises(Fault, match="is refused: its identity is"):
        bring(spec)


@pytest.mark.parametrize("path", ["../out", "/out", "a/../../out", "a//b", "./a", ""])
def test_nothing_is_written_outside(tmp_path: Path, bring: Bring, path: str) -> None:
    spec = hostile(tmp_path / "store", {"path": path, "size_bytes": 1, "sha256": X_DIGEST})
    with pytest.raises(Fault, match="which can be no file's path"):
        bring(spec)


@pytest.mark.parametrize("link", ["/etc/passwd", "../../out", "a/../../out"])
def test_no_link_leads_outside(tmp_path: Path, bring: Bring, link: str) -> None:
    spec = hostile(tmp_path / "store", {"path": "link", "link": link})
    with pytest.raises(Fault, match="leads out of it"):
        bring(spec)


def test_nothing_is_written_through_a_link(tmp_path: Path, bring: Bring) -> None:
    spec = hostile(
        tmp_path / "store",
        {"path": "d", "link": "inside"},
        {"path": "d/f", "size_bytes": 1, "sha256": X_DIGEST},
    )
    with pytest.raises(Fault, match="'d' twice, or as a file and as a directory"):
        bring(spec)


def test_nothing_is_made_through_links_that_lead_outside_together(
    tmp_path: Path, bring: Bring
) -> None:
    spec = hostile(
        tmp_path / "store",
        {"path": "a/b/file", "size_bytes": 1, "sha256": X_DIGEST},
        {"path": "a/b/top", "link": "../.."},
        {"path": "out", "link": "a/b/top/../../.."},
        {"path": "out/made", "directory": True},
    )
    with pytest.raises(Fault, match="'out/made' twice, or as a file and as a directory"):
        bring(spec)
    assert not list(tmp_path.rglob("made"))


X_DIGEST = hashlib.sha256(b"x").hexdigest()


def hostile(store: Path, *entries: dict[str, Any]) -> DataSpec:
    """Return data whose manifest has entries that no client writes."""
    pack = of_client.pack_digest([X_DIGEST])
    lines = [of_client.line_of(entry) for entry in entries]
    text = b"".join(
        [
            of_client.FIRST_LINE,
            of_client.line_of({"pack": pack, "size_bytes": 1}),
            *lines,
            of_client.line_of({"files": 1, "size_bytes": 1}),
        ]
    )
    job = Job(store)
    job.put(f"data/packs/{pack}", b"rx")
    ref = job.put("data/manifests/x", text)
    (store / ref.name).write_bytes(gzip.compress(text))
    identity = hashlib.sha256(of_client.IDENTITY_SALT + b"".join(lines)).hexdigest()
    return DataSpec(
        kind="local", identity=identity, source="/hostile", name="hostile", manifest=ref
    )


def interrupted(tree: Path, store: Path, bring: Bring, cache: str) -> DataSpec:
    """Have all of it come but the last pack, which is there afterwards."""
    spec = store_data(store, tree)
    packs = sorted((store / "data" / "packs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    packs[-1].rename(store / "aside")
    with pytest.raises(Fault, match=f"the object data/packs/{packs[-1].name} cannot be fetched"):
        bring(spec, KINETIC_DATA_CACHE=cache)
    (store / "aside").rename(packs[-1])
    # What has come can be fetched no more.
    shutil.rmtree(store / "data" / "parts")
    for pack in packs[:-1]:
        pack.unlink()
    return spec


def test_an_interrupted_copy_goes_on_where_it_was(
    tmp_path: Path,
    large_tree: Path,
    bring: Bring,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One after the other, so that all before what is missing has come.
    monkeypatch.setattr(data_work, "PARALLEL", 1)
    cache = str(tmp_path / "cache")
    spec = interrupted(large_tree, tmp_path / "store", bring, cache)
    [copy] = bring(spec, KINETIC_DATA_CACHE=cache)
    assert contents(Path(copy)) == contents(large_tree)
    assert not list((tmp_path / "cache").glob("*/draft"))


@pytest.mark.parametrize("name", ["file-0", "deeper/large"])
def test_what_an_interrupted_copy_has_left_is_checked(
    tmp_path: Path,
    large_tree: Path,
    bring: Bring,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(data_work, "PARALLEL", 1)
    cache = str(tmp_path / "cache")
    spec = interrupted(large_tree, tmp_path / "store", bring, cache)
    [left] = (tmp_path / "cache").glob(f"*/draft/files/tree/deep/{name}")
    # As a machine leaves it that loses its power.
    left.chmod(0o644)
    spoil(left)
    with pytest.raises(Fault, match="cannot be fetched"):
        bring(spec, KINETIC_DATA_CACHE=cache)


@pytest.mark.parametrize("size_bytes", [4, 2 * data_draft.SLICE_BYTES])
def test_a_thread_that_ends_late_leaves_alone_what_is_anothers_by_then(
    tmp_path: Path, size_bytes: int
) -> None:
    """Its run was stopped while it waited for a server, and another run has gone on."""
    work = Work("data x", None, print)
    draft = Draft(str(tmp_path / "files"), str(tmp_path / "slices"), work)
    others = b"of the other run"

    def pieces() -> Iterator[bytes]:
        yield b"ab"
        work.stop()
        [mine] = [path for path in tmp_path.rglob("*") if path.is_file()]
        mine.chmod(0o600)
        mine.write_bytes(others)
        yield b"cd"

    check = partial(Check, "file", size_bytes, "")
    job = partial(draft.write, "file", pieces(), check())
    if size_bytes > data_draft.SLICE_BYTES:
        file = SlicedFile(draft, "file", size_bytes, lambda *_: pieces(), check=check)
        job = next(iter(file.jobs()))
    with pytest.raises(Stopped):
        job()
    [left] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left.read_bytes() == others


@pytest.mark.timeout(60)
def test_some_files_are_selected_whatever_links_lead_to(tmp_path: Path) -> None:
    """Directories with links to one another, of which there are many ways through."""
    tree = tmp_path / "tree"
    for name in "abc":
        (tree / name).mkdir(parents=True)
        (tree / name / "file.txt").touch()
        (tree / name / "other").touch()
        for other in "abc":
            (tree / name / f"to-{other}").symlink_to(tree / other)
    spec = DataSpec(
        kind="local", identity="", source=str(tree), name="tree", path=str(tree), include=("*.txt",)
    )
    root = Path(select(as_said(spec), str(tmp_path / "scratch")))
    found = {str(path.relative_to(root)) for path in root.rglob("*.txt")}
    assert {"a/file.txt", "a/to-b/file.txt", "a/to-b/to-c/file.txt"} <= found
    assert not {path for path in found if "to-a/to-b/to-a" in path}
    assert not list(root.rglob("other"))


class InCall:
    """What a client's pickler makes of `kinetic.Data`."""

    def __init__(self, place: int) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return data_in_run, (self.place,)


def test_the_function_gets_paths(tmp_path: Path, tree: Path) -> None:
    spec = store_data(tmp_path / "store", tree)
    job = Job(
        tmp_path / "store",
        source="""
            def main(places):
                return type(places[0]).__name__, sorted(p.name for p in places[0].iterdir())
        """,
        args=([InCall(0)],),
        changes={"data": [as_said(spec)]},
    )
    ended = job.run()
    assert ended.exit_code == 0, ended.output
    assert job.value() == ("PosixPath", sorted(path.name for path in tree.iterdir()))


def test_a_run_that_is_stopped_ends_at_once(tmp_path: Path) -> None:
    """Its data comes from a store that does not answer: a pipe that nobody writes to."""
    (tmp_path / "file").write_text("content")
    spec = store_data(tmp_path / "store", tmp_path / "file")
    [pack] = (tmp_path / "store" / "data" / "packs").iterdir()
    pack.unlink()
    os.mkfifo(pack)
    job = Job(tmp_path / "store", source="def main(): return 1", changes={"data": [as_said(spec)]})
    process = job.start(KINETIC_DATA_CACHE=str(tmp_path / "cache"))
    wait_until(lambda: bool(list((tmp_path / "cache").glob("*/draft/files"))))
    process.send_signal(signal.SIGTERM)
    ended = wait(process)
    assert ended.exit_code == EXIT_TERMINATED
    assert not list((tmp_path / "cache").glob("*/whole"))
