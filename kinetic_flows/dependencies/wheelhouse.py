"""Making wheels of packages that an index has, so that a run needs no index."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core.errors import LockError
from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.fetch import Fetcher
from kinetic_flows.dependencies.local_wheels import Shipper
from kinetic_flows.dependencies.lockfile import LockedPackage
from kinetic_flows.dependencies.pylock import PylockPackage
from kinetic_flows.dependencies.resolution import CONCURRENT_PACKAGES, Question, ask
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Runner, Uv, run_process
from kinetic_flows.dependencies.uv_settings import uv_settings


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
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
        shipper = Shipper(target=self.target, uv=uv, fetcher=fetcher, home=self.home)
        allowed = [_allowed(found.get(name), item) for name, item in by_index.items()]
        with ThreadPoolExecutor(CONCURRENT_PACKAGES) as pool:
            shipped = dict(zip(by_index, pool.map(shipper.ship, allowed), strict=True))
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
