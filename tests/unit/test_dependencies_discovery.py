"""Which file declares a function's dependencies."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pytest

from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.discovery import DependencySource, discover
from kinetic_flows.dependencies.project import read_project

PROJECT = '[project]\nname = "x"\nversion = "1"\n'
SCRIPT = "# /// script\n# dependencies = ['numpy']\n# ///\n"


def _discover(start: Path, *, home: Path | None = None, **more: object) -> DependencySource:
    chosen = {"requirements": None, "entry_file": None, **more}
    return discover(start=start, home_directory=home or start.parent.parent, **chosen)  # type: ignore[arg-type]


def _tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_nothing_declared_is_fine(tmp_path: Path) -> None:
    source = _discover(tmp_path, home=tmp_path)
    assert (source.kind, source.path, source.project_root) == ("none", None, tmp_path)


def test_the_decorators_word_comes_first(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    (tmp_path / "main.py").write_text(SCRIPT)
    source = _discover(tmp_path, requirements=["scipy"], entry_file=tmp_path / "main.py")
    assert (source.kind, source.requirements) == ("list", ("scipy",))


def test_an_empty_list_means_no_dependencies_at_all(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    source = _discover(tmp_path, requirements=[])
    assert (source.kind, source.requirements) == ("list", ())


def test_inline_metadata_comes_before_files(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    (tmp_path / "main.py").write_text(SCRIPT)
    source = _discover(tmp_path, entry_file=tmp_path / "main.py")
    assert (source.kind, source.path) == ("script", tmp_path / "main.py")


def test_the_search_ends_after_the_directory_with_git(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    inner = tmp_path / "repository" / "package"
    inner.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    assert _discover(inner, home=tmp_path.parent).kind == "none"
    (tmp_path / "repository" / "pyproject.toml").write_text(PROJECT)
    assert _discover(inner, home=tmp_path.parent).path == tmp_path / "repository/pyproject.toml"


def test_the_search_ends_at_the_home_directory(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    inner = tmp_path / "project"
    inner.mkdir()
    assert _discover(inner, home=tmp_path).kind == "none"


def test_code_in_the_home_directory_itself_has_its_file(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    assert _discover(tmp_path, home=tmp_path).kind == "requirements"


def test_a_lock_beside_the_project_is_noticed_uvs_own_first(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "pylock.toml").write_text("")
    assert _discover(tmp_path).lock_file == tmp_path / "pylock.toml"
    (tmp_path / "uv.lock").write_text("")
    assert _discover(tmp_path).lock_file == tmp_path / "uv.lock"


def test_a_named_directory_without_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    with pytest.raises(DependencyError, match="conf"):
        _discover(tmp_path, requirements="conf")


def test_the_choice_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    with caplog.at_level(logging.INFO, logger="kinetic_flows"):
        _discover(tmp_path)
    assert str(tmp_path / "requirements.txt") in caplog.text


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ('[tool.poetry.dependencies]\npython = "^3.11"\nnumpy = "*"\n', "tool.poetry.dependencies"),
        ('[tool.poetry.group.dev.dependencies]\nx = "*"\n', "tool.poetry.group.dev.dependencies"),
        ('[tool.poetry.dev-dependencies]\nx = "*"\n', "tool.poetry.dev-dependencies"),
        ('[tool.pdm.dev-dependencies]\ntest = ["x"]\n', "tool.pdm.dev-dependencies"),
    ],
)
def test_packages_in_tables_of_other_tools_are_warned_about(
    tmp_path: Path, table: str, named: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(table)
    [warning] = read_project(tmp_path / "pyproject.toml", environ={}).warnings
    assert f"[{named}] is not read" in warning


def test_a_poetry_table_that_lists_python_alone_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.poetry.dependencies]\npython = "^3.11"\n')
    assert read_project(tmp_path / "pyproject.toml", environ={}).warnings == ()


def test_settings_of_ours_beside_a_requirements_file_are_warned_about(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    assert _discover(tmp_path).warnings == ()
    (tmp_path / "pyproject.toml").write_text(PROJECT + '[tool.kinetic]\nextras = ["x"]\n')
    [warning] = _discover(tmp_path).warnings
    assert "[tool.kinetic] is not read, because requirements.txt is beside it" in warning


@pytest.mark.parametrize("name", ["Pipfile", "environment.yml", "setup.py"])
def test_a_file_of_another_tool_is_warned_about_where_nothing_else_declares(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("")
    [warning] = _discover(tmp_path, home=tmp_path).warnings
    assert warning.startswith(f"{tmp_path / name} is not read")
    (tmp_path / "requirements.txt").write_text("numpy")
    assert _discover(tmp_path, home=tmp_path).warnings == ()


def test_what_somebody_left_in_a_shared_directory_is_not_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    project = shared / "mine" / "deep"
    project.mkdir(parents=True)
    (shared / "requirements.txt").write_text("somebody-elses\n")
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    found = discover(
        requirements=None, entry_file=None, start=project, home_directory=Path("/nowhere")
    )
    assert found.kind == "none"
