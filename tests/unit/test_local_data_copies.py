"""Removing the copies of data that runs on this machine use no more."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kinetic_flows.runner_image.runner import data_cache

from kinetic_flows.core.job_parts import DataSpec
from kinetic_flows.platforms.local import data_copies
from kinetic_flows.platforms.local.data_copies import LocalDataCopies
from stored_data import a_run, store_data

DAYS = 40


@pytest.fixture
def spec(tmp_path: Path) -> DataSpec:
    (tmp_path / "source" / "deep").mkdir(parents=True)
    (tmp_path / "source" / "deep" / "file").write_text("content" * 1000)
    return store_data(tmp_path / "store", tmp_path / "source")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home" / "data"


def age(directory: Path) -> None:
    """Make the copies in a directory forty days old."""
    then = time.time() - DAYS * 24 * 3600
    for path in directory.glob("*/*"):
        os.utime(path, (then, then))


def since(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def test_both_sides_call_the_files_of_a_copy_alike() -> None:
    assert (data_copies.LOCK, data_copies.WHOLE) == (data_cache.LOCK, data_cache.WHOLE)


def test_a_copy_that_was_not_used_for_long_is_found_and_removed(
    tmp_path: Path, home: Path, spec: DataSpec
) -> None:
    with a_run(tmp_path) as bring:
        bring(spec, KINETIC_DATA_CACHE=str(home))
    age(home)
    copies = LocalDataCopies(home)
    assert copies.unused_since(since(DAYS + 1)) == []
    [copy] = copies.unused_since(since(DAYS - 1))
    assert copy.source == spec.source
    assert copy.size_bytes >= 7000
    assert copies.remove(copy)
    assert list(home.iterdir()) == []
    assert not copies.remove(copy)


def test_a_copy_that_a_run_uses_stays(tmp_path: Path, home: Path, spec: DataSpec) -> None:
    copies = LocalDataCopies(home)
    with a_run(tmp_path) as bring:
        [path] = bring(spec, KINETIC_DATA_CACHE=str(home))
        age(home)
        assert copies.unused_since(since(1)) == []
    [copy] = copies.unused_since(since(1))
    with a_run(tmp_path) as bring:
        assert bring(spec, KINETIC_DATA_CACHE=str(home)) == [path]
        assert not copies.remove(copy)
    assert (Path(path) / "deep" / "file").exists()


def test_a_copy_that_was_used_meanwhile_stays(tmp_path: Path, home: Path, spec: DataSpec) -> None:
    copies = LocalDataCopies(home)
    with a_run(tmp_path) as bring:
        bring(spec, KINETIC_DATA_CACHE=str(home))
    age(home)
    [copy] = copies.unused_since(since(1))
    with a_run(tmp_path) as bring:
        [path] = bring(spec, KINETIC_DATA_CACHE=str(home))
    assert not copies.remove(copy)
    assert Path(path).exists()


def test_what_an_interrupted_run_has_left_goes_too(home: Path) -> None:
    (home / "key" / "draft").mkdir(parents=True)
    (home / "key" / "lock").touch()
    (home / "key" / "draft" / "half").write_text("half")
    age(home)
    copies = LocalDataCopies(home)
    [copy] = copies.unused_since(since(1))
    assert copy.source == ""
    assert copies.remove(copy)


def test_an_interrupted_removal_is_found_and_ended(
    tmp_path: Path, home: Path, spec: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_run(tmp_path) as bring:
        bring(spec, KINETIC_DATA_CACHE=str(home))
    age(home)
    copies = LocalDataCopies(home)
    [copy] = copies.unused_since(since(1))
    remove = shutil.rmtree

    def once(place: Path) -> None:
        remove(place)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", once)
        with pytest.raises(KeyboardInterrupt):
            copies.remove(copy)
    [rest] = copies.unused_since(since(1))
    assert copies.remove(rest)
    assert list(home.iterdir()) == []


def test_what_cannot_be_removed_stays_and_the_rest_goes(home: Path) -> None:
    """As another user's copy; this process may be root, who can remove it, so that it is odd."""
    (home / "other" / "whole").mkdir(parents=True)
    (home / "own").mkdir()
    for key in ("other", "own"):
        (home / key / "lock").touch()
    age(home)
    copies = LocalDataCopies(home)
    assert [copies.remove(copy) for copy in copies.unused_since(since(1))] == [False, True]
    assert [place.name for place in home.iterdir()] == ["other"]


def test_where_there_are_no_copies_none_are_found(home: Path) -> None:
    assert LocalDataCopies(home).unused_since(since(0)) == []
