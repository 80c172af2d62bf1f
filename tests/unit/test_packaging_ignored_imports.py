"""Modules that are in use here and would be missing in a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest

from kinetic_flows.code.ignored_imports import ignored_import_warnings
from kinetic_flows.code.snapshot import take_snapshot
from shipping import write_project

NAMES = ("ignored_helper", "ignored_package", "ignored_package.inner")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    files = {
        "ignored_helper.py": "",
        "ignored_package/__init__.py": "",
        "ignored_package/inner.py": "",
        "never_imported.py": "",
    }
    root = write_project(tmp_path / "project", files)
    monkeypatch.syspath_prepend(str(root))
    invalidate_caches()
    for name in NAMES:
        import_module(name)
    yield root
    for name in NAMES:
        del sys.modules[name]


def _warnings(project: Path, rules: str) -> tuple[str, ...]:
    (project / ".kineticignore").write_text(rules)
    return ignored_import_warnings(take_snapshot(project, cache_home=None))


def test_modules_in_use_that_do_not_ship_are_named_in_one_warning(project: Path) -> None:
    [warning] = _warnings(project, "ignored_helper.py\nignored_package/\nnever_imported.py\n")
    assert "ignored_helper, ignored_package, ignored_package.inner;" in warning
    assert "never_imported" not in warning
    assert ".kineticignore" in warning


@pytest.mark.parametrize("rules", ["", "never_imported.py\n", "*.csv\n"])
def test_nothing_is_said_where_every_module_in_use_ships(project: Path, rules: str) -> None:
    assert _warnings(project, rules) == ()
    (project / ".kineticignore").unlink()
    assert ignored_import_warnings(take_snapshot(project, cache_home=None)) == ()
