"""The files in which the code of two runs differs, out of packs in a real store."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.code.stored_code import read_manifest, restore
from kinetic_flows.core.errors import ObjectNotFoundError, ObjectRefusedError, PackagingError
from kinetic_flows.core.job import CodeSpec, JobTemplate
from kinetic_flows.core.job_parts import ObjectRef, Sha256
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.compare import changes
from kinetic_flows.runs.compare.files import (
    SHOWN_BYTES,
    FileChange,
    Side,
    changed_files,
    counted_changes,
)
from kinetic_flows.runs.compare.mixed_code import MixedCode
from kinetic_flows.runs.compare.words import file_block
from shipping import names_under, ship, write_project

Files = Mapping[str, str | bytes]


def _shipped(folder: Path, name: str, files: Files) -> CodeSpec:
    return ship(write_project(folder / name, files), folder / "store")[1]


def _side(code: CodeSpec | None, store: LocalStore) -> Side:
    return Side(code=code, entries=read_manifest(code, store) if code else {}, store=store)


def _changes(folder: Path, before: Files, after: Files) -> dict[str, FileChange]:
    store = LocalStore(folder / "store")
    sides = (_side(_shipped(folder, *each), store) for each in (("a", before), ("b", after)))
    return {each.path: each for each in changed_files(*sides)}


def test_changed_lines_are_shown_as_a_unified_diff_has_them(tmp_path: Path) -> None:
    many = "".join(f"line {number}\n" for number in range(20))
    found = _changes(
        tmp_path,
        {"train.py": many, "same.py": "x = 1\n"},
        {"train.py": many.replace("line 9\n", "line nine\n"), "same.py": "x = 1\n"},
    )
    assert list(found) == ["train.py"]
    change = found["train.py"]
    assert (change.kind, change.added, change.removed) == ("changed", 1, 1)
    assert change.lines == (
        *("@@ -7,7 +7,7 @@", " line 6", " line 7", " line 8", "-line 9", "+line nine"),
        *(" line 10", " line 11", " line 12"),
    )
    assert file_block(change).startswith(
        "--- a/train.py\n+++ b/train.py\n@@ -7,7 +7,7 @@\n line 6\n"
    )
    assert counted_changes((change,)) == "1 file, +1 -1"


def test_every_kind_of_change_is_told(tmp_path: Path) -> None:
    chance = random.Random(7)
    large, larger = chance.randbytes(3_000_000), chance.randbytes(3_000_001)
    text = "value = 1\n" * (SHOWN_BYTES // 10 + 1)
    before = write_project(
        tmp_path / "a",
        {
            "gone.py": "a = 1\n",
            "old/name.py": "moved = 1\n",
            "tool.sh": "echo\n",
            "ends.py": "a = 1\n",
            "data.bin": b"\0\1",
            "large.bin": large,
            "long.py": text,
            "latin.txt": b"caf\xe9",
        },
    )
    (before / "latest").symlink_to("gone.py")
    after = write_project(
        tmp_path / "b",
        {
            "new.py": "b = 1\nc = 2\n",
            "empty.py": "",
            "new_name.py": "moved = 1\n",
            "tool.sh": "echo\n",
            "ends.py": b"a = 1\r\n",
            "data.bin": b"\0\1\2",
            "large.bin": larger,
            "long.py": text + "value = 2\n",
            "latin.txt": b"caf\xe9s",
        },
    )
    (after / "latest").symlink_to("new.py")
    (after / "tool.sh").chmod(0o755)
    store = LocalStore(tmp_path / "store")
    sides = [_side(ship(each, tmp_path / "store")[1], store) for each in (before, after)]

    found = {each.path: each for each in changed_files(*sides)}

    told = {path: (each.kind, each.note or each.before) for path, each in found.items()}
    assert told == {
        "data.bin": ("changed", "binary, 3 bytes, was 2 bytes"),
        "empty.py": ("added", "empty"),
        "ends.py": ("changed", "only its line ends differ"),
        "gone.py": ("removed", ""),
        "large.bin": ("changed", "large, 3.0 MB, was 3.0 MB"),
        "latest": ("changed", "a link to new.py, was a link to gone.py"),
        "latin.txt": ("changed", "binary, 5 bytes, was 4 bytes"),
        "long.py": ("changed", "large, 500.0 kB, was 500.0 kB"),
        "new.py": ("added", ""),
        "new_name.py": ("moved", "old/name.py"),
        "tool.sh": ("mode", "755, was 644"),
    }
    assert found["new.py"].lines == ("@@ -0,0 +1,2 @@", "+b = 1", "+c = 2")
    assert file_block(found["new.py"]).startswith("--- /dev/null\n+++ b/new.py\n")
    assert file_block(found["gone.py"]).startswith("--- a/gone.py\n+++ /dev/null\n")
    assert file_block(found["data.bin"]) == ""


def test_what_would_take_very_long_to_compare_is_said_to_differ(tmp_path: Path) -> None:
    old = [f"{number}\n" for number in range(8000)]
    new = [line if number % 2 else f"x{line}" for number, line in enumerate(old)]
    before = {"table.csv": "".join(old), "moved.csv": "".join(old)}
    after = {"table.csv": "".join(new), "moved.csv": "".join([*old[4000:], *old[:4000]])}
    found = _changes(tmp_path, before, after)
    assert (found["table.csv"].kind, found["table.csv"].lines) == ("changed", ())
    assert found["table.csv"].note == "too much to show, 8,000, was 8,000 lines"
    assert found["moved.csv"].added == found["moved.csv"].removed == 4000


def _taken_apart(code: CodeSpec, store: LocalStore) -> changes.Side:
    digest = Sha256("0" * 64)
    job = JobTemplate(
        name="train",
        python="3.11",
        runner=ObjectRef(name="runner", sha256=digest, size_bytes=1),
        code=code,
        payload_sha256=digest,
        payload_size_bytes=1,
    )
    nothing: Any = None
    return changes.Side(nothing, job, nothing, store, nothing)


@pytest.mark.parametrize("is_link", [False, True])
def test_no_mixture_has_files_within_a_file_or_link(tmp_path: Path, is_link: bool) -> None:
    good = write_project(tmp_path / "good", {"train.py": "", "other/old.txt": "old"})
    if is_link:
        (good / "data").symlink_to("other")
    else:
        (good / "data").write_text("x")
    bad = write_project(tmp_path / "bad", {"train.py": "", "data/new.txt": "new"})
    store = LocalStore(tmp_path / "store")
    before, after = (_taken_apart(ship(each, tmp_path / "store")[1], store) for each in (good, bad))
    with ExitStack() as open_until:
        mixed = MixedCode(before, after, tmp_path / "home", open_until)
        with pytest.raises(PackagingError, match="data is a directory of one of them"):
            mixed.with_files({"data/new.txt"})
        whole = mixed.with_files({"data/new.txt", "data"})
    assert {"data/new.txt", "other/old.txt", "train.py"} <= set(read_manifest(whole, store))


def test_all_of_the_code_is_new_beside_a_run_without_any(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    code = _shipped(tmp_path, "a", {"train.py": "x = 1\n"})
    (added,) = changed_files(_side(None, store), _side(code, store))
    assert (added.kind, added.lines) == ("added", ("@@ -0,0 +1 @@", "+x = 1"))


def test_only_packs_that_differ_are_read(tmp_path: Path) -> None:
    chance = random.Random(8)
    shared = {f"pkg/m{number}.py": chance.randbytes(5_000).hex() for number in range(600)}
    before = _shipped(tmp_path, "a", {**shared, "train.py": "x = 1\n"})
    after = _shipped(tmp_path, "b", {**shared, "train.py": "x = 2\n"})
    store = LocalStore(tmp_path / "store")
    both = {pack.name for pack in before.packs} & {pack.name for pack in after.packs}
    assert both
    for name in both:
        store.delete(name)
    (change,) = changed_files(_side(before, store), _side(after, store))
    assert change.lines == ("@@ -1 +1 @@", "-x = 1", "+x = 2")


def test_code_that_has_expired_or_was_changed_is_no_code(tmp_path: Path) -> None:
    before = _shipped(tmp_path, "a", {"train.py": "x = 1\n"})
    after = _shipped(tmp_path, "b", {"train.py": "x = 2\n"})
    store = LocalStore(tmp_path / "store")
    sides = _side(before, store), _side(after, store)
    (pack,) = before.packs
    theirs = store.get(after.packs[0].name).data
    store.delete(pack.name)
    with pytest.raises(ObjectNotFoundError):
        changed_files(*sides)
    store.put_if_absent(pack.name, theirs)
    with pytest.raises(ObjectRefusedError, match=r"train\.py is not what the run's job names"):
        changed_files(*sides)
    store.delete(pack.name)
    store.put_if_absent(pack.name, b"no archive")
    with pytest.raises(ObjectRefusedError, match="the code in the store is refused"):
        changed_files(*sides)
    store.delete(before.manifest.name)
    store.put_if_absent(before.manifest.name, b'{"files": []}')
    with pytest.raises(ObjectRefusedError):
        read_manifest(before, store)


def test_code_is_written_out_as_it_was(tmp_path: Path) -> None:
    project = write_project(
        tmp_path / "project", {"run.sh": "echo\n", "pkg/a.py": "a = 1\n", "empty.py": ""}
    )
    (project / "run.sh").chmod(0o755)
    (project / "latest").symlink_to("pkg/a.py")
    (project / "kept").mkdir()
    snapshot, code = ship(project, tmp_path / "store")
    store, folder = LocalStore(tmp_path / "store"), tmp_path / "restored"
    folder.mkdir()

    restore(code, read_manifest(code, store), store, folder)

    assert names_under(folder) == names_under(project)
    assert ship(folder, tmp_path / "store")[0].manifest == snapshot.manifest
