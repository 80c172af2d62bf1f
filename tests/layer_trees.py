"""What wheels become in layers, and what uv makes of them, file by file."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

from kinetic_flows.dependencies.uv import find_uv
from kinetic_flows.images.layers.model import INTERPRETER, SITE_PACKAGES

NOTES = frozenset(
    {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
)
"""What an installer says of its installation, beside the packages' metadata."""

PREFIX = "usr/local/"
GENERATED = re.compile(r"#!PYTHON\n# -\*- coding: utf-8 -\*-\n.*sys\.exit\(", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as it is compared.

    Attributes:
        mode: Its rights.
        digest: Digest of its content.
        text: What a script for Python says, with another interpreter; empty for other files.
    """

    mode: int
    digest: str
    text: str = ""


Tree = dict[str, File]


def tree_of_layer(layer: Path, python: str) -> Tree:
    """Return what a layer has below `/usr/local`, as a Python of a minor version sees it."""
    shared = SITE_PACKAGES.removeprefix(PREFIX)
    tree: Tree = {}
    # Not "r|gz", which reads the first member of a gzip file alone.
    with gzip.open(layer) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        for member in archive:
            assert member.isfile() or member.isdir(), member.name
            content = archive.extractfile(member)
            if content is None:
                continue
            assert member.name.startswith(PREFIX), member.name
            assert member.name not in tree, member.name
            name = member.name.removeprefix(PREFIX)
            if name.startswith(f"{shared}/"):
                name = f"lib/python{python}/site-packages{name.removeprefix(shared)}"
            tree[name] = _file(name, member.mode, content.read(), INTERPRETER)
    return tree


def tree_of_prefix(prefix: Path, interpreter: str) -> Tree:
    """Return what uv installed below a directory."""
    tree: Tree = {}
    for path in prefix.rglob("*"):
        if path.is_file() and path != prefix / ".lock":
            # Where uv puts headers for a virtual environment's Python; for an image's, not.
            name = path.relative_to(prefix).as_posix().replace("include/site/", "include/", 1)
            tree[name] = _file(name, path.stat().st_mode & 0o777, path.read_bytes(), interpreter)
    return tree


def _file(name: str, mode: int, content: bytes, interpreter: str) -> File:
    digest = hashlib.sha256(content).hexdigest()
    shebang = f"#!{interpreter}\n".encode()
    if not (name.startswith("bin/") and content.startswith(shebang)):
        return File(mode=mode, digest=digest)
    text = "#!PYTHON\n" + content.removeprefix(shebang).decode()
    if GENERATED.match(text):
        # Who writes it does it in words of his own; what is imported and called is what counts.
        kept = (line for line in text.splitlines() if re.match(r"#!|from | +sys\.exit", line))
        text = "\n".join(kept)
    return File(mode=mode, digest="", text=text)


def install(wheels: Sequence[Path], prefix: Path, interpreter: str) -> None:
    """Have uv install wheels into a directory."""
    command = (find_uv(), "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-config")
    subprocess.run(
        [*command, "--python", interpreter, "--prefix", str(prefix), *map(str, wheels)],
        check=True,
    )


def differences(layers: Mapping[str, Tree], installed: Tree) -> Iterator[str]:
    """Yield what is not the same, a line each.

    Args:
        layers: The tree of each wheel, by its name. Of a path that several have with different
            content, uv leaves any: it installs wheels side by side.
        installed: What uv made of all of them.
    """
    merged: dict[str, list[File]] = {}
    for tree in layers.values():
        for name, file in tree.items():
            merged.setdefault(name, []).append(file)
    ours, theirs = _compared(merged), _compared(installed)
    yield from (f"only in a layer: {name}" for name in sorted(ours - theirs))
    yield from (f"only by uv: {name}" for name in sorted(theirs - ours))
    for name in sorted(ours & theirs):
        if installed[name] not in merged[name]:
            yield f"{name}: {merged[name]} in a layer, {installed[name]} by uv"


def _compared(names: Iterable[str]) -> set[str]:
    return {name for name in names if not _is_of_the_installation(name)}


def _is_of_the_installation(name: str) -> bool:
    *directories, last = name.split("/")
    if "__pycache__" in directories:
        return True
    return last in NOTES and directories[-1].endswith(".dist-info")


def sources_without_bytecode(tree: Tree, python: str) -> list[str]:
    """Return the modules of a layer that have no bytecode for this Python, tests aside."""
    site = f"lib/python{python}/site-packages/"
    return [
        name
        for name in tree
        if name.startswith(site)
        and name.endswith(".py")
        and cache_from_source(name) not in tree
        and "/tests/" not in name
    ]
