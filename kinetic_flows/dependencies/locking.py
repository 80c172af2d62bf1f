"""From a source to a lock: made once for each distinct input, and reused by everyone.

A lock is stored under the digest of everything it was made from. A plan only reads the store;
the task writes it. Until it is upgraded, the same input has the same lock, so a floating
`numpy` never changes under an existing environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from kinetic_flows.core.artifact_store import ArtifactStore, StoreTrust
from kinetic_flows.core.environment import BaseVariant
from kinetic_flows.core.errors import LockError
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.dependencies.declaration import Declaration, read_declaration
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.fit import unsatisfied
from kinetic_flows.dependencies.guests import advice
from kinetic_flows.dependencies.inputs import inputs_digest
from kinetic_flows.dependencies.lock_store import LockCache, private_store
from kinetic_flows.dependencies.lockfile import (
    HeldBack,
    LockedPackage,
    format_lock,
    held_back_in,
    parse_lock,
    variant_of,
)
from kinetic_flows.dependencies.resolution import may_ship, prepare_packages
from kinetic_flows.dependencies.script_settings import uv_variables
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Runner, Uv, run_process
from kinetic_flows.dependencies.uv_settings import UvSettings, uv_settings
from kinetic_flows.dependencies.variants import find_for_base
from kinetic_flows.dependencies.wheels import LocalWheel, local_wheels


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A resolved set of packages.

    Attributes:
        text: The lock itself, as `lockfile` documents it.
        packages: Its packages.
        wheels: Those of its packages that ship, with the place to find them here.
        target: What it was made for, settled on one base.
        inputs_sha256: Digest of what it was made from; its name in the store.
        from_cache: Whether it had been made before.
        filtered: Accelerator packages that were left out, a sentence each.
        warnings: What the person should know, those sentences included.
    """

    text: str
    packages: tuple[LockedPackage, ...]
    wheels: tuple[LocalWheel, ...]
    target: Target
    inputs_sha256: Sha256
    from_cache: bool
    filtered: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Locker:
    """Makes locks of what projects declare, and keeps them.

    Attributes:
        store: Where locks and shipped wheels are kept for everyone.
        home: Directory of this machine's caches.
        environ: Variables for uv: the person's own indexes and credentials.
        trust: Tells whose objects in the store are believed.
        run: What starts programs.
    """

    store: ArtifactStore
    home: Path
    environ: Mapping[str, str]
    trust: Callable[[], StoreTrust] = private_store
    run: Runner = run_process

    def lock(
        self, source: DependencySource, target: Target, *, upgrade: bool = False, write: bool = True
    ) -> Lock:
        """Return the lock of a source: the stored one, else a new one.

        Args:
            source: What declares the dependencies.
            target: What to lock for.
            upgrade: Resolve again even if there is a lock, and replace it.
            write: Whether to store a new lock and its wheels.

        Raises:
            DependencyError: The dependencies cannot be read.
            LockError: They cannot be resolved.
        """
        project = self._project(source, target)
        digest = self._digest(project)
        cache = LockCache(store=self.store, home=self.home, digest=digest, trust=self.trust)

        def accept(text: str) -> bool:
            return _is_fit(text, project) and cache.is_genuine(text)

        stored = cache.stored()
        is_fit = stored is not None and accept(stored)
        text = None if upgrade else (stored if is_fit else cache.cached())
        from_cache = text is not None
        if text is None:
            hinted = target if upgrade else _hinted(target, stored)
            text = project.locked(hinted, home=self.home, refresh=upgrade, run=self.run)
            cache.cache(text)
        if write and (upgrade or not is_fit):
            text = cache.publish(text, accept)
        return _lock(text, project, digest, home=self.home, from_cache=from_cache)

    def _project(self, source: DependencySource, target: Target) -> _Project:
        # Where the base is open, nothing is left out before it is chosen.
        widest = target.otherwise or target
        declared = read_declaration(source, widest, environ=self.environ)
        return _Project(
            source=source,
            target=target,
            environ=uv_variables(source, self.environ, home=self.home),
            read={widest.variant: declared},
        )

    def _digest(self, project: _Project) -> Sha256:
        (declared,) = project.read.values()
        return inputs_digest(
            declared,
            project.target,
            settings=project.settings,
            home=self.home,
            environ=project.environ,
        )


@dataclass(frozen=True, kw_only=True)
class _Project:
    """A source, and the target that it is locked for."""

    source: DependencySource
    target: Target
    environ: Mapping[str, str]
    read: dict[BaseVariant, Declaration]

    @cached_property
    def settings(self) -> UvSettings:
        return uv_settings(self.source.project_root, self.environ)

    def declared(self, target: Target) -> Declaration:
        """Return what is declared for a target that is settled; the files are read once."""
        if target.variant not in self.read:
            read = read_declaration(self.source, target, environ=self.environ)
            self.read[target.variant] = read
        return self.read[target.variant]

    def settled(self, text: str) -> Target:
        """Return what a lock was made for."""
        return self.target.settled(variant_of(text))

    def locked(self, target: Target, *, home: Path, refresh: bool, run: Runner) -> str:
        """Return a new lock for the target, which may prefer other versions."""
        uv = Uv(cwd=self.source.project_root, environ=self.environ, run=run)
        found = find_for_base(self.source, target, uv=uv, refresh=refresh)
        packages = prepare_packages(
            found.packages,
            found.declared,
            found.target,
            uv=uv,
            home=home,
            settings=self.settings,
        )
        is_chosen = found.target.variant != target.variant
        return format_lock(
            packages,
            variant=found.target.variant if is_chosen else "jax",
            held_back=found.held_back,
        )


def _lock(text: str, project: _Project, digest: Sha256, *, home: Path, from_cache: bool) -> Lock:
    packages, target = parse_lock(text), project.settled(text)
    declared = project.declared(target)
    told: tuple[str, ...] = ()
    if target.interpreter is None:
        told = advice({item.name: item.version for item in packages}, target.category)
        told += tuple(_held_sentence(item, target) for item in held_back_in(text))
    return Lock(
        text=text,
        packages=packages,
        wheels=local_wheels(packages, home=home),
        target=target,
        inputs_sha256=digest,
        from_cache=from_cache,
        filtered=declared.filtered,
        warnings=(*declared.warnings, *told),
    )


def _held_sentence(item: HeldBack, target: Target) -> str:
    image = ", ".join(target.constraints[:2])
    return (
        f"{item.name} {item.version} is the newest release that goes with the image's own packages"
        f" ({image}); framework='none' leaves those to the requirements, and gives"
        f" {item.name} {item.otherwise}"
    )


def _is_fit(text: str, project: _Project) -> bool:
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
    target = project.settled(text)
    declared = project.declared(target)
    shipped = [item for item in packages if item.wheel]
    if shipped and not may_ship(declared, project.settings):
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

    def preferring(each: Target) -> Target:
        own = {pin.partition("==")[0]: pin for pin in each.preferences}
        return replace(each, preferences=tuple({**own, **pins}.values()))

    otherwise = preferring(target.otherwise) if target.otherwise else None
    return replace(preferring(target), otherwise=otherwise)
