"""Wheels that ship with a lock: packages that are on no public index."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename

from kinetic_flows import naming
from kinetic_flows.dependencies.files import write_atomically
from kinetic_flows.dependencies.lockfile import LockedPackage, ShippedWheel
from kinetic_flows.dependencies.pylock import PylockPackage
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Uv
from kinetic_flows.errors import LockError
from kinetic_flows.job import Sha256
from kinetic_flows.protocols import ArtifactStore

SOURCE_DATE_EPOCH = "315532800"
"""The first moment a zip archive can name, so that a build does not depend on the clock."""


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
            path=home / naming.wheel_object(item.wheel.sha256, item.wheel.filename),
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
        data = store.get(naming.wheel_object(wheel.sha256, wheel.filename)).data
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


def ship(package: PylockPackage, target: Target, *, uv: Uv, home: Path) -> LockedPackage:
    """Make the wheel of a package that is on no public index.

    Raises:
        LockError: It cannot be built or fetched, or does not fit the target.
    """
    if package.directory is None:
        raise LockError(f"{package.name} is on no public index", value=package.name)
    with tempfile.TemporaryDirectory(prefix="kinetic-wheel-") as scratch:
        built = _build(uv.cwd / package.directory, target, uv=uv, out=Path(scratch))
        return _keep(built, home=home)


def _build(source: Path, target: Target, *, uv: Uv, out: Path) -> Path:
    python = str(target.interpreter) if target.interpreter else target.python
    timeless = Uv(
        cwd=uv.cwd, environ={**uv.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH}, run=uv.run
    )
    done = timeless(
        "build", "--quiet", "--wheel", "--python", python, "--out-dir", out, "--", source
    )
    if done.exit_code != 0:
        raise LockError(
            f"the local package {source} cannot be built:\n{done.stderr}",
            value=str(source),
            hint=f"make `uv build --wheel {source}` work",
        )
    return next(out.glob("*.whl"))


def _keep(wheel: Path, *, home: Path) -> LockedPackage:
    data = wheel.read_bytes()
    digest = Sha256(hashlib.sha256(data).hexdigest())
    name, version, _, _ = parse_wheel_filename(wheel.name)
    kept = home / naming.wheel_object(digest, wheel.name)
    if not kept.is_file():
        write_atomically(kept, data)
    return LockedPackage(
        name=name,
        version=str(version),
        hashes=(f"sha256:{digest}",),
        wheel=ShippedWheel(filename=wheel.name, sha256=digest, size_bytes=len(data)),
    )
