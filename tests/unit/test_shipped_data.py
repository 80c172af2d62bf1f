"""Data that lies in the project and ships with its code as well is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetic_flows.code.snapshot import take_snapshot
from kinetic_flows.core.data import Data
from kinetic_flows.plans.shipped_data import WORTH_A_WORD_BYTES, shipped_twice


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "data" / "large").mkdir(parents=True)
    (root / "data" / "large" / "a.bin").write_bytes(bytes(WORTH_A_WORD_BYTES // 2))
    (root / "data" / "b.bin").write_bytes(bytes(WORTH_A_WORD_BYTES // 2))
    (root / "database.py").write_bytes(b"#" * WORTH_A_WORD_BYTES)
    (root / "settings.json").write_text("{}")
    return root


def told(project: Path, *sources: str) -> tuple[str, ...]:
    data = [Data(source if "://" in source else project / source) for source in sources]
    return shipped_twice(data, take_snapshot(project, cache_home=None))


def test_a_directory_of_the_project_is_told_of_with_the_line_that_keeps_it_out(
    project: Path,
) -> None:
    (said,) = told(project, "data", "settings.json", "gs://bucket/data")
    assert said.startswith("data is data of the call, and 1.0 MB of it ship with the code as well")
    assert "write /data into .kineticignore" in said
    (project / ".kineticignore").write_text("/data\n")
    assert told(project, "data") == ()


def test_what_is_small_or_somewhere_else_is_not(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert told(project, "settings.json", str(other), "data/large") == ()


def test_a_file_behind_a_link_is_told_of_by_its_own_name(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.py"
    link.symlink_to(project / "database.py")
    (said,) = told(project, str(link))
    assert said.startswith("database.py is data of the call")


def test_the_project_itself_as_data_is_nobodys_mistake(project: Path) -> None:
    assert told(project, ".") == ()
