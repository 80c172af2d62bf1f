"""Wheels that ship with a lock: of packages that are on no public index, or of all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import BuildError, LockError
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.fetch import Fetcher
from kinetic_flows.dependencies.local_wheels import WheelBuilder
from kinetic_flows.dependencies.lockfile import LockedPackage
from kinetic_flows.dependencies.pylock import PylockPackage
from kinetic_flows.dependencies.resolution import CONCURRENT_PACKAGES, Question, ask
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Runner, Uv, run_process
from kinetic_flows.dependencies.uv_settings import uv_settings


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
    """Bring wheels that other clients made from the store to their places here."""
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


@dataclass(frozen=True, kw_only=True)
class WheelCache:
    """Downloads the wheels of locked packages, and builds those that have only sources.

    Attributes:
        target: What the wheels must fit.
        project_root: Whose configuration of uv holds.
        home: Directory of this machine's caches.
        environ: Variables for uv.
        run: What starts programs.
    """

    target: Target
    project_root: Path
    home: Path
    environ: Mapping[str, str]
    run: Runner = run_process

    def ship(self, packages: tuple[LockedPackage, ...]) -> tuple[LockedPackage, ...]:
        """Return packages as wheels that ship, each with a file that its lock allows.

        Raises:
            LockError: A file is gone from its index, or does not fit.
        """
        by_index = {item.name: item for item in packages if item.wheel is None}
        if not by_index:
            return packages
        uv = Uv(cwd=self.project_root, environ=self.environ, run=self.run)
        found = {item.name: item for item in self._located(by_index, uv)}
        settings = uv_settings(self.project_root, self.environ)
        fetcher = Fetcher(
            indexes=settings.indexes,
            environ=self.environ,
            asks_keyring=settings.asks_keyring,
            run=self.run,
        )
        builder = WheelBuilder(target=self.target, uv=uv, fetcher=fetcher, home=self.home)
        allowed = [_allowed(found.get(name), item) for name, item in by_index.items()]
        with ThreadPoolExecutor(CONCURRENT_PACKAGES) as pool:
            shipped = dict(zip(by_index, pool.map(builder.ship, allowed), strict=True))
        return tuple(shipped.get(item.name, item) for item in packages)

    def _located(self, packages: Mapping[str, LockedPackage], uv: Uv) -> tuple[PylockPackage, ...]:
        """Ask uv where the files of these very versions are."""
        pins = tuple(f"{item.name}=={item.version}" for item in packages.values())
        asked = Question(requirements=pins, without_dependencies=True)
        return ask(asked, Declaration(), self.target, uv=uv)


def _allowed(found: PylockPackage | None, locked: LockedPackage) -> PylockPackage:
    """Return a package with only the files that its lock allows."""
    allowed = found.allowed(locked.hashes) if found else None
    if allowed is None:
        raise LockError(
            f"no file that the lock allows for {locked.name} {locked.version} is on its index",
            value=locked.name,
            hint="lock again with: kinetic lock FILE:FUNCTION --upgrade",
        )
    return allowed


def stored_wheels(store: ArtifactStore, environment: EnvironmentSpec) -> dict[str, bytes]:
    """Fetch an environment's own wheels, each checked against its digest, by file name.

    Raises:
        BuildError: A stored wheel is not the one that was locked.
        StoreError: One cannot be read.
    """
    wheels = {}
    for wheel in environment.wheels:
        data = store.get(wheel.name).data
        if hashlib.sha256(data).hexdigest() != wheel.sha256:
            raise BuildError(
                f"the stored wheel {wheel.name} does not match its digest",
                value=wheel.name,
                hint="delete it from the store and run again",
            )
        wheels[wheel.name.rpartition("/")[2]] = data
    return wheels
