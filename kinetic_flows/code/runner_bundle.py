"""The runner as it is sent: one archive whose bytes depend on its sources alone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.public_names import HOMES
from kinetic_flows.core.version import VERSION

RESOURCES = "kinetic_flows.runner_image"

PACKAGE = "_kinetic_runner"
"""The runner's name in the pod, where a project may have a package called `runner`."""

STUBS = "stubs"
"""Where in the archive is what runs without this package have in its place."""

_AS_IT_IS = (
    "__init__.py",
    "core/__init__.py",
    "core/data.py",
    "core/errors.py",
    "core/functions.py",
    "core/inside_run.py",
    "core/keras_kinetic.py",
    "core/lazy.py",
    "core/option_values.py",
    "core/public_names.py",
    "runs/__init__.py",
)
_STAND_IN = "stand_in.py"
_MODULES_OF_CLIENTS = frozenset(
    {"blocks", "api.deployment", "core.settings.settings", "plans.inputs"}
)
"""Modules that have no public name in the package itself and are imported all the same."""

_MAIN = f"""\
from {PACKAGE}.entry import main

if __name__ == "__main__":
    main(globals().get("KINETIC_LAUNCH"))
"""
_FIRST_ZIP_MOMENT = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644


@dataclass(frozen=True, kw_only=True)
class RunnerBundle:
    """The runner's archive and its digest, by which jobs name it."""

    data: bytes
    sha256: Sha256


@cache
def runner_bundle() -> RunnerBundle:
    """Return the runner as an archive that Python runs; the same sources give the same bytes."""
    buffer = io.BytesIO()
    # Stored, because what zlib makes of the same bytes differs between its builds.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sorted(_members()):
            info = zipfile.ZipInfo(name, date_time=_FIRST_ZIP_MOMENT)
            info.external_attr = _MODE << 16
            info.create_system = 3
            archive.writestr(info, source)
    data = buffer.getvalue()
    return RunnerBundle(data=data, sha256=sha256_hex(data))


def _members() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN.encode()
    for item in (files(RESOURCES) / "runner").iterdir():
        if not item.name.endswith(".py"):
            continue
        if item.name != _STAND_IN:
            yield f"{PACKAGE}/{item.name}", item.read_bytes()
    yield from ((f"{STUBS}/{name}", source) for name, source in _stubs())


def _stubs() -> Iterator[tuple[str, bytes]]:
    """Yield this package as a run has it: what needs nothing as it is, stand-ins for the rest."""
    yield "kinetic/__init__.py", (files("kinetic") / "__init__.py").read_bytes()
    for name in _AS_IT_IS:
        yield f"kinetic_flows/{name}", (files("kinetic_flows") / name).read_bytes()
    yield "kinetic_flows/core/version.py", f"VERSION = {VERSION!r}\n".encode()
    stand_in = (files(RESOURCES) / "runner" / _STAND_IN).read_bytes()
    homes = {home.replace(".", "/") for home in (*HOMES.values(), *_MODULES_OF_CLIENTS)}
    homes -= {name.removesuffix(".py") for name in _AS_IT_IS}
    yield from ((f"kinetic_flows/{home}.py", stand_in) for home in homes)
    for folder in {str(parent) for home in homes for parent in PurePosixPath(home).parents}:
        if folder != "." and f"{folder}/__init__.py" not in _AS_IT_IS:
            yield f"kinetic_flows/{folder}/__init__.py", b""
