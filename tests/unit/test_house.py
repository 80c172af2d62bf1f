"""The layout that docs/architecture.md draws; `lint-imports` holds which way imports point."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kinetic_flows.core.public_names import EARLIER_MODULES

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "kinetic_flows"


def rooms() -> set[str]:
    return {folder.parent.name for folder in LIBRARY.glob("*/__init__.py")}


def test_every_room_has_its_layer_and_its_line_in_the_picture() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name for layer in layers for name in re.split(r"\s*[:|]\s*", layer)}
    drawn = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert len(layers) == 8
    assert rooms() == named
    assert not {name for name in rooms() if f"`{name}`" not in drawn}


def test_nothing_lies_loose_at_the_top() -> None:
    files = {path.name for path in LIBRARY.iterdir() if path.is_file()}
    assert files == {"__init__.py", "py.typed"}
    assert len(rooms()) <= 11


def test_modules_stay_readable() -> None:
    lengths = {
        path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines())
        for folder in ("kinetic_flows", "blocks", "runner_image")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert not {path: length for path, length in lengths.items() if length > 400}


@pytest.mark.parametrize("name", sorted(EARLIER_MODULES))
def test_an_earlier_module_is_found_by_a_process_that_imports_nothing_before(name: str) -> None:
    program = f"from importlib import import_module; import_module('kinetic_flows.{name}')"
    subprocess.run([sys.executable, "-c", program], check=True)
