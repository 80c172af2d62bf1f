"""Wheels from the public index become in layers what uv makes of them."""

from __future__ import annotations

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.dependencies.wheel_files import WheelDownloads, choose_wheels
from kinetic_flows.images.bases import PLATFORM, read_base_inputs
from kinetic_flows.images.layers.bytecode import Compiler
from kinetic_flows.images.layers.make import make_wheel_layer
from layer_trees import (
    Tree,
    differences,
    install,
    sources_without_bytecode,
    tree_of_layer,
    tree_of_prefix,
)

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LARGE = ("jax", "jaxlib", "scipy")


def test_what_a_base_has_is_what_uv_installs(tmp_path: Path) -> None:
    lock = read_base_inputs("cpu", PYTHON).lock
    small = re.sub(rf"(?m)^(?:{'|'.join(LARGE)})==(?:.*\\\n)*.*\n", "", lock)
    chosen = choose_wheels(
        small, python=PYTHON, platform=PLATFORM, home=tmp_path, environ=os.environ
    )
    downloads = WheelDownloads(tmp_path, os.environ)

    def made(file: WheelFile) -> tuple[str, Tree]:
        layer = tmp_path / f"{file.name}.tar.gz"
        make_wheel_layer(downloads.fetch(file), layer, file=file, python=PYTHON, compiler=compiler)
        return file.name, tree_of_layer(layer, PYTHON)

    with Compiler(PYTHON, os.environ) as compiler, ThreadPoolExecutor(4) as pool:
        trees = dict(pool.map(made, chosen.wheels))
    files = [downloads.fetch(file) for file in chosen.wheels]
    install(files, tmp_path / "by-uv", sys.executable)

    assert len(trees) > 20
    installed = tree_of_prefix(tmp_path / "by-uv", sys.executable)
    assert list(differences(trees, installed)) == []
    assert {"bin/uv", "bin/normalizer", "bin/f2py"} <= set(installed)
    without = [sources_without_bytecode(tree, PYTHON) for tree in trees.values()]
    assert not any(without)
