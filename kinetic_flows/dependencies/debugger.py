"""The debugger of runs: debugpy's wheel of pure Python, which fits every image and interpreter.

It ships with the run that wants it, so no lock and no image is made anew for a debugger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kinetic_flows.core.errors import LockError
from kinetic_flows.core.files import scratch_directory, write_atomically
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.object_names import wheel_object
from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.fetch import Fetcher
from kinetic_flows.dependencies.pylock import RemoteFile
from kinetic_flows.dependencies.resolution import Question, ask
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Runner, Uv, run_process
from kinetic_flows.dependencies.uv_settings import uv_settings
from kinetic_flows.dependencies.wheels import LocalWheel
from kinetic_flows.images.bases import PLATFORM

DISTRIBUTION = "debugpy"

REQUIREMENT = f"{DISTRIBUTION}>=1.8.14,<2"
"""From this version on it knows Python 3.14."""

KNOWN_FILE = "debugger.json"
"""File in `KINETIC_HOME` that says which wheel was found."""


def debugger_wheel(
    *,
    home: Path,
    python: str,
    project_root: Path,
    environ: Mapping[str, str],
    run: Runner = run_process,
) -> LocalWheel:
    """Return the debugger's wheel, which lies on this machine from then on.

    Args:
        home: `KINETIC_HOME`.
        python: Python minor version of the run, such as `3.11`.
        project_root: Whose configuration of uv says where packages come from.
        environ: Variables for uv.
        run: What starts it.

    Raises:
        LockError: No index has it, or it cannot be downloaded.
    """
    before = _known(home)
    if before is not None:
        return before
    uv = Uv(cwd=project_root, environ=environ, run=run)
    found = _find(python, uv)
    settings = uv_settings(project_root, environ)
    fetcher = Fetcher(
        indexes=settings.indexes, environ=environ, asks_keyring=settings.asks_keyring, run=run
    )
    data = _content(found.location, fetcher, home)
    digest = sha256_hex(data)
    if f"sha256:{digest}" not in found.hashes:
        raise LockError(f"{found.filename} is not what its index says: its SHA-256 is {digest}")
    wheel = _wheel(home, found.filename, digest, len(data))
    write_atomically(wheel.path, data)
    write_atomically(
        home / KNOWN_FILE,
        json.dumps(
            {"filename": wheel.filename, "sha256": digest, "size_bytes": len(data)}
        ).encode(),
    )
    return wheel


def _content(location: str, fetcher: Fetcher, home: Path) -> bytes:
    if "://" not in location:
        return Path(location).read_bytes()
    with scratch_directory(home) as scratch:
        file = scratch / "debugger.whl"
        fetcher.fetch(location, file)
        return file.read_bytes()


def _known(home: Path) -> LocalWheel | None:
    """Return the wheel that was found before, as long as it is whole."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((home / KNOWN_FILE).read_bytes())
        wheel = _wheel(home, known["filename"], known["sha256"], known["size_bytes"])
        with wheel.path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == wheel.sha256:
                return wheel
    return None


def _wheel(home: Path, filename: str, sha256: Sha256, size_bytes: int) -> LocalWheel:
    path = home / wheel_object(sha256, filename)
    return LocalWheel(filename=filename, path=path, sha256=sha256, size_bytes=size_bytes)


def _find(python: str, uv: Uv) -> RemoteFile:
    """Ask uv where the wheel is."""
    target = Target(python=python, platform=PLATFORM, category="cpu", base_identity="")
    asked = Question(requirements=(REQUIREMENT,), without_dependencies=True)
    try:
        packages = ask(asked, Declaration(), target, uv=uv)
    except LockError as error:
        raise LockError(
            f"debug=True needs {DISTRIBUTION}, which is not found: {error.message}",
            value=DISTRIBUTION,
            hint=f"add {DISTRIBUTION} to the project's dependencies, or let uv reach an index that "
            "has it",
        ) from error
    wheels = (file for package in packages for file in package.wheels)
    pure = [file for file in wheels if file.filename.endswith("-none-any.whl")]
    if not pure:
        raise LockError(
            f"debug=True needs {DISTRIBUTION}, and its index has no wheel of pure Python",
            value=DISTRIBUTION,
            hint=f"add {DISTRIBUTION} to the project's dependencies",
        )
    return pure[0]
