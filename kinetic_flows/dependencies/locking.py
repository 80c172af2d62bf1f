"""From a source to a lock: made once for each distinct input, and reused by everyone.

A lock is stored under the digest of everything it was made from. A plan only reads the store;
the task writes it. Until somebody upgrades it, the same input has the same lock, so a floating
`numpy` never changes under an existing environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from kinetic_flows import naming
from kinetic_flows.dependencies.declaration import Declaration, read_declaration
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.files import write_atomically
from kinetic_flows.dependencies.inputs import inputs_digest
from kinetic_flows.dependencies.lockfile import LockedPackage, format_lock, parse_lock
from kinetic_flows.dependencies.resolution import may_ship, resolve
from kinetic_flows.dependencies.script_settings import uv_variables
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Runner, Uv, run_process
from kinetic_flows.dependencies.uv_settings import UvSettings, uv_settings
from kinetic_flows.dependencies.verification import unsatisfied
from kinetic_flows.dependencies.wheels import LocalWheel, local_wheels
from kinetic_flows.errors import LockError, ObjectNotFoundError
from kinetic_flows.job import Sha256
from kinetic_flows.protocols import ArtifactStore


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A resolved set of packages.

    Attributes:
        text: The lock itself, as `lockfile` documents it.
        packages: Its packages.
        wheels: Those of its packages that ship, with the place to find them here.
        inputs_sha256: Digest of what it was made from; its name in the store.
        from_cache: Whether it had been made before.
        filtered: Accelerator packages that were left out, a sentence each.
        warnings: What the person should know, those sentences included.
    """

    text: str
    packages: tuple[LockedPackage, ...]
    wheels: tuple[LocalWheel, ...]
    inputs_sha256: Sha256
    from_cache: bool
    filtered: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_lock(
    source: DependencySource,
    target: Target,
    *,
    store: ArtifactStore,
    home: Path,
    environ: Mapping[str, str],
    run: Runner = run_process,
) -> Lock:
    """Return the lock of a source without writing to the store; see `lock_dependencies`."""
    return lock_dependencies(
        source, target, store=store, home=home, environ=environ, write=False, run=run
    )


def lock_dependencies(
    source: DependencySource,
    target: Target,
    *,
    store: ArtifactStore,
    home: Path,
    environ: Mapping[str, str],
    upgrade: bool = False,
    write: bool = True,
    run: Runner = run_process,
) -> Lock:
    """Return the lock of a source: the stored one, else a new one.

    Args:
        source: What declares the dependencies.
        target: What to lock for.
        store: Where locks and shipped wheels are kept for everyone.
        home: Directory of this machine's caches.
        environ: Variables for uv: the person's own indexes and credentials.
        upgrade: Resolve again even if there is a lock, and replace it.
        write: Whether to store a new lock and its wheels.
        run: What starts programs.

    Raises:
        DependencyError: The dependencies cannot be read.
        LockError: They cannot be resolved.
    """
    declared = read_declaration(source, target, environ=environ)
    environ = uv_variables(source, environ, home=home)
    settings = uv_settings(source.project_root, environ)
    digest = inputs_digest(declared, target, settings=settings, home=home, environ=environ)
    shelf = _Shelf(store=store, home=home, digest=digest)
    stored = shelf.stored()
    is_fit = stored is not None and _is_fit(stored, declared, target, settings)
    text = None if upgrade else (stored if is_fit else shelf.cached())
    from_cache = text is not None
    if text is None:
        uv = Uv(cwd=source.project_root, environ=environ, run=run)
        found = resolve(declared, target, uv=uv, home=home, settings=settings, refresh=upgrade)
        text = format_lock(found)
        shelf.cache(text)
    if write and (upgrade or not is_fit):
        text = shelf.publish(text, replace=upgrade or not is_fit)
    return _lock(text, declared, digest, home=home, from_cache=from_cache)


def _lock(
    text: str, declared: Declaration, digest: Sha256, *, home: Path, from_cache: bool
) -> Lock:
    packages = parse_lock(text)
    return Lock(
        text=text,
        packages=packages,
        wheels=local_wheels(packages, home=home),
        inputs_sha256=digest,
        from_cache=from_cache,
        filtered=declared.filtered,
        warnings=declared.warnings,
    )


def _is_fit(text: str, declared: Declaration, target: Target, settings: UvSettings) -> bool:
    """Whether a lock out of the store is one, and has what the project asks for.

    The store is shared, so what comes out of it is a hint: its form and versions are checked
    here, its hashes when the packages are installed. A wheel that ships must be of the package
    it ships for, and only a project that has packages from elsewhere than the public index
    has any.
    """
    try:
        packages = parse_lock(text)
    except LockError:
        return False
    shipped = [item for item in packages if item.wheel]
    if shipped and not may_ship(declared, settings):
        return False
    if not all(item.wheel and _is_wheel_of(item.wheel.filename, item) for item in shipped):
        return False
    return unsatisfied(declared.lines, {i.name: i.version for i in packages}, target) is None


def _is_wheel_of(filename: str, package: LockedPackage) -> bool:
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion):
        return False
    return name == package.name and str(version) == package.version


@dataclass(frozen=True, kw_only=True)
class _Shelf:
    """Where the lock of one digest is kept: for everyone in the store, and here."""

    store: ArtifactStore
    home: Path
    digest: Sha256

    @property
    def _path(self) -> Path:
        return self.home / naming.lock_object(self.digest)

    def stored(self) -> str | None:
        """Return the lock that everyone shares; None when there is none."""
        try:
            return self.store.get(naming.lock_object(self.digest)).data.decode(errors="replace")
        except ObjectNotFoundError:
            return None

    def cached(self) -> str | None:
        """Return a lock that was made here and is complete; None when there is none."""
        try:
            text = self._path.read_text(encoding="utf-8")
            wheels = local_wheels(parse_lock(text), home=self.home)
        except (FileNotFoundError, LockError):
            return None
        return text if all(wheel.path.is_file() for wheel in wheels) else None

    def cache(self, text: str) -> None:
        """Keep a lock that was made here, so that a plan's work serves the run."""
        write_atomically(self._path, text.encode())

    def publish(self, text: str, *, replace: bool) -> str:
        """Store a lock, its wheels first; return the one that is stored in the end."""
        name = naming.lock_object(self.digest)
        for wheel in local_wheels(parse_lock(text), home=self.home):
            if wheel.path.is_file():
                self.store.put_if_absent(
                    naming.wheel_object(wheel.sha256, wheel.filename), wheel.path
                )
        if self.store.put_if_absent(name, text.encode()):
            return text
        current = self.store.get(name)
        if not replace or current.data == text.encode():
            return current.data.decode()
        # Somebody who replaced it at the same moment was as right as we are: theirs stands.
        if self.store.replace_if_unchanged(name, text.encode(), current.generation) is None:
            return self.store.get(name).data.decode()
        return text
