"""Copies of data that runs have left on a machine, for other runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class DataCopy:
    """A copy of data, or what an interrupted run has left of one.

    Attributes:
        key: Names it among the others.
        source: Where the data comes from; empty for what is not whole.
        size_bytes: The room that it takes.
        used: When a run used it last.
    """

    key: str
    source: str
    size_bytes: int
    used: datetime


class DataCopies(Protocol):
    """Where runs keep copies of data."""

    def unused_since(self, moment: datetime) -> Sequence[DataCopy]:
        """Return the copies that no run has used since a moment, or uses now."""
        ...

    def remove(self, copy: DataCopy) -> bool:
        """Remove a copy, unless a run uses it by now; return whether it is gone."""
        ...
