"""`volumes=`: what a run finds at paths of its file system, as it is written and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from kinetic_flows.core import option_values as check
from kinetic_flows.core.data import Data
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from kinetic_flows.core import job_parts
else:
    # Who only decorates functions does without it.
    job_parts = LazyModule("kinetic_flows.core.job_parts")

VolumeKind = Literal["data", "claim", "scratch"]

CLAIM, SCRATCH = "pvc:", "scratch:"

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_QUANTITY = re.compile(r"(?=.*[1-9])[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?")
_UNITS = {"": 1, "k": 10**3, "Ki": 1 << 10}
_UNITS.update({unit: 1000 ** (power + 2) for power, unit in enumerate("MGT")})
_UNITS.update({f"{unit}i": 1024 ** (power + 2) for power, unit in enumerate("MGT")})
_SMALLEST_BYTES = 1 << 20
_TAKEN = ("/app", "/bin", "/boot", "/dev", "/etc", "/kinetic", "/lib", "/lib64", "/opt/kinetic")
_TAKEN_TOO = ("/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var", "/home")  # noqa: S108


@dataclass(frozen=True, kw_only=True)
class Volume:
    """What is at one path of a run.

    Attributes:
        path: The absolute path.
        kind: `data`, `claim` (a PersistentVolumeClaim that exists) or `scratch` (an empty disk
            that is gone with the run).
        data: What is there; None unless it is data.
        claim: Name of the PersistentVolumeClaim; empty unless it is one.
        sub_path: Directory of the claim that is mounted; empty for all of it.
        size: Size of a scratch disk, as a Kubernetes quantity; empty unless it is one.
        read_only: Whether it cannot be written to.
    """

    path: str
    kind: VolumeKind
    data: Data | None = None
    claim: str = ""
    sub_path: str = ""
    size: str = ""
    read_only: bool = True

    def __str__(self) -> str:
        if self.kind == "claim":
            return f"{CLAIM}{self.claim}{'/' if self.sub_path else ''}{self.sub_path}"
        return f"{SCRATCH}{self.size}" if self.kind == "scratch" else str(self.data)


def parse_volumes(name: str, value: Any) -> dict[str, Volume]:
    """Check the option `volumes`.

    Args:
        name: What the option is called.
        value: What is at which path: `Data`, the source of one as text, `pvc:claim[/directory]`
            (with `:ro` at its end, read-only) or `scratch:100Gi`.

    Raises:
        UsageError: A path or a volume cannot be.
    """
    if not isinstance(value, Mapping):
        check.refuse(name, value, "give a mapping: volumes={'/data': kinetic.Data('gs://...')}")
    volumes = {_path(name, path): each for path, each in value.items()}
    if len(volumes) < len(value):
        check.refuse(name, value, "two of its paths are one")
    for path in volumes:
        for other in volumes:
            if path != other and PurePosixPath(path).is_relative_to(other):
                check.refuse(name, path, f"it is inside of {other}, which is a volume itself")
    return {path: _volume(f"{name}[{path!r}]", path, each) for path, each in volumes.items()}


def data_of_volumes(volumes: Mapping[str, Volume] | None) -> tuple[Data, ...]:
    """Return the data that is at paths of a run, in the order of `volume_specs`."""
    found = (volume.data for volume in (volumes or {}).values())
    return tuple(data for data in found if data is not None)


def volume_specs(
    volumes: Mapping[str, Volume] | None, first: int
) -> tuple[job_parts.VolumeSpec, ...]:
    """Return what a job says of a run's volumes.

    Args:
        volumes: The volumes, by path; None for none.
        first: Place among the job's data of the first that `data_of_volumes` returns.
    """
    specs = []
    for volume in (volumes or {}).values():
        number = first if volume.data is not None else None
        first += number is not None
        specs.append(
            job_parts.VolumeSpec(
                path=volume.path,
                kind=volume.kind,
                read_only=volume.read_only,
                data=number,
                claim=volume.claim,
                sub_path=volume.sub_path,
                size=volume.size,
            )
        )
    return tuple(specs)


def volume_places(volumes: Mapping[str, Volume] | None) -> list[list[str]]:
    """Return what is at which path, in the order of `volume_specs`, without saying which data."""
    told = ((path, "" if each.data else str(each)) for path, each in (volumes or {}).items())
    return [list(each) for each in told]


def bytes_of(quantity: str) -> int:
    """Return how many bytes a size is, such as `100Gi`.

    Raises:
        ValueError: It is no quantity of Kubernetes.
    """
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(quantity)
    return int(float(quantity.removesuffix(found[2] or "")) * _UNITS[found[2] or ""])


def _path(name: str, path: object) -> str:
    name, hint = f"a path of {name}", "give absolute paths, such as /data"
    if not isinstance(path, str) or not path.startswith("/") or re.search(r"[\0:,=\s]", path):
        check.refuse(name, path, hint)
    # Two slashes at the beginning would stay.
    pure = PurePosixPath("/" + path.lstrip("/"))
    if ".." in pure.parts or str(pure) == "/":
        check.refuse(name, path, hint)
    for taken in (*_TAKEN, *_TAKEN_TOO):
        if pure.is_relative_to(taken):
            check.refuse(name, path, f"{taken} is the image's own; give another, such as /data")
    return str(pure)


def _volume(name: str, path: str, value: object) -> Volume:
    if isinstance(value, Volume):
        return value
    if isinstance(value, Data):
        return Volume(path=path, kind="data", data=value, read_only=value.read_only)
    given = check.text(name, value, "give kinetic.Data(...), 'pvc:claim' or 'scratch:100Gi'")
    if given.startswith(CLAIM):
        return _claim(name, path, given)
    if given.startswith(SCRATCH):
        size = given.removeprefix(SCRATCH)
        if not _QUANTITY.fullmatch(size):
            check.refuse(name, given, "give its size as Kubernetes has it: scratch:100Gi")
        if bytes_of(size) < _SMALLEST_BYTES:
            check.refuse(
                name, given, f"that is a few bytes; give its unit: scratch:{size.rstrip('kKi')}Gi"
            )
        return Volume(path=path, kind="scratch", size=size, read_only=False)
    return Volume(path=path, kind="data", data=Data(given))


def _claim(name: str, path: str, given: str) -> Volume:
    text = given.removeprefix(CLAIM)
    claim, _, directory = text.removesuffix(":ro").partition("/")
    if not _NAME.fullmatch(claim) or ".." in PurePosixPath(directory).parts:
        check.refuse(name, given, "give a PersistentVolumeClaim's name: pvc:my-claim")
    return Volume(
        path=path,
        kind="claim",
        claim=claim,
        sub_path=directory.strip("/"),
        read_only=text.endswith(":ro"),
    )
