"""The door: a file that tells what is started beside a run's processes where they are.

`kinetic runs stacks`, `shell` and the like start a process beside them, in the same pod or on this
machine. It finds the door of the run and host that it is told (`runner_image/way_in.py`), in the
directory that only the run's user may enter.
"""

from __future__ import annotations

import json
import os
import sys
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


def open_door(
    *, run_id: str, host: int, archive: str, scratch: str, worker: int, directory: str
) -> None:
    """Say where a host's processes are, in the place of what was said before.

    Args:
        run_id: The run.
        host: The host's number.
        archive: The runner's zip archive.
        scratch: The directory that the bootstrap has made.
        worker: Process id of the worker.
        directory: The worker's directory.
    """
    door = Door(run_id, host, sys.executable, archive, scratch, worker, directory)
    path = os.path.join(scratch, DOOR_FILE)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(door._asdict(), file)
    os.replace(path + ".new", path)


def read_door(path: str) -> Door:
    """Return what a door says."""
    with open(path, encoding="utf-8") as file:
        fields: dict[str, Any] = json.load(file)
    return Door(**fields)
