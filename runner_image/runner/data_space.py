"""Room for data: whether there is enough of it, and what is said when there is not."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .contract import EXIT_DATA_UNAVAILABLE, NO_ROOM, Fault
from .data_work import in_words
from .memory import limit_bytes

MEMORY = "/dev/shm"  # noqa: S108 - the directory that is in memory
BLOCK_BYTES = 4096


class Room:
    """Where a copy is written to.

    Args:
        directory: A directory of the file system that has it.
        what: What is copied, for people.
        environ: This process's environment, which tells what people can change.
        in_memory: Whether it is kept in memory.
    """

    def __init__(
        self, directory: str, what: str, environ: Mapping[str, str], *, in_memory: bool = False
    ) -> None:
        self._directory = directory
        self._what = what
        self._is_pod = "KUBERNETES_SERVICE_HOST" in environ
        self._in_memory = in_memory
        self._size_bytes: int | None = None

    def require(self, size_bytes: int | None, files: int | None, place: str) -> None:
        """Check that there is enough room, as far as that is known.

        Args:
            size_bytes: How large the data is; None where nobody knows.
            files: How many files it has; None where nobody knows.
            place: A directory that may have some of it already.

        Raises:
            Fault: There is not.
        """
        self._size_bytes = size_bytes
        state = os.statvfs(self._directory)
        # Each file ends in a block that is not full.
        needed = (size_bytes or 0) + (files or 0) * BLOCK_BYTES // 2
        free = state.f_bavail * state.f_frsize
        if needed > free and needed - _taken(place) > free:
            raise self.full()
        # Some file systems count no files, and say 0 of them.
        if state.f_files and files and files > state.f_favail:
            message = f"{self._what} has {files:,} files, and {self._directory} has room for"
            raise Fault(
                EXIT_DATA_UNAVAILABLE, f"{message} {state.f_favail:,} (inodes); {self._help}"
            )
        limit = limit_bytes() if self._in_memory else None
        if limit is not None and needed > limit:
            raise Fault(
                EXIT_DATA_UNAVAILABLE,
                f"{self._what} needs {in_words(needed)} in memory, and the container's limit is "
                f"{in_words(limit)}; raise memory in job_variables, or leave in_memory out",
            )

    def full(self) -> Fault:
        """Return what is raised when there is no room (left)."""
        state = os.statvfs(self._directory)
        free = in_words(state.f_bavail * state.f_frsize)
        where = f"{self._directory} has {free} free"
        needs = f"it needs {in_words(self._size_bytes)}, and " if self._size_bytes else ""
        message = f"there is no room for {self._what}: {needs}{where}; {self._help}"
        return Fault(EXIT_DATA_UNAVAILABLE, message)

    def fault(self, error: OSError) -> Fault:
        """Return what is raised for an error in writing."""
        if error.errno in NO_ROOM:
            return self.full()
        name = f"{error.filename}: " if error.filename else ""
        message = f"{self._what} cannot be written: {name}{error.strerror or error}"
        return Fault(EXIT_DATA_UNAVAILABLE, message)

    @property
    def _help(self) -> str:
        if self._in_memory and self._is_pod:
            return "raise shared_memory in job_variables, or leave in_memory out"
        if self._in_memory:
            return "leave in_memory out, or give this machine a larger /dev/shm"
        if self._is_pod:
            return "raise ephemeral_storage in job_variables, or mount it (mode='mount')"
        return "make room there, or set KINETIC_HOME to a directory of a larger disk"


def _taken(place: str) -> int:
    """Return how much room is taken by what is in a directory."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_blocks * 512
        for folder, _, names in os.walk(place)
        for name in names
    )
