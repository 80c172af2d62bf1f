"""The last rehearsal of a function, as a plan tells it: a line, and the same for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kinetic_flows.core.moments import ago


@dataclass(frozen=True, kw_only=True)
class PlannedRehearsal:
    """What the last rehearsal said of an accelerator.

    Attributes:
        made_at: When it was made.
        outcome: What it was made of, if not of this code and these packages, and what it said.
        document: The same as plain JSON values, by accelerator, subject, steps and their memory.
    """

    made_at: datetime
    outcome: str
    document: Mapping[str, Any] = field(default_factory=dict)

    def words(self, now: datetime) -> str:
        """Return it in a line: `2h ago: fits, 12.30 of 31.25 GiB a device`.

        Args:
            now: The time that it is.
        """
        return f"{ago(min(self.made_at, now), now)}{self.outcome}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return dict(self.document)
