"""The wheels of a lock, one for each package: which they are, and fetching them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import LockError
from kinetic_flows.core.files import (
    exclusive_lock,
    open_private,
    private_directory,
    write_atomically,
)
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.fetch import Fetcher
from kinetic_flows.dependencies.fit import best_wheel
from kinetic_flows.dependencies.lockfile import (
    HEADER,
    PUBLIC_INDEX,
    LockedPackage,
    parse_lock,
)
from kinetic_flows.dependencies.pylock import PUBLIC_HOSTS, PylockPackage
from kinetic_flows.dependencies.resolution import Question, ask
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Runner, Uv, run_process
from kinetic_flows.dependencies.uv_settings import without_deciding
from kinetic_flows.dependencies.wheels import LocalWheel, fetch_wheels

MAX_AGE_SECONDS = 3 * 86400.0
"""How long a download is kept that nobody came back for."""

CHOICE_VERSION = 1
"""Version of how wheels are chosen: another one, another choice of the same lock."""

_PINNED = re.compile(
    r"(?m)^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)(?P<rest>(?:.*\\\n)*.*)$"
)
_HASH = re.compile(r"--hash=([a-z0-9]+:[0-9a-f]+)")


@dataclass(frozen=True, kw_only=True)
class ChosenWheels:
    """What of a lock's packages can be had as wheels.

    Attributes:
        wheels: One for each package that has one, sorted by name.
        sources: Names of the packages that have no wheel that fits: only a build makes one.
    """

    wheels: tuple[WheelFile, ...]
    sources: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return it as it is kept."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ChosenWheels:
        """Read what `to_json` wrote."""
        found = json.loads(data)
        wheels = tuple(WheelFile(**wheel) for wheel in found["wheels"])
        return cls(wheels=wheels, sources=tuple(found["sources"]))


def choose_wheels(
    lock: str,
    *,
    python: str,
    platform: str,
    home: Path,
    environ: Mapping[str, str],
    run: Runner = run_process,
) -> ChosenWheels:
    """Return the wheel of each package of a lock that an image of Google Cloud takes.

    The index is asked once for each lock: what was chosen is remembered on this machine.

    Args:
        lock: A project's lock or a base's.
        python: Python minor version of the image.
        platform: uv's name of its platform.
        home: Directory of this machine's caches.
        environ: Variables for uv: how to reach the index.
        run: What starts programs.

    Raises:
        LockError: The public index cannot be asked.
    """
    asked = {"version": CHOICE_VERSION, "lock": lock, "python": python, "platform": platform}
    path = home / "locks" / f"{sha256_hex(canonical_json(asked))}.wheels.json"
    try:
        return ChosenWheels.from_json(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        pass
    target = Target(python=python, platform=platform, category="cpu", base_identity="wheels")
    uv = Uv(cwd=private_directory(home), environ=without_deciding(environ), run=run)
    chosen = _choose(_packages_of(lock), target, uv)
    write_atomically(path, chosen.to_json())
    return chosen


def _packages_of(lock: str) -> tuple[LockedPackage, ...]:
    """Read a lock, be it a project's or a base's, which is a plain requirements file."""
    if lock.startswith(f"{HEADER}\n"):
        return parse_lock(lock)
    return tuple(
        LockedPackage(
            name=match["name"],
            version=match["version"],
            hashes=tuple(_HASH.findall(match["rest"])),
        )
        for match in _PINNED.finditer(lock)
    )


def _choose(packages: tuple[LockedPackage, ...], target: Target, uv: Uv) -> ChosenWheels:
    public = tuple(f"{item.name}=={item.version}" for item in packages if item.wheel is None)
    located: dict[str, PylockPackage] = {}
    if public:
        asked = Question(
            options=(f"--index-url {PUBLIC_INDEX}",),
            requirements=public,
            without_dependencies=True,
        )
        located = {item.name: item for item in ask(asked, Declaration(), target, uv=uv)}
    wheels = {
        item.name: _shipped(item) or _fitting(located.get(item.name), item, target)
        for item in packages
    }
    return ChosenWheels(
        wheels=tuple(wheel for _, wheel in sorted(wheels.items()) if wheel),
        sources=tuple(name for name, wheel in sorted(wheels.items()) if wheel is None),
    )


def _shipped(package: LockedPackage) -> WheelFile | None:
    if package.wheel is None:
        return None
    return WheelFile(
        name=package.name,
        version=package.version,
        filename=package.wheel.filename,
        sha256=package.wheel.sha256,
        size_bytes=package.wheel.size_bytes,
    )


def _fitting(
    found: PylockPackage | None, locked: LockedPackage, target: Target
) -> WheelFile | None:
    """Return the wheel that a target takes of those that the lock allows; None for none."""
    allowed = found.allowed(locked.hashes) if found else None
    by_name = {wheel.filename: wheel for wheel in allowed.wheels} if allowed else {}
    best = by_name.get(best_wheel(by_name, target) or "")
    if best is None or urlsplit(best.location).hostname not in PUBLIC_HOSTS:
        return None
    digest = next(item for item in best.hashes if item.startswith("sha256:"))[len("sha256:") :]
    return WheelFile(
        name=locked.name,
        version=locked.version,
        filename=best.filename,
        sha256=Sha256(digest),
        size_bytes=best.size_bytes,
        url=best.location,
    )


class WheelDownloads:
    """Fetches wheels; what it downloads is kept on this machine until it is discarded.

    Args:
        home: Directory of this machine's caches.
        environ: Variables: how to reach the index.
        store: Where wheels that ship are; None where none does.
    """

    def __init__(
        self, home: Path, environ: Mapping[str, str], store: ArtifactStore | None = None
    ) -> None:
        self._home = home
        self._directory = home / "layers" / "wheels"
        self._fetcher = Fetcher(indexes=(), environ=environ)
        self._store = store
        self._fetched: set[Path] = set()
        self._locks = private_directory(home / "layers" / "locks")
        # Nothing is removed while another one is there; this one is until it is forgotten.
        self._use = os.fdopen(open_private(self._locks / "wheels"), "r+b")
        fcntl.flock(self._use, fcntl.LOCK_SH)

    def fetch(self, wheel: WheelFile) -> Path:
        """Return a wheel's file, checked against its digest; several threads may ask at once.

        Raises:
            LockError: It cannot be downloaded, or is something else than was locked.
            StoreError: The store, which has it, cannot be read.
        """
        path = self._directory / wheel.sha256 / wheel.filename
        # Few locks, which stay: one that is removed may be held by somebody who waited for it.
        with exclusive_lock(self._locks / f"wheel-{wheel.sha256[:3]}"):
            if not wheel.url:
                return self._shipped(wheel)
            if path not in self._fetched:
                if path.is_file():
                    os.utime(_checked(path, wheel).parent)
                else:
                    self._download(wheel, path)
                self._fetched.add(path)
            return path

    def discard(self) -> None:
        """Remove what was downloaded, for when its layers are in a registry.

        While another assembly may read it, that is left to the last one. What others left who were
        interrupted goes, too, when nobody came back for it.
        """
        for path in self._fetched:
            with suppress(OSError):
                os.utime(path.parent, (0, 0))
        with self._use, suppress(OSError):
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for folder in self._directory.iterdir():
                if time.time() - folder.stat().st_mtime > MAX_AGE_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def _shipped(self, wheel: WheelFile) -> Path:
        path = self._home / object_names.wheel_object(wheel.sha256, wheel.filename)
        shipped = LocalWheel(
            filename=wheel.filename, path=path, sha256=wheel.sha256, size_bytes=wheel.size_bytes
        )
        if self._store is not None:
            fetch_wheels([shipped], store=self._store)
        return _checked(path, wheel)

    def _download(self, wheel: WheelFile, path: Path) -> None:
        private_directory(path.parent)
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            self._fetcher.fetch(wheel.url, draft)
            _checked(draft, wheel).replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _checked(path: Path, wheel: WheelFile) -> Path:
    """Return a wheel's file if it is what was locked; one that is not is removed.

    Raises:
        LockError: It is something else.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest == wheel.sha256:
        return path
    path.unlink()
    raise LockError(
        f"{wheel.filename} does not match its sha256 digest: it is {digest}, "
        f"and {wheel.sha256} was locked",
        value=wheel.filename,
        hint="it was changed on its way, or its index was: run again",
    )
