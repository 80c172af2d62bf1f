"""Some of the files of a directory that a run sees: a directory with links to them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from .contract import EXIT_DATA_UNAVAILABLE, Fault
from .data_listing import is_wanted


def is_selective(spec: Mapping[str, Any]) -> bool:
    """Whether only some files of a directory are meant."""
    return not spec["is_file"] and (spec["include"] is not None or bool(spec["exclude"]))


def select(spec: Mapping[str, Any], scratch: str) -> str:
    """Return a directory with links to those files that are meant; nothing is copied.

    Args:
        spec: The job's `DataSpec`, which says where the directory is.
        scratch: A directory that lasts as long as this process.

    Raises:
        Fault: None is.
    """
    parent = os.path.join(scratch, "selected")
    number = len(os.listdir(parent)) if os.path.isdir(parent) else 0
    root = os.path.join(parent, str(number), spec["name"])
    os.makedirs(root)
    count = 0
    for path in _files(spec["path"]):
        if is_wanted(path, spec):
            link = os.path.join(root, path)
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink(os.path.join(spec["path"], path), link)
            count += 1
    if not count:
        message = f"data {spec['source']}: no file in it matches include and exclude"
        raise Fault(EXIT_DATA_UNAVAILABLE, message)
    return root


def _files(root: str) -> Iterator[str]:
    """Yield the files below a directory, relative to it; links are followed, but in no circle."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not _is_circle(root, folder, name)]
        for name in files:
            yield os.path.relpath(os.path.join(folder, name), root)


def _is_circle(root: str, folder: str, name: str) -> bool:
    """Whether a directory is a link to one that has been gone through on the way to it."""
    path = os.path.join(folder, name)
    if not os.path.islink(path):
        return False
    aim = os.path.join(os.path.realpath(path), "")
    while not os.path.join(os.path.realpath(folder), "").startswith(aim):
        if folder == root:
            return False
        folder = os.path.dirname(folder)
    return True
