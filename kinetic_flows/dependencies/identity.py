"""The identity of an environment: one hash of everything that decides its content."""

from __future__ import annotations

from collections.abc import Iterable

from kinetic_flows.core import object_names
from kinetic_flows.core.environment import EnvironmentSpec, Package
from kinetic_flows.core.job import ObjectRef, Sha256, canonical_json, sha256_hex
from kinetic_flows.dependencies.lockfile import PUBLIC_INDEX, LockedPackage, parse_lock
from kinetic_flows.dependencies.targets import Target

IDENTITY_VERSION = 1


def dependency_hash(packages: Iterable[LockedPackage], target: Target) -> Sha256:
    """Return the identity of an environment.

    It is the SHA-256 of canonical JSON (sorted keys, no white space) of exactly this::

        {"version":  1,
         "base":     the base's identity,
         "category": "cpu" | "gpu" | "tpu",
         "python":   minor version, "3.11",
         "platform": uv's name of the platform,
         "template": SHA-256 of the Dockerfile template, "" where there is none,
         "indexes":  [URLs that packages are installed from, without credentials],
         "packages": {name: [version, [hashes, sorted]], …},
         "wheels":   {name: [file name, SHA-256], …}}

    The runner is not in it, and neither is the text of any file a person edits. A package
    that ships as a wheel is installed from no index, whatever private one it came from.
    """
    found = list(packages)
    return sha256_hex(
        canonical_json(
            {
                "version": IDENTITY_VERSION,
                "base": target.base_identity,
                "category": target.category,
                "python": target.python,
                "platform": target.platform,
                "template": target.template_sha256,
                "indexes": [PUBLIC_INDEX] if any(not item.wheel for item in found) else [],
                "packages": {item.name: [item.version, sorted(item.hashes)] for item in found},
                "wheels": {
                    item.name: [item.wheel.filename, item.wheel.sha256]
                    for item in found
                    if item.wheel
                },
            }
        )
    )


def environment_spec(lock_text: str, target: Target) -> EnvironmentSpec:
    """Return what an environment made from a lock contains, and its identity."""
    packages = parse_lock(lock_text)
    wheels = [item.wheel for item in packages if item.wheel]
    return EnvironmentSpec(
        category=target.category,
        python=target.python,
        platform=target.platform,
        base_identity=target.base_identity,
        lock=lock_text,
        packages=tuple(Package(name=item.name, version=item.version) for item in packages),
        wheels=tuple(
            ObjectRef(
                name=object_names.wheel_object(wheel.sha256, wheel.filename),
                sha256=wheel.sha256,
                size_bytes=wheel.size_bytes,
            )
            for wheel in wheels
        ),
        dependency_hash=dependency_hash(packages, target),
        made_base_lock=target.made_base_lock,
        variant=target.variant,
    )
