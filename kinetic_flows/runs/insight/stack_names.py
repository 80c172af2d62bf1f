"""Names of threads and files without what differs from host to host, and hosts in words."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBERS = re.compile(r"0x[0-9a-f]+|[0-9]+|(?<=kinetic-)[0-9a-f]{16}")


def without_numbers(text: str) -> str:
    """Return a name without numbers, addresses and the names of runs' directories."""
    return _NUMBERS.sub("#", text)


def in_words(hosts: Sequence[int]) -> str:
    """Return hosts' numbers as people write them: `host 2`, `hosts 0, 1, 4 to 7`."""
    runs: list[list[int]] = []
    for host in sorted(hosts):
        if runs and host == runs[-1][-1] + 1:
            runs[-1].append(host)
        else:
            runs.append([host])
    parts = [
        f"{each[0]} to {each[-1]}" if len(each) > 2 else ", ".join(map(str, each)) for each in runs
    ]
    return f"host{'' if len(hosts) == 1 else 's'} {', '.join(parts)}"
