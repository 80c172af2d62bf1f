"""The assembler as it is sent to a build: one archive whose bytes depend on its sources alone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

from kinetic_flows.core.version import VERSION
from kinetic_flows.images.assembly.remote_words import progress_line

BUNDLE_FILE = "kinetic.zip"
MODULE = "kinetic_flows.images.assembly.remote"

ROOMS = (
    "clients/__init__.py",
    "clients/deadlines.py",
    "clients/google/__init__.py",
    "clients/google/errors.py",
    "clients/google/login.py",
    "clients/registry",
    "clients/retry.py",
    "core",
    "images",
    "runner_image/__init__.py",
    "runner_image/remote_runner.py",
)
"""What of this package the assembler imports, and what it reads: folders with all their modules."""

REQUIREMENTS = ("httpx", "humanize", "installer", "packaging", "tenacity")
"""The packages of others that it imports."""

_VERSION = "core/version.py"
_FIRST_ZIP_MOMENT = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644


@cache
def assembler_bundle() -> bytes:
    """Return the assembler as an archive that Python imports from; equal sources, equal bytes."""
    buffer = io.BytesIO()
    # Stored, because what zlib makes of the same bytes differs between its builds.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sorted(_members()):
            info = zipfile.ZipInfo(f"kinetic_flows/{name}", date_time=_FIRST_ZIP_MOMENT)
            info.external_attr = _MODE << 16
            info.create_system = 3
            archive.writestr(info, source)
    return buffer.getvalue()


def assembler_script() -> str:
    """Return the shell's commands that assemble an image, in the directory with its files.

    They run in an image of the Python whose bytecode the layers get.
    """
    pinned = " ".join(f"{name}=={version(name)}" for name in REQUIREMENTS)
    install = "python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check"
    return (
        f"echo '{progress_line('installing the assembler')}'\n"
        f"{install} --root-user-action=ignore {pinned}\n"
        f"PYTHONPATH={BUNDLE_FILE} exec python3 -m {MODULE}\n"
    )


def _members() -> Iterator[tuple[str, bytes]]:
    yield "__init__.py", files("kinetic_flows").joinpath("__init__.py").read_bytes()
    for room in ROOMS:
        # In a checkout one of them lies elsewhere.
        folder, _, rest = room.partition("/")
        place = files(f"kinetic_flows.{folder}")
        yield from _modules(room, place.joinpath(rest) if rest else place)


def _modules(name: str, place: Traversable) -> Iterator[tuple[str, bytes]]:
    """Yield the modules of a folder and of those within it, by their paths."""
    if place.is_file():
        # Its version is that of a package that is not installed there.
        is_version = name == _VERSION
        yield name, f"VERSION = {VERSION!r}\n".encode() if is_version else place.read_bytes()
        return
    for item in place.iterdir():
        if item.name.endswith(".py") or (item.is_dir() and item.name != "__pycache__"):
            yield from _modules(f"{name}/{item.name}", item)
