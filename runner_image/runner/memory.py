"""Whether the kernel killed a process for want of memory, as the container's cgroup tells.

Where it kills the function's process alone, Kubernetes knows nothing of it: only the cgroup does.
https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files, and for version 1
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from __future__ import annotations

import os
from typing import NamedTuple

CGROUP = "/sys/fs/cgroup"
OUT_OF_MEMORY = "the container ran out of memory"
NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes a huge number where there is no limit."""


class _Files(NamedTuple):
    kills: str
    limit: str
    peak: str


_VERSIONS = (
    _Files("memory.events", "memory.max", "memory.peak"),
    _Files(
        "memory/memory.oom_control",
        "memory/memory.limit_in_bytes",
        "memory/memory.max_usage_in_bytes",
    ),
)


def count_kills(root: str = CGROUP) -> int:
    """Return how many processes of this container were killed for want of memory so far."""
    return next((_kills(root, files) for files in _VERSIONS if _read(root, files.kills)), 0)


def describe_kill(kills_before: int, root: str = CGROUP) -> str | None:
    """Say that memory ran out since processes were counted; None when it did not.

    Args:
        kills_before: What `count_kills` returned then.
        root: Where cgroups are mounted.
    """
    for files in _VERSIONS:
        if _kills(root, files) > kills_before:
            limit, peak = _bytes(root, files.limit), _bytes(root, files.peak)
            numbers = [f"limit {_gibibytes(limit)}"] if limit else []
            numbers += [f"peak {_gibibytes(peak)}"] if peak else []
            known = f" ({', '.join(numbers)})" if numbers else ""
            return f"{OUT_OF_MEMORY}{known}"
    return None


def limit_bytes(root: str = CGROUP) -> int | None:
    """Return how much memory this container may take; None where there is no limit."""
    return next((limit for files in _VERSIONS if (limit := _bytes(root, files.limit))), None)


def usable_bytes(root: str = CGROUP, proc: str = "/proc") -> int:
    """Return how much memory processes from here may take: what is free, of what is allowed.

    Args:
        root: Where cgroups are mounted.
        proc: Where the kernel tells of memory (https://man7.org/linux/man-pages/man5/proc.5.html).
    """
    limit = limit_bytes(root) or NO_LIMIT_BYTES
    for line in _read(proc, "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return min(limit, int(rest.split()[0]) << 10)
    return limit


def _kills(root: str, files: _Files) -> int:
    for line in _read(root, files.kills).splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isdigit():
            return int(number)
    return 0


def _bytes(root: str, name: str) -> int | None:
    text = _read(root, name).strip()
    number = int(text) if text.isdigit() else None
    return number if number and number < NO_LIMIT_BYTES else None


def _read(root: str, name: str) -> str:
    try:
        with open(os.path.join(root, name), encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def _gibibytes(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
