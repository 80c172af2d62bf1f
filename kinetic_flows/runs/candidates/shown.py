"""What is shown of a run while none of its candidates has begun."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.core.candidates import Candidates
from kinetic_flows.core.launcher import STARTING, Observation, Phase


def shown_pending(
    candidates: Candidates, launches: Mapping[int, Observation], cannot: str
) -> Observation:
    """Return a run that waits for one of several launches, as one that waits.

    Args:
        candidates: What it may go on.
        launches: The launches by candidate.
        cannot: Why nothing can be started from here; empty where it can.
    """
    if cannot or not launches:
        return Observation(phase=Phase.PENDING, reason=cannot, cause=STARTING)
    names = {place: candidates.candidates[place].accelerator for place in launches}
    if len(launches) == 1:
        ((place, seen),) = launches.items()
        reason = f"{names[place]}: {seen.reason}" if _waits(seen) else ""
        return Observation(
            phase=Phase.PENDING,
            reason=reason,
            cause=seen.cause if _waits(seen) else STARTING,
            is_outdated=seen.is_outdated,
        )
    told = [
        f"{names[place]}: {seen.message or seen.reason}"
        for place, seen in launches.items()
        if _waits(seen)
    ]
    causes = {seen.cause if _waits(seen) else STARTING for seen in launches.values()}
    return Observation(
        phase=Phase.PENDING,
        reason="; ".join(told),
        cause=STARTING if STARTING in causes else min(causes),
        is_outdated=any(seen.is_outdated for seen in launches.values()),
    )


def _waits(seen: Observation) -> bool:
    """Whether a launch has something to say of why it has not begun."""
    return seen.phase is not Phase.RUNNING and bool(seen.message or seen.reason)
