"""The project's packages where they are mounted as a volume, and nothing has to be installed.

The volume is an image that was made from the layers of the wheels: it has a prefix `usr/local`, as
the image of the run has, and at its root a file that says what is in it. Where it is mounted the
launch tells in `KINETIC_PACKAGES`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from .contract import EXIT_REQUIREMENTS_FAILED, Fault

PACKAGES_VARIABLE = "KINETIC_PACKAGES"
MARKER = "kinetic.json"
PREFIX = "usr/local"
SITE_PACKAGES = "lib/python3/site-packages"

INSTEAD = "call with KINETIC_PREBUILT=install to have packages installed when a run starts"


class MountedPackages(NamedTuple):
    """Where what was mounted has its parts.

    Attributes:
        packages: The directory that belongs on the import path.
        scripts: The directory that belongs on `PATH`.
        variables: Variables by which its data files and libraries are found.
    """

    packages: str
    scripts: str
    variables: Mapping[str, str]


def mounted_packages(spec: Mapping[str, Any], environ: Mapping[str, str]) -> MountedPackages:
    """Check that what is mounted is what the job names, and return where it has what.

    Args:
        spec: The job's `PackagesSpec`.
        environ: This process's variables.

    Raises:
        Fault: Nothing is mounted, or something else, or in a way that lets nothing be loaded.
    """
    place = environ.get(PACKAGES_VARIABLE, "")
    if not place:
        raise _fault(f"{PACKAGES_VARIABLE} must say where {spec['image']} is mounted")
    if os.path.isdir(place) and os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise _fault(
            f"the node mounts {place} so that nothing in it can be executed (noexec), and no "
            f"extension module could be loaded from there; {INSTEAD}"
        )
    found = _identity(place, spec["image"])
    if found != spec["identity"]:
        message = f"what is mounted at {place} is not {spec['image']}: it says {found!r}"
        raise _fault(f"{message} where the job says {spec['identity']!r}")
    prefix = os.path.join(place, PREFIX)
    return MountedPackages(
        packages=os.path.join(prefix, SITE_PACKAGES),
        scripts=os.path.join(prefix, "bin"),
        variables=_variables(prefix, environ),
    )


def _identity(place: str, image: str) -> Any:
    """Return what the volume says that it is."""
    try:
        with open(os.path.join(place, MARKER), encoding="utf-8") as file:
            return json.load(file)["identity"]
    except FileNotFoundError:
        raise _fault(
            f"{image} is not mounted at {place}: are the cluster's nodes able to mount images? "
            f"{INSTEAD}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _fault(f"{MARKER} of what is mounted at {place} cannot be read: {error}") from error


def _variables(prefix: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what leads to files that are looked for below the interpreter's own prefix."""
    share, libraries = os.path.join(prefix, "share"), os.path.join(prefix, "lib")
    found = {}
    if os.path.isdir(share):
        # https://specifications.freedesktop.org/basedir-spec/latest/
        others = environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        found["XDG_DATA_DIRS"] = f"{share}:{others}"
        if os.path.isdir(os.path.join(share, "jupyter")):
            found["JUPYTER_PATH"] = _joined(os.path.join(share, "jupyter"), "JUPYTER_PATH", environ)
    if any(".so" in name for name in _listed(libraries)):
        found["LD_LIBRARY_PATH"] = _joined(libraries, "LD_LIBRARY_PATH", environ)
    return found


def _joined(first: str, variable: str, environ: Mapping[str, str]) -> str:
    return os.pathsep.join(filter(None, (first, environ.get(variable))))


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _fault(message: str) -> Fault:
    return Fault(EXIT_REQUIREMENTS_FAILED, message)
