"""What `kinetic runs cp` writes among a run's files; see `carrying.py`."""

from __future__ import annotations

from collections.abc import Sequence

from .carrying import main as carry
from .door import Door
from .inside import go_inside


def main(door: Door, arguments: Sequence[str]) -> int:
    """Write standard input to a path, as the function sees it; the command `take`."""
    go_inside(door)
    return carry(["take", *arguments])
