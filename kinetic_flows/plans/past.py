"""How long something took before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PastRuns:
    """How long something took the last times that it ended well.

    Attributes:
        count: How often.
        median_seconds: Half of them took less.
        last_seconds: How long the last one took.
        last_ended: When it ended.
        phases: The median of each phase of a run that is known, by `plan`, `lock`, `build`,
            `upload`, `wait` (of which `node` and `pull`), `fetch`, `install` and `run`.
    """

    count: int
    median_seconds: float
    last_seconds: float
    last_ended: datetime
    phases: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return {**asdict(self), "last_ended": self.last_ended.isoformat()}
