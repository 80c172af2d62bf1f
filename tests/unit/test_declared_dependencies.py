"""What deptry cannot tell apart: Google's distributions share the namespace `google`."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
IMPORT = re.compile(r"^\s*(?:from|import) (google\.[\w.]+)(?: import (\w+))?", re.MULTILINE)


def test_what_is_imported_of_google_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    provided = {
        file.as_posix()
        for name in (Requirement(text).name for text in project["dependencies"])
        if name.startswith("google-")
        for file in distribution(name).files or ()
    }
    imported = {
        match.groups()
        for folder in ("kinetic", "kinetic_flows", "blocks", "runner_image")
        for module in (ROOT / folder).rglob("*.py")
        for match in IMPORT.finditer(module.read_text())
    }
    undeclared = [
        module
        for module, name in imported
        if not provided.intersection(_files_of(module) + _files_of(f"{module}.{name}"))
    ]
    assert imported
    assert not undeclared


def _files_of(module: str) -> tuple[str, str]:
    path = module.replace(".", "/")
    return f"{path}.py", f"{path}/__init__.py"
