"""Whether a run on this machine can have its volumes: asked before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.volumes import Volume

VOLUMES_VARIABLE = "KINETIC_VOLUMES"
"""Environment variable that names the directory in which runs note what they link where."""

AS_ARGUMENT = (
    "pass it to the function as an argument, kinetic.Data(...): that is a path in its run anywhere"
)


def check_volumes(volumes: Mapping[str, Volume]) -> None:
    """Refuse volumes that a run on this machine cannot have.

    Args:
        volumes: The volumes, by path.

    Raises:
        UsageError: One of them is the cluster's, or cannot be at its path.
    """
    for volume in volumes.values():
        _check_kind(volume)
    missing = [volume for volume in volumes.values() if not _is_there(volume)]
    if not missing:
        return
    obstacle = mount_obstacle([volume.path for volume in missing])
    if obstacle:
        _require_links(missing, obstacle)


def _check_kind(volume: Volume) -> None:
    named = f"volumes[{volume.path!r}]"
    if volume.kind == "claim":
        raise UsageError(
            f"{named} is a PersistentVolumeClaim, and runs are on this machine, which has none",
            value=str(volume),
            hint="write kinetic.Data('/a/directory/here') or 'scratch:10Gi', or configure the "
            "cluster that has the claim (KINETIC_PROJECT, KINETIC_CLUSTER)",
        )
    if volume.data is not None and volume.data.mode == "mount" and not volume.read_only:
        raise UsageError(
            f"{named} is to be written to, and on this machine Cloud Storage is copied, not "
            "mounted: what is written would not get there",
            value=str(volume),
            hint="leave read_only=False out here, or configure a cluster",
        )
    if volume.data is not None and _hides_itself(volume):
        raise UsageError(
            f"{named} would hide the file that is to be in it",
            value=str(volume),
            hint="give the file's directory, or another path",
        )


def _hides_itself(volume: Volume) -> bool:
    """Whether a file of this machine is below the path of the volume that it is to be in."""
    assert volume.data is not None
    file = Path(volume.data.source)
    if not file.is_file():
        return False
    is_in = file.resolve().is_relative_to(os.path.realpath(volume.path))
    return is_in or file.is_relative_to(volume.path)


def _is_there(volume: Volume) -> bool:
    """Whether a directory of this machine is where it is to be anyway."""
    if volume.data is None or volume.data.kind != "local" or Path(volume.path).is_symlink():
        return False
    source = Path(volume.data.source)
    return source.is_dir() and os.path.realpath(volume.path) == os.path.realpath(source)


def mount_obstacle(paths: Sequence[str]) -> str:
    """Return why nothing can be mounted for a process alone; empty where it can.

    It is tried, in a process that ends at once.

    Args:
        paths: Where something is to be mounted.
    """
    script = files("kinetic_flows.runner_image").joinpath("runner", "mounts.py")
    with TemporaryDirectory(prefix="kinetic-") as source, as_file(script) as program:
        mounts = [{"path": path, "source": source, "read_only": True} for path in paths]
        tried = subprocess.run(
            [sys.executable, "-I", "-S", str(program), json.dumps(mounts)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if not tried.returncode:
        return ""
    lines = (tried.stdout.strip() or tried.stderr.strip()).splitlines()
    return lines[-1] if lines else f"exit code {tried.returncode}"


def _require_links(volumes: Iterable[Volume], obstacle: str) -> None:
    """Refuse volumes at whose paths no link can be made either.

    Raises:
        UsageError: There is such a path.
    """
    for volume in volumes:
        why = _no_link(Path(volume.path))
        if why:
            raise UsageError(
                f"a run on this machine cannot have {volume} at {volume.path}: nothing can be "
                f"mounted ({obstacle}), and {why}",
                value=volume.path,
                hint=AS_ARGUMENT
                if volume.data is not None
                else "take a path below a directory that you may write to",
            )


def _no_link(path: Path) -> str:
    """Return why no link can be made at a path; empty where one can, or may be there already."""
    if path.is_symlink():
        # Another run's perhaps: the run finds out.
        return ""
    if path.exists():
        return "something is there already, so that no link can be"
    parent = path.parent
    while not parent.is_dir():
        parent = parent.parent
    return "" if os.access(parent, os.W_OK) else f"no link can be made in {parent}"
