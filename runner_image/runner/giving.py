"""What `kinetic runs cp` reads of a run's files; see `carrying.py`."""

from __future__ import annotations

from collections.abc import Sequence

from .carrying import main as carry
from .door import Door
from .inside import go_inside


def main(door: Door, arguments: Sequence[str]) -> int:
    """Write what is at a path, as the function sees it, to standard output; the command `give`."""
    go_inside(door)
    return carry(["give", *arguments])
