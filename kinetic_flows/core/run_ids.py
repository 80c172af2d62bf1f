"""Ids of runs as people see them and type them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from uuid import UUID

from kinetic_flows.core.errors import RunNotFoundError

SHORT_CHARACTERS = 8
TIMED_CHARACTERS = 18
"""How much is shown of an id that begins with the time, as those of scheduled runs do (UUIDv7).

All that are made within a minute share the first eight characters; these hold the millisecond and
something random. https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7
"""

CANDIDATES = 5
"""How many runs an error names that a beginning fits."""


def short_id(run_id: str) -> str:
    """Return the beginning of an id, long enough to tell it from others in most cases."""
    try:
        is_timed = UUID(run_id).version == 7
    except ValueError:
        return run_id
    return run_id[: TIMED_CHARACTERS if is_timed else SHORT_CHARACTERS]


def short_ids(run_ids: Sequence[str]) -> list[str]:
    """Return the beginnings of some ids, no two of which are the same unless the ids are."""
    ordered = sorted(set(run_ids))
    needed = {run_id: len(short_id(run_id)) for run_id in ordered}
    for one, next_one in itertools.pairwise(ordered):
        shared = _shared(one, next_one)
        for run_id in (one, next_one):
            needed[run_id] = max(needed[run_id], shared + 1)
    return [run_id[: needed[run_id]].rstrip("-") for run_id in run_ids]


def completed(beginning: str, known: Mapping[str, str]) -> str:
    """Return the id that begins with a text, with or without its dashes.

    Args:
        beginning: The text.
        known: What is said of each id that there is.

    Raises:
        RunNotFoundError: No id begins with it, or several do.
    """
    wanted = beginning.lower().replace("-", "")
    fits = [each for each in known if wanted and each.replace("-", "").startswith(wanted)]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise RunNotFoundError(
            f"no run's id starts with {beginning!r}", value=beginning, hint="see `kinetic runs ls`"
        )
    pairs = zip(short_ids(fits), fits, strict=True)
    told = [f"{short} ({known[run_id]})" for short, run_id in pairs]
    more = f" and {len(told) - CANDIDATES} more" if len(told) > CANDIDATES else ""
    raise RunNotFoundError(
        f"{len(fits)} runs have an id that starts with {beginning!r}",
        value=beginning,
        hint=f"give more characters of it: {', '.join(told[:CANDIDATES])}{more}",
    )


def _shared(one: str, other: str) -> int:
    """Return how many characters two ids begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
