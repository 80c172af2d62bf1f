"""Volumes of a run: what is at paths of its file system, mounted there already or made here.

Pods have theirs from the cluster. On one's own machine, which says so by `KINETIC_VOLUMES`, the
function's process sees them in a mount namespace; where it can have none, links are made, and taken
away when the last run that uses them has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from .contract import EXIT_OBJECT_UNAVAILABLE, EXIT_RUNTIME_UNFIT, Fault
from .links import Taken, have_directory, have_link

VOLUMES_VARIABLE = "KINETIC_VOLUMES"
"""Names the directory in which it is noted who uses what; unset where volumes are there already."""

MAKE_ROOM = "`kinetic pool create` brings the work pool's template up to date"
INSTEAD = (
    "pass it to the function as an argument, kinetic.Data(...): that is a path in its run anywhere"
)


class Place(NamedTuple):
    """What volumes are made with.

    Attributes:
        environ: The run's variables.
        scratch: A directory that lasts as long as this process.
        say: Takes lines that are told of the run.
        leaving: Takes what is to be done when the run has ended.
    """

    environ: Mapping[str, str]
    scratch: str
    say: Callable[[str], None]
    leaving: ExitStack


def own_directories(job: Mapping[str, Any], environ: Mapping[str, str]) -> dict[int, str]:
    """Return which data goes into directories that are the run's own, by its place in the job.

    Args:
        job: The job.
        environ: The run's variables.
    """
    if VOLUMES_VARIABLE in environ:
        return {}
    return {
        volume["data"]: volume["path"]
        for volume in job.get("volumes") or ()
        if volume["kind"] == "data" and job["data"][volume["data"]]["mode"] == "copy"
    }


def have_volumes(
    volumes: Sequence[Mapping[str, Any]], data: Sequence[str], place: Place
) -> list[dict[str, Any]]:
    """See to it that the function finds the job's volumes.

    Args:
        volumes: The job's `volumes`.
        data: Where its data is.
        place: What volumes are made with.

    Returns:
        What the function's process has to mount for itself.

    Raises:
        Fault: One of them is not there, and cannot be.
    """
    directory = place.environ.get(VOLUMES_VARIABLE)
    if directory is None:
        for volume in volumes:
            _check_mounted(volume)
        return []
    mounts = [_mount(number, volume, data, place) for number, volume in enumerate(volumes)]
    mounts = [mount for mount in mounts if not _is_there(mount)]
    obstacle = _obstacle(mounts)
    have = have_link if obstacle else have_directory
    for mount in mounts:
        try:
            held = have(mount["path"], mount["source"], directory)
        except (Taken, OSError) as error:
            raise _cannot(mount["path"], error, obstacle) from error
        place.leaving.callback(held.release)
    if obstacle and mounts:
        paths = ", ".join(mount["path"] for mount in mounts)
        place.say(f"{paths} linked while the run goes on: nothing can be mounted ({obstacle})")
    return [] if obstacle else mounts


def require_mounted(path: str, source: str) -> None:
    """Check that Cloud Storage is mounted, and can be read.

    Raises:
        Fault: It is not.
    """
    if not os.path.lexists(path):
        where = f"{source} is not mounted at {path}"
        message = f"{where}: the run's pod has no volume there, or the bucket nothing; {MAKE_ROOM}"
        raise Fault(EXIT_RUNTIME_UNFIT, message)
    try:
        if os.path.isdir(path):
            os.scandir(path).close()
        else:
            open(path, "rb").close()
    except OSError as error:
        raise Fault(
            EXIT_OBJECT_UNAVAILABLE,
            f"{source} is mounted at {path} and cannot be read: {error.strerror}; may the pod's "
            "service account read the bucket? `kinetic plan` shows the command that grants it",
        ) from error


def _check_mounted(volume: Mapping[str, Any]) -> None:
    """Check what a cluster was to mount."""
    path = volume["path"]
    if not os.path.isdir(path):
        message = f"nothing is mounted at {path}: the run's pod has no volume there; {MAKE_ROOM}"
        raise Fault(EXIT_RUNTIME_UNFIT, message)
    try:
        os.scandir(path).close()
    except OSError as error:
        message = f"what is mounted at {path} cannot be read: {error.strerror}"
        raise Fault(EXIT_OBJECT_UNAVAILABLE, message) from error
    if not volume["read_only"] and not os.access(path, os.W_OK):
        owner = os.stat(path)
        raise Fault(
            EXIT_RUNTIME_UNFIT,
            f"{path} cannot be written to by user {os.geteuid()}: it is user {owner.st_uid}'s and "
            f"group {owner.st_gid}'s, with the mode {owner.st_mode & 0o7777:o}; say "
            "job_variables={'pod_security_context': {'fsGroup': ...}} with a group that may",
        )


def _mount(
    number: int, volume: Mapping[str, Any], data: Sequence[str], place: Place
) -> dict[str, Any]:
    """Return what is to be where for one volume, its directory made."""
    own = os.path.join(place.scratch, "volumes", str(number))
    if volume["kind"] == "scratch":
        os.makedirs(own, exist_ok=True)
        return {"path": volume["path"], "source": own, "read_only": False}
    if volume["kind"] != "data":
        message = f"{volume['path']} is a PersistentVolumeClaim, which this machine has none of"
        raise Fault(EXIT_RUNTIME_UNFIT, message)
    source = data[volume["data"]]
    if not os.path.isdir(source):
        # A volume is a directory: a single file is in it under its own name.
        os.makedirs(own, exist_ok=True)
        link = os.path.join(own, os.path.basename(source))
        if not os.path.lexists(link):
            os.symlink(source, link)
        source = own
    return {"path": volume["path"], "source": source, "read_only": volume["read_only"]}


def _is_there(mount: Mapping[str, Any]) -> bool:
    """Whether a directory is where it is to be anyway."""
    path, source = mount["path"], mount["source"]
    return not os.path.islink(path) and os.path.realpath(path) == os.path.realpath(source)


def _obstacle(mounts: Sequence[Mapping[str, Any]]) -> str:
    """Return why nothing can be mounted for a process alone; empty where it can."""
    if not mounts:
        return ""
    from . import mounts as mounts_module

    loader = getattr(mounts_module.__spec__, "loader", None)
    source = loader.get_source(mounts_module.__name__) if loader else ""
    own = [sys.executable, "-I", "-S", "-c", source or ""]
    standing = [{**mount, "path": _standing(mount["path"])} for mount in mounts]
    tried = subprocess.run(
        [*own, json.dumps(standing)], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if not tried.returncode:
        return ""
    lines = (tried.stdout.strip() or tried.stderr.strip()).splitlines()
    return lines[-1] if lines else f"exit code {tried.returncode}"


def _standing(path: str) -> str:
    """Return what stands for a path when it is tried: the directory that it would be made in."""
    parent = path
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return parent if parent != path and os.access(parent, os.W_OK) and parent != "/" else path


def _cannot(path: str, error: Exception, obstacle: str) -> Fault:
    why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    also = f", and nothing can be mounted ({obstacle})" if obstacle else ""
    return Fault(EXIT_RUNTIME_UNFIT, f"the run cannot have {path}: {why}{also}; {INSTEAD}")
