"""Finding the change that moved a value: which mixtures to run, and what they have shown.

Changes are taken over in a fixed order, so a mixture is the number of them that it has. The first
mixture is as the good run, the last as the bad one; between a good and a bad one there is always a
change that moved the value, however many there are that do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What came of a mixture."""

    GOOD = "good"
    BAD = "bad"
    BROKEN = "broken"
    """It has no value that could be judged."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a search is.

    Attributes:
        good: The last mixture that is known to be good.
        bad: The first mixture after it that is known to be bad.
        next: The mixture to run next; None when the search is over.
    """

    good: int
    bad: int
    next: int | None


def next_step(points: Sequence[int], known: Mapping[int, Verdict]) -> Step:
    """Return where a search is by what is known, halving what is left.

    Args:
        points: The mixtures that may be run, in order; the first is good, the last bad.
        known: What came of those that were run.
    """
    low, high = 0, len(points) - 1
    while high - low > 1:
        inside = sorted(range(low + 1, high), key=lambda place: abs(2 * place - low - high))
        usable = (place for place in inside if known.get(points[place]) is not Verdict.BROKEN)
        place = next(usable, None)
        if place is None:
            break
        verdict = known.get(points[place])
        if verdict is None:
            return Step(good=points[low], bad=points[high], next=points[place])
        if verdict is Verdict.GOOD:
            low = place
        else:
            high = place
    return Step(good=points[low], bad=points[high], next=None)


def most_runs(kinds: Sequence[int]) -> int:
    """Return how many mixtures are run at most, where each of them has a value.

    First it is found out which kind of change moved the value, then which change of that kind. In
    between, what was not run itself is run as it was: a value that comes from elsewhere is found
    out so.

    Args:
        kinds: How many changes there are of each kind.
    """
    confirming = 2 if len(kinds) == 1 else 1
    return halvings(len(kinds)) + confirming + halvings(max(kinds))


def halvings(count: int) -> int:
    """Return how many mixtures tell which of some changes it is."""
    return max(count - 1, 0).bit_length()
