"""Wheels that ship with a lock: packages that are on no public index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core import object_names
from kinetic_flows.core.errors import LockError
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job import Sha256
from kinetic_flows.core.protocols import ArtifactStore
from kinetic_flows.dependencies.lockfile import LockedPackage


@dataclass(frozen=True, kw_only=True)
class LocalWheel:
    """A wheel that ships, and where it is, or will be, on this machine."""

    filename: str
    path: Path
    sha256: Sha256
    size_bytes: int


def local_wheels(packages: Iterable[LockedPackage], *, home: Path) -> tuple[LocalWheel, ...]:
    """Return the wheels that packages ship, with their places in this machine's cache."""
    return tuple(
        LocalWheel(
            filename=item.wheel.filename,
            path=home / object_names.wheel_object(item.wheel.sha256, item.wheel.filename),
            sha256=item.wheel.sha256,
            size_bytes=item.wheel.size_bytes,
        )
        for item in packages
        if item.wheel
    )


def fetch_wheels(wheels: Iterable[LocalWheel], *, store: ArtifactStore) -> None:
    """Bring wheels that somebody else made from the store to their places here."""
    for wheel in wheels:
        if wheel.path.is_file():
            continue
        data = store.get(object_names.wheel_object(wheel.sha256, wheel.filename)).data
        if hashlib.sha256(data).hexdigest() != wheel.sha256:
            raise LockError(f"the stored wheel {wheel.filename} does not match its digest")
        write_atomically(wheel.path, data)


def install_arguments(lock_path: Path, wheels_dir: Path) -> list[str]:
    """Return uv's arguments that install a lock, every byte checked against its hashes.

    The caller adds where to install (`--python`, `--target`). `wheels_dir` holds the shipped
    wheels under their own file names; it need not exist when there are none.
    """
    arguments = ["pip", "install", "--no-deps", "--require-hashes"]
    if wheels_dir.is_dir():
        arguments += ["--find-links", str(wheels_dir)]
    return [*arguments, "--requirements", str(lock_path)]
