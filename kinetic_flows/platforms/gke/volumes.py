"""Volumes of a run's pods: Cloud Storage that is mounted, claims, scratch disks, copied data.

Cloud Storage is mounted by GKE's CSI driver for Cloud Storage FUSE, as ephemeral volumes:
https://cloud.google.com/kubernetes-engine/docs/how-to/cloud-storage-fuse-csi-driver-ephemeral
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import dirname, join
from typing import Any

from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.pod_security import USER_ID
from kinetic_flows.core.settings.pool_variables import template_defaults, unknown_variables
from kinetic_flows.core.volumes import Volume, bytes_of

DATA_ROOT = "/kinetic/data"
"""Where data is mounted that is an argument, below which each has its number in the job."""

MOST_VOLUMES = 8
"""How many volumes a pod can have besides its own: places for so many are in the template."""

FUSE_DRIVER = "gcsfuse.csi.storage.gke.io"
FUSE_ANNOTATION = "gke-gcsfuse/volumes"
"""Annotation of a pod by which GKE gives it the sidecar that mounts Cloud Storage."""

LARGEST_EMPTY_DIR_BYTES = 20 << 30
"""From more than this on, a scratch disk is one of its own: nodes have about 45 GiB to give away.

That is what a boot disk of 100 GB leaves, which GKE's nodes have by default:
https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes
"""

POD_SECURITY_VARIABLE = "pod_security_context"
REQUEST_VARIABLE = "ephemeral_storage_request"

_BLOCK_BYTES = 4096
_LISTED_BYTES = 512
"""About how much a file takes in the lists that are beside a copy while it is made."""
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run asks for of volumes.

    Attributes:
        data: The job's data.
        volumes: What it finds at paths of its file system.
        user: The user whom its container runs as; None where nobody knows.
        template: The work pool's base job template; None where it is not known.
    """

    data: tuple[DataSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    user: int | None = USER_ID
    template: Mapping[str, Any] | None = None


def volume_slots() -> tuple[tuple[str, str], ...]:
    """Return the template's variables that hold a volume each, and where the container has it."""
    return tuple((f"volume_{n}", f"volume_mount_{n}") for n in range(1, MOST_VOLUMES + 1))


def mounted_places(
    data: tuple[DataSpec, ...], volumes: tuple[VolumeSpec, ...]
) -> tuple[DataSpec, ...]:
    """Return a job's data with the paths at which Cloud Storage is mounted in its pods.

    A single file is found in the directory that is mounted.

    Args:
        data: The data, as it was resolved.
        volumes: The volumes of the job, which name some of it.
    """
    paths = {volume.data: volume.path for volume in volumes if volume.data is not None}

    def placed(number: int, spec: DataSpec) -> DataSpec:
        directory = paths.get(number, f"{DATA_ROOT}/{number}")
        return replace(spec, path=join(directory, spec.name) if spec.is_file else directory)

    return tuple(
        placed(number, spec) if spec.mode == "mount" else spec for number, spec in enumerate(data)
    )


def check_volumes(volumes: Mapping[str, Volume]) -> None:
    """Refuse more volumes than pods have places for.

    Raises:
        UsageError: There are more.
    """
    if len(volumes) > MOST_VOLUMES:
        raise UsageError(too_many(len(volumes), MOST_VOLUMES), value=len(volumes), hint=FEWER)


def volumes_of_pod(options: RunOptions, data: Sequence[Data]) -> tuple[Volume, ...]:
    """Return what a run's pods are to have mounted, arguments among it.

    Args:
        options: How it is to run.
        data: The data among its arguments.
    """
    mounted = (
        Volume(path=f"{DATA_ROOT}/{number}", kind="data", data=each, read_only=each.read_only)
        for number, each in enumerate(data)
        if each.mode == "mount"
    )
    return (*(options.volumes or {}).values(), *mounted)


def volume_variables(asked: Asked) -> dict[str, Any]:
    """Return the template's variables by which a pod has its volumes; empty where it has none.

    Raises:
        UsageError: There are more of them than a pod can have.
    """
    found = [*_volumes(asked)]
    slots = free_slots(asked.template)
    if len(found) > len(slots):
        raise UsageError(too_many(len(found), len(slots)), value=len(found), hint=FEWER)
    variables: dict[str, Any] = {}
    for (volume_name, mount_name), (volume, mount) in zip(slots, found, strict=False):
        name = volume_name.replace("_", "-")
        variables[volume_name] = {"name": name, **volume}
        variables[mount_name] = {"name": name, **mount}
    if any("csi" in volume for volume, _ in found):
        variables["annotations"] = {FUSE_ANNOTATION: "true"}
    said = POD_SECURITY_VARIABLE in template_defaults(asked.template or {})
    if not said and any(_needs_group(volume, mount) for volume, mount in found):
        group = {"fsGroup": USER_ID, "fsGroupChangePolicy": "OnRootMismatch"}
        variables[POD_SECURITY_VARIABLE] = group
    return variables


FEWER = "put what belongs together into one directory, or leave mode='mount' out of arguments"


def too_many(wanted: int, places: int) -> str:
    """Say that a pod cannot have so many volumes."""
    return f"the run has {wanted} volumes, and the work pool's template has {places} places for any"


def free_slots(template: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return the places for volumes that nobody has taken: those without a default."""
    taken = template_defaults(template) if template else {}
    return [(volume, mount) for volume, mount in volume_slots() if volume not in taken]


def volume_obstacle(wanted: int, template: Mapping[str, Any]) -> str:
    """Say that a template has no places for volumes; empty where it has.

    Args:
        wanted: How many volumes there are.
        template: The work pool's base job template.
    """
    if not wanted:
        return ""
    slots = free_slots(template)
    if wanted > len(slots):
        return f"{too_many(wanted, len(slots))}; {FEWER}"
    names = [name for slot in slots[:wanted] for name in slot]
    lacking = unknown_variables([*names, POD_SECURITY_VARIABLE, REQUEST_VARIABLE], template)
    if not lacking:
        return ""
    return (
        f"the work pool's template has no place for volumes (it lacks {', '.join(lacking)}): "
        "`kinetic pool create` brings it up to date"
    )


def with_room(variables: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Return variables that ask for the room that data and volumes take on a node as well.

    What somebody says of memory and disk is what the function needs; that comes on top.

    Args:
        variables: The variables of a run, of which people set some.
        asked: Its data and volumes.
    """
    given = {**template_defaults(asked.template or {}), **variables}
    disk, memory, shared = _room(asked)
    changed = dict(variables)
    said = [name for name in ("ephemeral_storage", REQUEST_VARIABLE) if given.get(name)]
    if disk:
        changed |= {name: _sum(given[name], disk) for name in said}
    if disk and not said:
        # Without a limit that anybody set there is none, and yet a node has to have the room.
        changed[REQUEST_VARIABLE] = _quantity(disk)
    if memory:
        said = [name for name in ("memory", "memory_request") if given.get(name)]
        changed |= {name: _sum(given[name], memory) for name in said}
    if shared:
        changed["shared_memory"] = _sum(given.get("shared_memory") or "2Gi", shared)
    return changed


def bytes_in_memory(asked: Asked) -> int:
    """Return how many bytes of data a run's pods keep in memory."""
    return _room(asked)[1]


def _volumes(asked: Asked) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each volume of a pod but for its name, and where its container has it."""
    for volume in asked.volumes:
        mount: dict[str, Any] = {"mountPath": volume.path}
        if volume.kind == "claim":
            mount |= {"readOnly": True} if volume.read_only else {}
            mount |= {"subPath": volume.sub_path} if volume.sub_path else {}
            yield _claim(volume), mount
        elif volume.kind == "scratch":
            yield scratch(volume.size), mount
        else:
            spec = asked.data[volume.data or 0]
            if spec.mode == "mount":
                mount |= {"readOnly": True} if volume.read_only else {}
                yield fuse(spec, asked.user, read_only=volume.read_only), mount
            else:
                yield _copied(spec), mount
    for number in _mounted_arguments(asked):
        spec = asked.data[number]
        mount = {"mountPath": f"{DATA_ROOT}/{number}"}
        mount |= {"readOnly": True} if spec.read_only else {}
        yield fuse(spec, asked.user, read_only=spec.read_only), mount


def _mounted_arguments(asked: Asked) -> Iterable[int]:
    of_volumes = {volume.data for volume in asked.volumes}
    return (
        number
        for number, spec in enumerate(asked.data)
        if spec.mode == "mount" and number not in of_volumes
    )


def fuse(spec: DataSpec, user: int | None, *, read_only: bool) -> dict[str, Any]:
    """Return the volume that is Cloud Storage, mounted.

    Args:
        spec: The data.
        user: The user whose the files are to be; None where nobody knows, for everybody's.
        read_only: Whether they cannot be written to.
    """
    bucket, path = str(spec.place["bucket"]), str(spec.place.get("path") or "").strip("/")
    directory = dirname(path) if spec.is_file else path
    options = ["implicit-dirs", *([f"only-dir={directory}"] if directory else [])]
    if user is None:
        options += ["file-mode=666", "dir-mode=777"]
    elif user:
        options += [f"uid={user}", f"gid={user}"]
    return {
        "csi": {
            "driver": FUSE_DRIVER,
            "readOnly": read_only,
            "volumeAttributes": {"bucketName": bucket, "mountOptions": ",".join(options)},
        }
    }


def scratch(size: str) -> dict[str, Any]:
    """Return an empty volume that is gone with its pod: of the node's disk, or a disk of its own.

    https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes
    """
    if bytes_of(size) <= LARGEST_EMPTY_DIR_BYTES:
        return {"emptyDir": {"sizeLimit": size}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def _claim(volume: VolumeSpec) -> dict[str, Any]:
    source: dict[str, Any] = {"claimName": volume.claim}
    if volume.read_only:
        source["readOnly"] = True
    return {"persistentVolumeClaim": source}


def _copied(spec: DataSpec) -> dict[str, Any]:
    if not spec.in_memory:
        return {"emptyDir": {}}
    limit = {"sizeLimit": _quantity(_bytes_on_disk(spec))} if spec.size_bytes else {}
    return {"emptyDir": {"medium": "Memory", **limit}}


def _needs_group(volume: Mapping[str, Any], mount: Mapping[str, Any]) -> bool:
    """Whether a disk is root's until a group of the pod's is given it."""
    return "ephemeral" in volume or (
        "persistentVolumeClaim" in volume and not mount.get("readOnly", False)
    )


def _room(asked: Asked) -> tuple[int, int, int]:
    """Return the bytes that are taken of a node's disk, its memory, and `/dev/shm`."""
    of_volumes = {volume.data for volume in asked.volumes}
    copies = [(number, spec) for number, spec in enumerate(asked.data) if spec.mode == "copy"]
    disk = sum(_bytes_on_disk(spec) for _, spec in copies if not spec.in_memory)
    disk += sum(
        bytes_of(volume.size)
        for volume in asked.volumes
        if volume.kind == "scratch" and "emptyDir" in scratch(volume.size)
    )
    memory = sum(_bytes_on_disk(spec) for _, spec in copies if spec.in_memory)
    shared = sum(
        _bytes_on_disk(spec)
        for number, spec in copies
        if spec.in_memory and number not in of_volumes
    )
    return disk, memory, shared


def _bytes_on_disk(spec: DataSpec) -> int:
    """Return about how much room files take, with the ends of their last blocks and their lists."""
    if spec.size_bytes is None:
        return 0
    lists = 2 * _BLOCK_BYTES
    return spec.size_bytes + lists + (spec.files or 1) * (_BLOCK_BYTES + _LISTED_BYTES)


def _sum(quantity: object, size: int) -> str:
    text = str(quantity)
    try:
        return _quantity(bytes_of(text) + size)
    except ValueError:
        # In a unit that none of our sizes has, such as `1E`: there is room enough.
        return text


def _quantity(size: int) -> str:
    return f"{-(-size // _MEBIBYTE)}Mi"
