"""A finding: why a run ended as it did, in one sentence, with what says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kinetic_flows.runs.insight.evidence import Evidence

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why a run ended.

    Attributes:
        cause: The cause in one word, for programs.
        sentence: The likely cause, in one sentence that names the host.
        host: The host that it befell; None where it is none in particular, or not known.
        evidence: What says so, line by line.
        hint: What to do about it; empty when there is nothing to do.
        is_certain: Whether somebody has said so, else it is only likely.
    """

    cause: str
    sentence: str
    host: int | None = None
    evidence: tuple[str, ...] = ()
    hint: str = ""
    is_certain: bool = True


Rule = Callable[[Evidence], Finding | None]
"""Says why a run ended, where it is of the kind that the rule knows; else None."""
