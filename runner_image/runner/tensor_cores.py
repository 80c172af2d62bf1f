"""How much of what the tensor cores of TPU chips can do they did: libtpu's monitoring library.

It comes with libtpu, of which the process that has the chips says where it is, and is asked from a
process of its own, as `tpu-info` does. Older versions have none.
https://cloud.google.com/tpu/docs/tpu-monitoring-library
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from .chip_asking import Asker

ASK = """
import json, sys
sys.path.append(sys.argv[1])
library = None
for line in sys.stdin:
    try:
        if library is None:
            from libtpu.sdk import tpumonitoring as library
        used = [float(each) for each in library.get_metric("tensorcore_util").data()]
    except Exception:
        used = []
    print(json.dumps({"used": used}), flush=True)
"""
"""Answers every line of its input with the per cent of each core."""


class TensorCores:
    """Asks about the tensor cores of this container's TPU chips.

    Args:
        environ: The variables of who may use them.
        processes: Where the kernel lists processes.
    """

    def __init__(self, environ: Mapping[str, str], processes: str) -> None:
        self._environ = environ
        self._processes = processes
        self._asker: Asker | None = None

    def read(self, chips: int) -> list[float | None]:
        """Return the mean of each chip's cores, in per cent; None for what is not known.

        Args:
            chips: How many chips there are.
        """
        unknown: list[float | None] = [None] * chips
        if self._asker is None:
            place = place_of_library(self._processes)
            if place is None:
                return unknown
            self._asker = Asker(ASK, [place], self._environ)
        try:
            answer = self._asker.ask()
        except (OSError, ValueError):
            return unknown
        used = answer["used"] if answer else []
        each = len(used) // chips if chips else 0
        if not each:
            return unknown
        return [sum(used[n * each : (n + 1) * each]) / each for n in range(chips)]

    def close(self) -> None:
        """End the process that asks."""
        if self._asker is not None:
            self._asker.close()


def place_of_library(processes: str) -> str | None:
    """Return where packages are of which a process has loaded libtpu; None where none has.

    Args:
        processes: Where the kernel lists processes.
    """
    with suppress(OSError):
        for process in os.listdir(processes):
            if process.isdigit() and (found := _loaded_by(os.path.join(processes, process))):
                return found
    return None


def _loaded_by(process: str) -> str | None:
    with suppress(OSError), open(os.path.join(process, "maps"), errors="replace") as maps:
        for line in maps:
            # Addresses, rights, offset, device and inode come before the path.
            path = line.rstrip("\n").split(maxsplit=5)[-1]
            if path.endswith("/libtpu/libtpu.so"):
                return os.path.dirname(os.path.dirname(path))
    return None
