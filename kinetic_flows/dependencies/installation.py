"""The installation of prebuilt mode when a run starts: a lock, and the wheels that ship with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kinetic_flows.core import object_names
from kinetic_flows.core.accelerators.packages import is_accelerator_package
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import ObjectRef, RequirementsSpec
from kinetic_flows.dependencies.lockfile import LockedPackage, environment_spec, format_lock
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.wheels import LocalWheel, local_wheels
from kinetic_flows.images.base_lookup import is_made_from
from kinetic_flows.images.layers.model import FORMAT_VERSION

UPLOADERS = 4

BASE_CONSTRAINTS = "/app/constraints.txt"
"""Where base images keep the pins of their accelerator runtime."""

Shipping = Callable[[tuple[LockedPackage, ...]], tuple[LockedPackage, ...]]
"""Turns packages of an index into packages that ship as wheels."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A lock and its wheels, as a run installs them.

    Attributes:
        packages: The packages, unless the image has them in that version.
        wheels: The wheels that come along, with their places on this machine.
        offline: Whether nothing but those wheels is needed.
        constraints: File of the image that holds its accelerator runtime in place; None for
            none, when the project brings its own.
    """

    packages: tuple[LockedPackage, ...]
    wheels: tuple[LocalWheel, ...]
    offline: bool
    constraints: str | None


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What came of an upload: what a run is told, and how many bytes were new."""

    spec: RequirementsSpec
    bytes_uploaded: int


def plan_installation(
    packages: Iterable[LockedPackage],
    target: Target,
    base: ResolvedImage,
    *,
    home: Path,
    ship: Shipping | None = None,
) -> Installation:
    """Decide what a run installs in a base image.

    The accelerator's own packages are the image's, in whatever version it has them: those that
    the lock only repeats are left out. One that the project keeps for itself stays.

    Args:
        packages: The project's lock.
        target: What it was locked for.
        base: The image. One that was made from the target's own inputs is known to have its
            packages, whose wheels stay here.
        home: Directory of this machine's caches.
        ship: Makes wheels of all packages, so that no index is asked; None to send only
            those that no public index has.
    """
    wanted = _own_packages(packages, target)
    lacking = lacking_packages(wanted, target, base)
    if ship:
        shipped = {item.name: item for item in ship(lacking)}
        wanted = tuple(shipped.get(item.name, item) for item in wanted)
        lacking = tuple(shipped.values())
    brings_runtime = any(is_accelerator_package(item.name) for item in wanted)
    return Installation(
        packages=wanted,
        wheels=local_wheels(lacking, home=home),
        offline=all(item.wheel for item in lacking),
        constraints=None if brings_runtime else BASE_CONSTRAINTS,
    )


def lacking_packages(
    packages: Iterable[LockedPackage], target: Target, base: ResolvedImage
) -> tuple[LockedPackage, ...]:
    """Return the packages of a lock that an image may not have in the very version it names.

    Args:
        packages: The project's lock.
        target: What it was locked for.
        base: The image; of one that was not made from the target's own inputs nothing is known.
    """
    there = frozenset(target.preferences if is_made_from(base, target.base_identity) else ())
    own = _own_packages(packages, target)
    return tuple(item for item in own if f"{item.name}=={item.version}" not in there)


def packages_environment(lock: Lock, base: ResolvedImage) -> EnvironmentSpec:
    """Return what an image holds that is mounted beside a base image, and its identity.

    A base that is made anew with the same packages needs no other one.

    Args:
        lock: The project's packages.
        base: The base image.
    """
    layout = replace(lock.target, base_identity="", template_sha256=f"packages-{FORMAT_VERSION}")
    lacking = lacking_packages(lock.packages, lock.target, base)
    return environment_spec(format_lock(lacking, variant=lock.target.variant), layout)


def _own_packages(packages: Iterable[LockedPackage], target: Target) -> tuple[LockedPackage, ...]:
    """Leave out of a lock what it only repeats of the accelerator's own packages."""
    return tuple(
        item for item in packages if f"{item.name}=={item.version}" not in target.constraints
    )


def upload_installation(installation: Installation, store: ArtifactStore) -> Upload:
    """Put what a run installs into the store, as far as it is not there.

    A wheel that is not on this machine was put there by the client that made the lock.
    """
    lock = format_lock(installation.packages).encode()
    digest = sha256_hex(lock)
    lock_ref = ObjectRef(
        name=object_names.requirements_object(digest), sha256=digest, size_bytes=len(lock)
    )
    refs = {
        ObjectRef(
            name=object_names.wheel_object(item.sha256, item.filename),
            sha256=item.sha256,
            size_bytes=item.size_bytes,
        ): item.path
        for item in installation.wheels
    }
    missing = store.missing(ref.name for ref in refs)

    def upload(ref: ObjectRef) -> int:
        return ref.size_bytes if store.put_if_absent(ref.name, refs[ref]) else 0

    wanted = [ref for ref in refs if ref.name in missing]
    uploaded = sum(in_threads(upload, wanted, threads=UPLOADERS))
    # The lock comes last: where it is, its wheels are.
    if store.put_if_absent(lock_ref.name, lock):
        uploaded += len(lock)
    spec = RequirementsSpec(
        lock=lock_ref,
        wheels=tuple(refs),
        constraints=installation.constraints,
        offline=installation.offline,
    )
    return Upload(spec=spec, bytes_uploaded=uploaded)


def keep_lock(environment: EnvironmentSpec, store: ArtifactStore) -> ObjectRef:
    """Put what an image was made from into the store, where its digest leads to it.

    So it can be told later which packages a run had, and images with some of them can be made.

    Args:
        environment: The image's content.
        store: Where locks of runs are.
    """
    lock = environment.lock.encode()
    digest = sha256_hex(lock)
    name = object_names.requirements_object(digest)
    store.put_if_absent(name, lock)
    return ObjectRef(name=name, sha256=digest, size_bytes=len(lock))


def objects_of(spec: RequirementsSpec) -> tuple[str, ...]:
    """Return the names of every object that an installation needs."""
    return (spec.lock.name, *(wheel.name for wheel in spec.wheels))
