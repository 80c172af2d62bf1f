"""What deptry does not see: Google's distributions, lazy modules, and our own packages."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
GOOGLE = re.compile(r"^\s*(?:from|import) (google\.[\w.]+)(?: import (\w+))?", re.MULTILINE)
LAZY = re.compile(r'LazyModule\("(\w+)')


def test_what_is_imported_of_google_is_declared() -> None:
    provided = {
        file.as_posix()
        for name in _declared()
        if name.startswith("google-")
        for file in distribution(name).files or ()
    }
    imported = {match.groups() for source in _sources() for match in GOOGLE.finditer(source)}
    undeclared = [
        module
        for module, name in imported
        if not provided.intersection(_files_of(module) + _files_of(f"{module}.{name}"))
    ]
    assert imported
    assert not undeclared


def test_what_is_loaded_when_it_is_first_used_is_declared() -> None:
    lazy = {match[1] for source in _sources() for match in LAZY.finditer(source)}
    lazy -= sys.stdlib_module_names
    providers = packages_distributions()
    undeclared = [
        module
        for module in lazy - {"kinetic_flows"}
        if _declared().isdisjoint(map(canonicalize_name, providers[module]))
    ]
    assert "prefect" in lazy
    assert not undeclared


def test_every_package_is_in_the_wheel() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        ".".join([package, *module.parent.relative_to(ROOT / folder).parts])
        for package, folder in told["package-dir"].items()
        for module in (ROOT / folder).rglob("__init__.py")
    }
    assert "kinetic_flows.platforms.gke" in found
    assert found <= {*told["packages"]}


def _declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}


def _sources() -> Iterator[str]:
    for folder in ("kinetic", "kinetic_flows", "blocks", "runner_image"):
        for module in (ROOT / folder).rglob("*.py"):
            yield module.read_text()


def _files_of(module: str) -> tuple[str, str]:
    path = module.replace(".", "/")
    return f"{path}.py", f"{path}/__init__.py"
