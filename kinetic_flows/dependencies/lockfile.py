r"""A lock: a requirements file of exact versions with hashes, and the identity of what it makes.

The form is fixed (sorted names, sorted hashes, no comments but our own), so that the same
packages give the same bytes. A package that ships as a wheel carries a comment that says so::

    # kinetic lock 1
    numpy==2.1.0 \
        --hash=sha256:…
    # ships: foo-0.1-py3-none-any.whl 1234
    foo==0.1 \
        --hash=sha256:…

One that was made for a base without a framework says `# base: lean` in its second line. Then
follow the packages that the image's own hold back: `# held back: name 1.0 2.0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kinetic_flows.core import object_names
from kinetic_flows.core.environment import BaseVariant, EnvironmentSpec, Package
from kinetic_flows.core.errors import LockError
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import ObjectRef, Sha256
from kinetic_flows.dependencies.targets import Target

IDENTITY_VERSION = 1

HEADER = "# kinetic lock 1"
LEAN = "# base: lean"
_HELD_BACK = re.compile(
    r"^# held back: (?P<name>[a-z0-9-]+) (?P<old>[\w.+!-]+) (?P<new>[\w.+!-]+)$"
)

PUBLIC_INDEX = "https://pypi.org/simple"
"""Where every package of a lock that does not ship as a wheel can be had."""

_SHIPS = re.compile(r"^# ships: (?P<filename>[\w.+!-]+\.whl) (?P<size>\d+)$")
_PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>[\w.+!-]+)(?P<continued> \\)?$")
_HASH = re.compile(r"^    --hash=(?P<hash>[a-z0-9]+:[0-9a-f]+)(?P<continued> \\)?$")


@dataclass(frozen=True, kw_only=True)
class ShippedWheel:
    """A wheel that travels with the lock because no public index has it."""

    filename: str
    sha256: Sha256
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """A package that is older than it would be without the image's own packages.

    Attributes:
        name: The package.
        version: The release that goes with the image's packages.
        otherwise: The one that would be had without them.
    """

    name: str
    version: str
    otherwise: str

    def __str__(self) -> str:
        return f"# held back: {self.name} {self.version} {self.otherwise}"


@dataclass(frozen=True, kw_only=True)
class LockedPackage:
    """One package of a lock.

    Attributes:
        name: Canonical name.
        version: Exact version.
        hashes: Digests of the files that may be installed, as `sha256:hex`, sorted.
        wheel: The wheel that ships; None when the public index has the package.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    wheel: ShippedWheel | None = None


def format_lock(
    packages: Iterable[LockedPackage],
    *,
    variant: BaseVariant = "jax",
    held_back: Iterable[HeldBack] = (),
) -> str:
    """Return the text of a lock.

    Args:
        packages: Its packages.
        variant: The base it was made for; one without a framework is noted.
        held_back: What the image's own packages hold back.
    """
    blocks = [HEADER, *([LEAN] if variant == "lean" else []), *map(str, held_back)]
    for package in sorted(packages, key=lambda item: item.name):
        if package.wheel:
            blocks.append(f"# ships: {package.wheel.filename} {package.wheel.size_bytes}")
        parts = [f"{package.name}=={package.version}"]
        parts += [f"    --hash={item}" for item in sorted(package.hashes)]
        blocks.append(" \\\n".join(parts))
    return "\n".join(blocks) + "\n"


def variant_of(text: str) -> BaseVariant:
    """Return the base that a lock was made for."""
    return "lean" if text.startswith(f"{HEADER}\n{LEAN}\n") else "jax"


def held_back_in(text: str) -> tuple[HeldBack, ...]:
    """Return what a lock says that the image's own packages hold back."""
    matches = (_HELD_BACK.match(line) for line in _head(text.split("\n")))
    return tuple(
        HeldBack(name=match["name"], version=match["old"], otherwise=match["new"])
        for match in matches
        if match
    )


def _head(lines: list[str]) -> list[str]:
    """Return the lines before the first package."""
    head = lines[:1]
    for line in lines[1:]:
        if line != LEAN and not _HELD_BACK.match(line):
            break
        head.append(line)
    return head


def parse_lock(text: str) -> tuple[LockedPackage, ...]:
    """Read a lock's text strictly: nothing but what `format_lock` writes is accepted.

    Raises:
        LockError: The text is not such a lock.
    """
    lines = text.split("\n")
    if lines[0] != HEADER or lines[-1] != "":
        raise LockError("the stored lock is not one of this version", value=lines[0][:80])
    packages: list[LockedPackage] = []
    position = len(_head(lines))
    while position < len(lines) - 1:
        package, position = _parse_package(lines, position)
        packages.append(package)
    return tuple(packages)


def _parse_package(lines: list[str], position: int) -> tuple[LockedPackage, int]:
    ships = _SHIPS.match(lines[position])
    if ships:
        position += 1
    pin = _PIN.match(lines[position])
    if pin is None:
        raise LockError(f"the stored lock has an unexpected line: {lines[position][:80]!r}")
    hashes: list[str] = []
    continued = pin["continued"] is not None
    while continued:
        position += 1
        match = _HASH.match(lines[position])
        if match is None:
            raise LockError(f"the stored lock has an unexpected line: {lines[position][:80]!r}")
        hashes.append(match["hash"])
        continued = match["continued"] is not None
    if not hashes:
        raise LockError(f"the stored lock has no hash for {pin['name']}", value=pin["name"])
    wheel = _shipped(ships, hashes) if ships else None
    package = LockedPackage(
        name=pin["name"], version=pin["version"], hashes=tuple(hashes), wheel=wheel
    )
    return package, position + 1


def _shipped(match: re.Match[str], hashes: list[str]) -> ShippedWheel:
    algorithm, _, digest = hashes[0].partition(":")
    if len(hashes) != 1 or algorithm != "sha256" or len(digest) != 64:
        raise LockError("the stored lock ships a wheel without exactly one SHA-256")
    return ShippedWheel(
        filename=match["filename"], sha256=Sha256(digest), size_bytes=int(match["size"])
    )


def dependency_hash(packages: Iterable[LockedPackage], target: Target) -> Sha256:
    """Return the identity of an environment.

    It is the SHA-256 of canonical JSON (sorted keys, no white space) of exactly this::

        {"version":  1,
         "base":     the base's identity,
         "category": "cpu" | "gpu" | "tpu",
         "python":   minor version, "3.11",
         "platform": uv's name of the platform,
         "template": SHA-256 of how the image is made: the Dockerfile's template and the version
                     of the layers' format; "" where there is none,
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
