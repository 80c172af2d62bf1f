"""Writing files so that nobody sees half of one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(data)
    Path(file.name).replace(path)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that a reader of the copy sees all of it or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        source.open("rb") as original,
        tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as copy,
    ):
        shutil.copyfileobj(original, copy)
    Path(copy.name).replace(target)
