"""Where compiled programs are while a run goes on, and what JAX is told of them."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .compile_watch import ARRIVING_FILE, FILLED_FILE
from .contract import DEVICES_VARIABLE

if TYPE_CHECKING:
    from .preparing import Start

DIRECTORY_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
ENABLE_VARIABLE = "JAX_ENABLE_COMPILATION_CACHE"
LEAST_SECONDS_VARIABLE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
XLA_VARIABLE = "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"
SOURCES_VARIABLE = "JAX_HLO_SOURCE_FILE_CANONICALIZATION_REGEX"
"""https://docs.jax.dev/en/latest/persistent_compilation_cache.html."""

OF_GPUS = "/tmp/kinetic-compiled"  # noqa: S108 - see `Places`
LOCK_FILE = ".lock"

_OFF = ("0", "false", "f", "no", "n", "off")


class Places(NamedTuple):
    """Where compiled programs are, for this user alone.

    With the caches of XLA for GPUs, JAX has the directory's path in the keys of all programs (from
    0.4.36 on; `get_compile_options` sets a flag that `cache_key.py` leaves in): programs are found
    again in a directory of the same name only. So runs on GPUs have one with a name that is always
    the same, and all others have those caches off, which are of no use to them.

    Attributes:
        directory: What JAX is told of.
        told: What the function's process and the supervisor tell one another by.
        variables: What tells JAX.
    """

    directory: str
    told: str
    variables: Mapping[str, str]

    @classmethod
    def of(cls, start: Start, said: Mapping[str, str]) -> Places | None:
        """Make the directories; None where JAX has been told something already.

        Args:
            start: The start of the run.
            said: The variables that the caller and the image have set.

        Raises:
            OSError: There is no room for them.
        """
        is_off = said.get(ENABLE_VARIABLE, "").lower() in _OFF
        if DIRECTORY_VARIABLE in said or (ENABLE_VARIABLE in said and is_off):
            return None
        told = os.path.join(start.lasting, "compiled-told")
        is_first = not os.path.isdir(told)
        os.makedirs(told, mode=0o700, exist_ok=True)
        directory = ""
        variables: dict[str, str] = {}
        is_on_gpu = start.environ.get(DEVICES_VARIABLE, "").startswith("gpu:")
        if said.get(XLA_VARIABLE, "all" if is_on_gpu else "none") != "none":
            directory = _of_gpus(start, is_first=is_first)
        if not directory:
            directory = os.path.join(start.lasting, "compiled")
            os.makedirs(directory, mode=0o700, exist_ok=True)
            variables[XLA_VARIABLE] = "none"
        variables |= {
            DIRECTORY_VARIABLE: directory,
            # Loading even the smallest is faster than compiling it: a hundred operations, each a
            # program, take a third of the time, and writing them takes next to nothing.
            LEAST_SECONDS_VARIABLE: "0",
            # Kernels in Pallas have the names of their files in them, and so in their keys: what
            # is taken away is another one in each run.
            SOURCES_VARIABLE: rf"^{re.escape(start.lasting)}/(start-\d+/)?",
        }
        unsaid = {name: value for name, value in variables.items() if name not in said}
        return cls(directory, told, unsaid)

    def tell_arriving(self) -> None:
        """Tell the function's process that something has come just now."""
        self._touch(ARRIVING_FILE)

    def tell_filled(self) -> None:
        """Tell the function's process that nothing more comes."""
        self._touch(FILLED_FILE)

    def _touch(self, name: str) -> None:
        path = os.path.join(self.told, name)
        # It waits a few seconds longer, or not at all, where the disk is full.
        with suppress(OSError):
            with open(path, "ab"):
                pass
            os.utime(path)


def _of_gpus(start: Start, *, is_first: bool) -> str:
    """Return the directory that has always the same name; empty where another run has it.

    Args:
        start: The start of the run.
        is_first: Whether it is the first of this process, so that what is there is a dead run's.
    """
    import fcntl

    try:
        with suppress(FileExistsError):
            os.mkdir(OF_GPUS, 0o700)
        found = os.lstat(OF_GPUS)
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not is_own or found.st_mode & 0o077:
            return ""
        # Kept for as long as this process lives, all of whose starts may have it.
        lock = os.open(
            os.path.join(OF_GPUS, LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return ""
    if is_first:
        _empty(OF_GPUS)
        start.leaving.callback(shutil.rmtree, OF_GPUS, ignore_errors=True)
    return OF_GPUS


def _empty(directory: str) -> None:
    for entry in list(os.scandir(directory)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.name != LOCK_FILE:
            os.unlink(entry.path)
