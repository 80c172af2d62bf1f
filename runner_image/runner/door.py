"""The door: a file that tells what is started beside a run's processes where they are.

`kinetic runs stacks`, `shell` and the like start a process beside them, in the same pod or on this
machine. It finds the door of the run and host that it is told (`runner_image/way_in.py`), in the
directory that only the run's user may enter.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any, NamedTuple

DOOR_FILE = "door.json"
"""Its name, in the scratch directory of a start of a run."""


class Door(NamedTuple):
    """Where a host's processes are.

    Attributes:
        run_id: The run.
        host: The host's number.
        python: The interpreter that they run in.
        archive: The runner's zip archive.
        scratch: The scratch directory.
        worker: Process id of the worker, in which the function runs.
        directory: The worker's directory, with its task.
    """

    run_id: str
    host: int
    python: str
    archive: str
    scratch: str
    worker: int
    directory: str


class Entrance(NamedTuple):
    """Where the door of a host is, whatever its workers are.

    Attributes:
        run_id: The run.
        host: The host's number.
        archive: The runner's zip archive.
        scratch: The directory that the bootstrap has made.
    """

    run_id: str
    host: int
    archive: str
    scratch: str


def open_door(entrance: Entrance, worker: int, directory: str) -> Door:
    """Say where a host's processes are, in the place of what was said before; return it.

    Args:
        entrance: Where the door is.
        worker: Process id of the worker.
        directory: The worker's directory.
    """
    run_id, host, archive, scratch = entrance
    door = Door(run_id, host, sys.executable, archive, scratch, worker, directory)
    path = os.path.join(scratch, DOOR_FILE)
    # On a full disk a run goes on that cannot be looked into.
    with suppress(OSError):
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(door._asdict(), file)
        os.replace(path + ".new", path)
    return door


def close_door(entrance: Entrance) -> None:
    """Say that no function runs, since its process is over."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(entrance.scratch, DOOR_FILE))


def read_door(path: str) -> Door:
    """Return what a door says."""
    with open(path, encoding="utf-8") as file:
        fields: dict[str, Any] = json.load(file)
    return Door(**fields)
