"""Removing launches that no driver has withdrawn: whoever drove their run has died."""

from __future__ import annotations

from kinetic_flows.core.candidates import Launch
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.candidates.decide import is_withdrawn
from kinetic_flows.runs.candidates.rounds import Rounds

_RUN_ID_CHARACTERS = 36


def withdraw_left_over(platform: Platform) -> tuple[str, ...]:
    """Delete the launches of all runs that are not to begin any more; return their keys.

    Args:
        platform: Where they are; one that does not show its processes has none removed.

    Raises:
        KineticError: The cluster or the store does not answer.
    """
    if not platform.may_see_processes:
        return ()
    launcher, withdrawn = platform.launcher, []
    keys = launcher.launches()
    for run_id in sorted({key[:_RUN_ID_CHARACTERS] for key in keys}):
        rounds = Rounds(platform.store, run_id)
        known, is_over = rounds.read(), rounds.has_result()
        for key in keys:
            if not key.startswith(run_id):
                continue
            launch = Launch.parse(key.removeprefix(f"{run_id}-"))
            if is_withdrawn(known, launch, is_over=is_over):
                launcher.discard(key)
                withdrawn.append(key)
    return tuple(withdrawn)
