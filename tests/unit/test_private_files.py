"""What is kept under `KINETIC_HOME` can be read by its owner only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinetic_flows.core.files import (
    copy_atomically,
    open_private,
    private_directory,
    scratch_directory,
    tighten_home,
    write_atomically,
)
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.ledger import ClientLedger


@pytest.fixture(params=[0, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def open_to_others(directory: Path) -> list[Path]:
    return [path for path in (directory, *directory.rglob("*")) if path.stat().st_mode & 0o077]


@pytest.mark.usefixtures("umask")
def test_whatever_is_written_is_private_whatever_the_umask(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    write_atomically(home / "trees" / "a" / "tree.json", b"{}")
    copy_atomically(home / "trees" / "a" / "tree.json", home / "wheels" / "b" / "wheel")
    os.close(open_private(private_directory(home / "prefect") / "lock"))
    store = LocalStore(home / "store")
    assert store.put_if_absent("runs/1/attempts/0/payload.pkl", b"value")
    generation = store.get("runs/1/attempts/0/payload.pkl").generation
    assert store.replace_if_unchanged("runs/1/attempts/0/payload.pkl", b"other", generation)
    ledger = ClientLedger(home / "clients")
    ledger.add_pending_update("http://api", "1", "FAILED", "away")
    with ledger.entered("2"), scratch_directory(home):
        assert open_to_others(tmp_path / "deep") == []
    assert (home / "trees" / "a" / "tree.json").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700


def test_an_existing_home_is_tightened_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("prefect/prefect.db", "store/runs/1/payload.pkl", "runs/1/output.log"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o644)
    program = home / "bootstraps" / "run"
    program.parent.mkdir()
    program.touch(0o755)
    kept = home / "store" / "results" / "0d2c6c69"
    kept.parent.mkdir()
    kept.write_text("a pickled exception with the key of a run")
    tighten_home(home)
    assert open_to_others(home) == []
    assert not kept.exists()
    assert program.stat().st_mode & 0o777 == 0o700
    (home / "store").chmod(0o750)
    tighten_home(home)
    assert (home / "store").stat().st_mode & 0o777 == 0o750, "what its owner opens stays open"


def test_what_is_not_ours_is_left_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "shared"
    cached = home / "environments" / "e" / "linked.py"
    outputs = home / "store" / "outputs" / "1" / "model"
    own = home / "thesis" / "draft.txt"
    for path in (cached, outputs, own):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o644)
    tighten_home(home)
    assert [path.stat().st_mode & 0o077 for path in (cached, outputs, own)] == [0o044] * 3
    assert (home / "environments").stat().st_mode & 0o077 == 0, "nobody gets there"
    assert (home / "store" / "outputs").stat().st_mode & 0o077 == 0
    assert home.stat().st_mode & 0o077, "it holds somebody's other files"


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    tighten_home(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "taken", b"data")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_a_name_that_is_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        private_directory(tmp_path / "file")


def test_what_was_kept_since_a_home_is_private_stays(tmp_path: Path) -> None:
    results = private_directory(tmp_path / "home" / "store" / "results")
    write_atomically(results / "kinetic-build-1", b"{}")

    tighten_home(tmp_path / "home")

    assert (results / "kinetic-build-1").is_file()
