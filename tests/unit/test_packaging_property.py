"""Any tree at all comes back as it was: every name, byte, mode and link."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetic_flows.code import resting
from kinetic_flows.code.snapshot import SnapshotOptions
from shipping import ship_and_restore


class File(NamedTuple):
    content: bytes
    mode: int


class Directory(NamedTuple):
    mode: int


class Link(NamedTuple):
    """A link to the n-th other path of the tree (modulo their number), or to nothing."""

    target: int
    absolute: bool


Node = File | Directory | Link

# Any bytes but / and NUL; short ones, so that trees share directories, and a few long ones.
NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"pkg", b"main.py", b" ", b"\n", b"\xff", b"-", b"x" * 200]),
    st.binary(min_size=1, max_size=6),
).filter(lambda name: name not in (b".", b"..") and not {0, 47}.intersection(name))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
MODES = st.integers(0, 0o777).map(lambda bits: bits | 0o400)
CONTENTS = st.one_of(
    st.binary(max_size=600),
    st.sampled_from([b"", b"x" * 512, b"y" * 300_000, b"z" * 2_100_000]),
)
NODES = st.one_of(
    st.builds(File, CONTENTS, MODES),
    st.builds(Directory, MODES.map(lambda bits: bits | 0o700)),
    st.builds(Link, st.integers(0, 50), st.booleans()),
)
TREES = st.dictionaries(PATHS, NODES, max_size=12)

ANYTHING = SnapshotOptions(default_excludes=False)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(TREES)
def test_any_tree_comes_back_as_it_was(tree: dict[bytes, Node]) -> None:
    # Nobody writes to these trees meanwhile: that files come to rest need not be awaited.
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(resting, "QUIET_SECONDS", 0):
        project = Path(folder) / "project"
        make(project, tree)
        restored = ship_and_restore(project, Path(folder), options=ANYTHING)
        assert described(restored) == described(project)
        assert not any(is_broken(path) for path in restored.rglob("*"))


def make(project: Path, tree: dict[bytes, Node]) -> None:
    """Make a tree as far as its paths do not contradict each other."""
    project.mkdir()
    links = []
    for name, node in tree.items():
        path = project / os.fsdecode(name)
        if isinstance(node, Link):
            links.append((path, node))
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, node)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    targets = sorted(project.rglob("*"))
    for path, link in links:
        if targets:
            make_link(path, targets[link.target % len(targets)], link.absolute)


def write(path: Path, node: File | Directory) -> None:
    if isinstance(node, Directory):
        path.mkdir()
    else:
        with path.open("xb") as file:
            file.write(node.content)
    path.chmod(node.mode)


def make_link(path: Path, target: Path, absolute: bool) -> None:
    """Make a link; below another link, a relative one may lead nowhere."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target if absolute else os.path.relpath(target, path.parent))
    except (FileExistsError, NotADirectoryError):
        return


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Describe all that is under a root, links by where they lead, without broken ones."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder) / name
            status = path.lstat()
            relative = str(path.relative_to(root))
            if is_broken(path):
                continue
            if path.is_symlink():
                found[relative] = ("link", str(path.resolve().relative_to(root.resolve())))
            elif path.is_dir():
                found[relative] = ("directory", stat.S_IMODE(status.st_mode))
            else:
                found[relative] = ("file", stat.S_IMODE(status.st_mode), path.read_bytes())
    return found


def is_broken(path: Path) -> bool:
    """Whether a path is a link that leads nowhere, or to itself."""
    return path.is_symlink() and not path.exists()
