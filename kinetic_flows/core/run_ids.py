"""Ids of runs as people see them and type them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from kinetic_flows.core.errors import RunNotFoundError

SHORT_CHARACTERS = 8
"""How much is shown of an id: its beginning, or its end where it begins with the time (UUIDv7).

Prefect makes the ids of scheduled runs by time: all of a minute share their first characters.
https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7
"""

END_CHARACTERS = 6
"""How many characters of an id's end are needed to name it."""

CANDIDATES = 5
"""How many runs an error names that a beginning fits."""


def short_id(run_id: str) -> str:
    """Return the part of an id that tells it from others in most cases."""
    return _part(run_id, SHORT_CHARACTERS)


def short_ids(run_ids: Sequence[str]) -> list[str]:
    """Return parts of some ids, no two of which are the same unless the ids are."""
    parts: dict[str, str] = {}
    left = set(run_ids)
    for count in range(SHORT_CHARACTERS, max(map(len, left), default=0) + 1):
        fits = Counter(_part(run_id, count) for run_id in left)
        told = {run_id for run_id in left if fits[_part(run_id, count)] == 1}
        parts |= {run_id: _part(run_id, count) for run_id in told}
        left -= told
    return [parts.get(run_id, run_id) for run_id in run_ids]


def completed(beginning: str, known: Mapping[str, str], what: str = "run") -> str:
    """Return the id that begins or ends with a text, with or without its dashes.

    Args:
        beginning: The text; of an end at least `END_CHARACTERS`.
        known: What is said of each id that there is.
        what: What has these ids.

    Raises:
        RunNotFoundError: No id begins or ends with it, or several do.
    """
    fits = [each for each in known if is_part(beginning, each)]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise RunNotFoundError(
            f"no {what}'s id starts or ends with {beginning!r}",
            value=beginning,
            hint="see `kinetic runs ls`",
        )
    pairs = zip(short_ids(fits), fits, strict=True)
    told = [f"{short} ({known[run_id]})" for short, run_id in pairs]
    more = f" and {len(told) - CANDIDATES} more" if len(told) > CANDIDATES else ""
    raise RunNotFoundError(
        f"{len(fits)} {what}s have an id that starts or ends with {beginning!r}",
        value=beginning,
        hint=f"say which: {', '.join(told[:CANDIDATES])}{more}",
    )


def is_part(text: str, run_id: str) -> bool:
    """Whether an id begins with a text, or ends with one that is long enough."""
    wanted, digits = (each.lower().replace("-", "") for each in (text, run_id))
    is_end = len(wanted) >= END_CHARACTERS and digits.endswith(wanted)
    return bool(wanted) and (digits.startswith(wanted) or is_end)


def _part(run_id: str, count: int) -> str:
    """Return so many characters of an id: its first, or its last where time comes first."""
    try:
        is_timed = UUID(run_id).version == 7
    except ValueError:
        return run_id
    return run_id[-count:].lstrip("-") if is_timed else run_id[:count].rstrip("-")
