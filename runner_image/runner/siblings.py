"""The hosts of a run that are processes of one machine, where nothing else looks after them.

In a cluster, the Job ends the pods of all hosts when that of one was killed. Here each process
looks whether the others live: whoever has ended as it should has left a result before.

    KINETIC_HOSTS_DIRECTORY   where the launch keeps a record of each process, and a file that the
                              process holds a lock on while it lives
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from .contract import Fault, failed_host_object, host_result_object
from .stores import BucketStore, DirectoryStore

DIRECTORY_VARIABLE = "KINETIC_HOSTS_DIRECTORY"

RECORDED_SECONDS = 60.0
"""How long after this process began another one that is not recorded may still come."""


class Siblings:
    """The processes of the other hosts, if they are of this machine.

    Args:
        store: Where results are left.
        job: The job.
        host: Which host this is.
        starts: Where starts leave marks; see `contract.starts_prefix`.
        environ: This process's environment.
    """

    def __init__(
        self,
        store: DirectoryStore | BucketStore,
        job: Mapping[str, Any],
        host: int,
        starts: str,
        environ: Mapping[str, str],
    ) -> None:
        self._store = store
        self._starts = starts
        self._result: str = job["result"]
        self._others = [number for number in range(job["hosts"]) if number != host]
        self._directory = environ.get(DIRECTORY_VARIABLE, "")
        self._began = time.monotonic()

    @property
    def are_here(self) -> bool:
        """Whether they are processes of this machine."""
        return bool(self._directory)

    def lost(self) -> int | None:
        """Return the first that ended without a word, or never began; None for none such."""
        if not self.are_here:
            return None
        return next((number for number in self._others if self._is_lost(number)), None)

    def _is_lost(self, number: int) -> bool:
        suffix = f"-{number}" if number else ""
        record = os.path.join(self._directory, f"process{suffix}.json")
        if not os.path.exists(record):
            # Each is recorded a moment after it was started, unless who starts them is gone.
            return time.monotonic() - self._began > RECORDED_SECONDS
        if is_held(os.path.join(self._directory, f"alive{suffix}")):
            return False
        left = host_result_object(self._starts, number) if number else self._result
        return not any(map(self._has, (left, failed_host_object(self._starts))))

    def _has(self, name: str) -> bool:
        try:
            with self._store.open(name, 0):
                return True
        except Fault:
            return False


def is_held(path: str) -> bool:
    """Whether a process holds a lock on a file; True, too, where that cannot be told."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
