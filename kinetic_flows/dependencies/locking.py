"""From a source to a lock: made once for each distinct input, and reused by everyone.

A lock is stored under the digest of everything it was made from. A plan only reads the store;
the task writes it. Until somebody upgrades it, the same input has the same lock, so a floating
`numpy` never changes under an existing environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from kinetic_flows.dependencies.declaration import Declaration, read_declaration
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.inputs import inputs_digest
from kinetic_flows.dependencies.lock_store import LockCache, private_store
from kinetic_flows.dependencies.lockfile import LockedPackage, format_lock, parse_lock
from kinetic_flows.dependencies.resolution import may_ship, resolve
from kinetic_flows.dependencies.script_settings import uv_variables
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Runner, Uv, run_process
from kinetic_flows.dependencies.uv_settings import UvSettings, uv_settings
from kinetic_flows.dependencies.verification import unsatisfied
from kinetic_flows.dependencies.wheels import LocalWheel, local_wheels
from kinetic_flows.errors import LockError
from kinetic_flows.job import Sha256
from kinetic_flows.protocols import ArtifactStore, StoreTrust


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
    trust: Callable[[], StoreTrust] = private_store,
    run: Runner = run_process,
) -> Lock:
    """Return the lock of a source without writing to the store; see `lock_dependencies`."""
    return lock_dependencies(
        source, target, store=store, home=home, environ=environ, trust=trust, write=False, run=run
    )


def lock_dependencies(
    source: DependencySource,
    target: Target,
    *,
    store: ArtifactStore,
    home: Path,
    environ: Mapping[str, str],
    trust: Callable[[], StoreTrust] = private_store,
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
        trust: Tells whose objects in the store are believed.
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
    cache = LockCache(store=store, home=home, digest=digest, trust=trust)

    def accept(text: str) -> bool:
        return _is_fit(text, declared, target, settings) and cache.is_genuine(text)

    stored = cache.stored()
    is_fit = stored is not None and accept(stored)
    text = None if upgrade else (stored if is_fit else cache.cached())
    from_cache = text is not None
    if text is None:
        uv = Uv(cwd=source.project_root, environ=environ, run=run)
        hinted = target if upgrade else _hinted(target, stored)
        found = resolve(declared, hinted, uv=uv, home=home, settings=settings, refresh=upgrade)
        text = format_lock(found)
        cache.cache(text)
    if write and (upgrade or not is_fit):
        text = cache.publish(text, accept)
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

    The store is shared, so its form and versions are checked here, its hashes when the packages
    are installed, and who wrote it by its signature. A wheel that ships must be of the package
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


def _hinted(target: Target, stored: str | None) -> Target:
    """Return a target that prefers the versions of a stored lock which is not believed.

    They are still checked against the project and the indexes, and packages that nothing asks
    for stay out; but what everyone has does not change because a signature is missing.
    """
    try:
        packages = parse_lock(stored) if stored is not None else ()
    except LockError:
        return target
    pins = {item.name: f"{item.name}=={item.version}" for item in packages}
    own = {pin.partition("==")[0]: pin for pin in target.preferences}
    return replace(target, preferences=tuple({**own, **pins}.values()))
