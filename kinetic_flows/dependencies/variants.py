"""Resolving a project for the base that suits it: the one with jax, or the one without."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from packaging.version import Version

from kinetic_flows.core.errors import LockError
from kinetic_flows.dependencies.closure import is_about_closure
from kinetic_flows.dependencies.declaration import Declaration, read_declaration
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.guests import (
    brings_its_own,
    brings_runtime,
    refuse_what_cannot_work,
    runtime_for_jax,
)
from kinetic_flows.dependencies.lockfile import HeldBack
from kinetic_flows.dependencies.pylock import PylockPackage
from kinetic_flows.dependencies.resolution import find_packages
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Uv


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a project's packages are, and what they are for.

    Attributes:
        target: What they were resolved for, settled on one base.
        declared: What the project declares for it.
        packages: The packages.
        held_back: What the project names and has in an older release than it would have without
            the image's own packages.
    """

    target: Target
    declared: Declaration
    packages: tuple[PylockPackage, ...]
    held_back: tuple[HeldBack, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages by name, as far as they are known."""
        return {item.name: item.version for item in self.packages if item.version is not None}


def find_for_base(
    source: DependencySource, target: Target, *, uv: Uv, refresh: bool = False
) -> Found:
    """Resolve a source for a target, on the base that its packages want.

    Args:
        source: What declares the dependencies.
        target: What for; where it leaves the base open, the packages decide.
        uv: Resolves.
        refresh: Whether to ask the indexes again about what uv has cached.

    Raises:
        DependencyError: The image has other versions than are asked for.
        LockError: There is no solution, or it would not work.
    """
    if target.otherwise is not None:
        found = _on_either_base(source, target, target.otherwise, uv, refresh)
    else:
        found = _on(source, target, uv, refresh)
    if found.target.variant == "lean":
        found = _with_runtime(found, uv, refresh)
    if target.interpreter is None:
        refuse_what_cannot_work(found.versions, target.category)
    return found


def _on_either_base(
    source: DependencySource, target: Target, lean: Target, uv: Uv, refresh: bool
) -> Found:
    """Resolve with the image's own packages and without any, and take what suits the project.

    The lean base suits who brings another framework; and who brings a runtime for the
    accelerator, where the image's is in its way. Else the image's packages are held, and what
    they hold back is noted.
    """
    if not read_declaration(source, lean, environ=uv.environ).lines:
        return _on(source, target, uv, refresh)
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(_on, source, target, uv, refresh)
        try:
            free = pool.submit(_on, source, lean, uv, refresh).result()
        except LockError:
            # What has no solution at all is explained for the image that it would be in.
            return asked.result()
    if brings_its_own(free.versions, target.category):
        return free
    try:
        held = asked.result()
    except LockError:
        if brings_runtime(free.versions, target.category):
            return free
        raise
    older = held_back(held, free)
    if older and brings_runtime(free.versions, target.category):
        return free
    return replace(held, held_back=older)


def held_back(held: Found, free: Found) -> tuple[HeldBack, ...]:
    """Return what a project names and has in an older release because of the image."""
    lines = (line for line in free.declared.lines if not is_about_closure(line, held.target))
    names = sorted({line.name for line in lines if line.name})
    pairs = ((name, held.versions.get(name), free.versions.get(name)) for name in names)
    return tuple(
        HeldBack(name=name, version=has, otherwise=could)
        for name, has, could in pairs
        if has and could and Version(has) < Version(could)
    )


def _on(source: DependencySource, target: Target, uv: Uv, refresh: bool) -> Found:
    declared = read_declaration(source, target, environ=uv.environ)
    packages = find_packages(declared, target, uv=uv, refresh=refresh)
    return Found(target=target, declared=declared, packages=packages)


def _with_runtime(found: Found, uv: Uv, refresh: bool) -> Found:
    """Give a jax that the project brings what it needs for its accelerator.

    The jax stays as it was resolved: for an older CUDA uv would go back years without a word.
    """
    target, versions = found.target, found.versions
    missing = runtime_for_jax(versions, target.category)
    if missing is None:
        return found
    wanted = replace(
        target,
        runtime=(*target.runtime, missing),
        constraints=(*target.constraints, f"jax=={versions['jax']}"),
    )
    try:
        packages = find_packages(found.declared, wanted, uv=uv, refresh=refresh)
    except LockError as error:
        raise LockError(
            f"jax {versions['jax']} needs {missing}, which does not go with the project's other"
            f" packages: {error.message}",
            value=missing,
            hint="allow newer releases of what uv names, ask for the jax that was released with"
            " them, or give the two frameworks functions of their own",
        ) from error
    return replace(found, packages=packages)
