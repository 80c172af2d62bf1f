"""Which volumes a run on this machine can have, found out before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.volumes import parse_volumes
from kinetic_flows.platforms.local.volumes import check_volumes, mount_obstacle


def check(path: object, value: Any) -> None:
    check_volumes(parse_volumes("volumes", {str(path): value}))


@pytest.fixture
def c4(tmp_path: Path) -> Path:
    (tmp_path / "c4").mkdir()
    return tmp_path / "c4"


@pytest.fixture
def without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine on which nothing can be mounted: no program that tries can be started."""
    monkeypatch.setattr(sys, "executable", "/bin/false")


@pytest.fixture(autouse=True)
def short_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Directories of tests are below /tmp, which is the image's own.
    monkeypatch.setattr("kinetic_flows.core.volumes._TAKEN_TOO", ())


def test_what_a_run_can_have_is_taken(tmp_path: Path, c4: Path):
    if mount_obstacle([str(c4)]):
        pytest.skip("no mount namespaces here")
    check("/kinetic-test/a/b", Data(c4))
    check("/kinetic-test", "scratch:10Gi")
    assert not Path("/kinetic-test").exists()


def test_a_claim_is_refused_with_what_to_write_instead():
    with pytest.raises(UsageError) as raised:
        check("/data", "pvc:datasets")
    assert "a PersistentVolumeClaim, and runs are on this machine" in str(raised.value)
    assert "kinetic.Data('/a/directory/here')" in str(raised.value)


def test_writing_to_a_bucket_is_refused_where_it_would_be_copied():
    with pytest.raises(UsageError, match="would not get there"):
        check("/data", Data("gs://bucket/out", mode="mount", read_only=False))


def test_a_file_that_its_volume_would_hide_is_refused(tmp_path: Path, c4: Path):
    (c4 / "en.txt").write_text("text")
    (tmp_path / "link").symlink_to(c4)
    for path in (c4, tmp_path, tmp_path / "link"):
        with pytest.raises(UsageError, match="would hide the file"):
            check(path, Data(c4 / "en.txt"))


def test_where_nothing_can_be_mounted_a_link_may_do(without_namespaces: None, tmp_path: Path):
    check(tmp_path / "data" / "c4", Data(tmp_path))


@pytest.mark.usefixtures("without_namespaces")
def test_a_directory_that_is_where_it_comes_from_needs_nothing(c4: Path):
    check(c4, Data(c4))


@pytest.mark.usefixtures("without_namespaces")
def test_where_no_link_can_be_either_the_argument_is_named(tmp_path: Path, c4: Path):
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(UsageError) as raised:
        check(there, Data(c4))
    told = str(raised.value)
    assert "something is there already" in told
    assert "pass it to the function as an argument, kinetic.Data(...)" in told
    with pytest.raises(UsageError, match="take a path below a directory that you may write to"):
        check(there, "scratch:1Gi")


def test_why_nothing_can_be_mounted_is_told_in_the_kernels_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert mount_obstacle(["/data"]) == "exit code 1"
    monkeypatch.undo()
    if mount_obstacle([]):
        pytest.skip("no mount namespaces here")
    # A path below a file can be no directory.
    assert "Not a directory" in mount_obstacle([f"{__file__}/x"])


def test_trying_leaves_nothing_behind(c4: Path):
    before = subprocess.run(["mount"], capture_output=True, check=True).stdout
    mount_obstacle(["/kinetic-test/a", str(c4)])
    assert subprocess.run(["mount"], capture_output=True, check=True).stdout == before
    assert not Path("/kinetic-test").exists()
