"""Whether what came of a run is as that of a good run, or as that of a bad one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from statistics import median
from typing import Any, Protocol

from kinetic_flows.core.envelope import ResultEnvelope, ResultHeader
from kinetic_flows.core.errors import UsageError, suggest
from kinetic_flows.core.job import RunTicket
from kinetic_flows.runs.compare.search import Verdict
from kinetic_flows.runs.results import unpack_result


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        ticket: The run.
        envelope: Its result; None for one that left none.
        seconds: How long its function ran; None where that is not known.
    """

    ticket: RunTicket
    envelope: ResultEnvelope | None
    seconds: float | None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.ticket.run_id

    @cached_property
    def value(self) -> Any:
        """What it returned; None for one that has not.

        Raises:
            ResultError: It cannot be unpickled here.
        """
        returned = self.envelope if self.has_returned else None
        return None if returned is None else unpack_result(returned, self.ticket)

    @property
    def header(self) -> ResultHeader | None:
        """What its result says of itself."""
        return self.envelope.header if self.envelope else None

    @property
    def has_returned(self) -> bool:
        """Whether the function returned."""
        return self.header is not None and self.header.status == "returned"


class Judge(Protocol):
    """Tells good from bad."""

    @property
    def what(self) -> str:
        """What it looks at, in words."""
        ...

    @property
    def ends(self) -> tuple[str, str]:
        """What it was of the good run, and of the bad one."""
        ...

    def shown(self, outcomes: Sequence[Outcome]) -> str:
        """Return what it was of the runs of one mixture, in a few characters."""
        ...

    def verdict(self, outcomes: Sequence[Outcome]) -> Verdict:
        """Judge the runs of one mixture."""
        ...


@dataclass(frozen=True, kw_only=True)
class NumberJudge:
    """Judges by a number: of those of the good and the bad run, which one is nearer.

    Attributes:
        metric: Which of a returned mapping's, such as `eval.loss`; empty for the returned number
            itself, None for how long the function ran.
        good: The good run's.
        bad: The bad run's.
    """

    metric: str | None
    good: float
    bad: float

    @property
    def what(self) -> str:
        """What it looks at, in words."""
        return "seconds of the function" if self.metric is None else self.metric or "the value"

    @property
    def ends(self) -> tuple[str, str]:
        """What it was of the good run, and of the bad one."""
        return self._text(self.good), self._text(self.bad)

    def shown(self, outcomes: Sequence[Outcome]) -> str:
        """Return the number of the runs of one mixture, or why there is none."""
        found = self._number(outcomes)
        return next(map(_why_none, outcomes), "") if found is None else self._text(found)

    def verdict(self, outcomes: Sequence[Outcome]) -> Verdict:
        """Judge the runs of one mixture by the number in their middle."""
        found = self._number(outcomes)
        if found is None:
            return Verdict.BROKEN
        is_good = abs(found - self.good) <= abs(found - self.bad)
        return Verdict.GOOD if is_good else Verdict.BAD

    def _text(self, number: float) -> str:
        """Return a number with as many digits as tell the good one from the bad one."""
        ends = self.good, self.bad
        fits = (each for each in (6, 12) if len({_digits(end, each) for end in ends}) == 2)
        return _digits(number, next(fits, 17))

    def _number(self, outcomes: Sequence[Outcome]) -> float | None:
        found = [number_of(each, self.metric) for each in outcomes]
        numbers = [each for each in found if each is not None]
        return median(numbers) if numbers and len(numbers) == len(found) else None


@dataclass(frozen=True, kw_only=True)
class FailureJudge:
    """Judges by whether a run fails as the bad one did.

    Attributes:
        bad: How the bad run failed.
    """

    bad: ResultHeader

    @property
    def what(self) -> str:
        """What it looks at, in words."""
        return "whether it returns"

    @property
    def ends(self) -> tuple[str, str]:
        """What it was of the good run, and of the bad one."""
        return "returns", _failure(self.bad)

    def shown(self, outcomes: Sequence[Outcome]) -> str:
        """Return how the runs of one mixture ended."""
        return ", ".join(
            dict.fromkeys("returns" if each.has_returned else _why_none(each) for each in outcomes)
        )

    def verdict(self, outcomes: Sequence[Outcome]) -> Verdict:
        """Judge the runs of one mixture: one that fails is enough."""
        failed = [each.header for each in outcomes if not each.has_returned]
        if not failed:
            return Verdict.GOOD
        alike = [each for each in failed if each and _kind(each) == _kind(self.bad)]
        return Verdict.BAD if alike else Verdict.BROKEN


def _digits(number: float, digits: int) -> str:
    return f"{number:.{digits}g}"


def _kind(header: ResultHeader) -> tuple[str, str]:
    return header.status, header.type_name


def _failure(header: ResultHeader) -> str:
    return (header.type_name or header.status).rpartition(".")[2]


def _why_none(outcome: Outcome) -> str:
    if outcome.header is None:
        return "left no result"
    return "has no such number" if outcome.has_returned else _failure(outcome.header)


def number_of(outcome: Outcome, metric: str | None) -> float | None:
    """Return a number of a run; None where it has none.

    Args:
        outcome: What came of it.
        metric: Which; None for how long its function ran.
    """
    if not outcome.has_returned:
        return None
    if metric is None:
        return outcome.seconds
    return _as_number(_given(outcome, metric))


def _given(outcome: Outcome, metric: str) -> Any:
    return found_in(outcome.value, metric) if metric else outcome.value


def found_in(value: Any, metric: str) -> Any:
    """Return what a mapping has under a name, or under names with dots between them; else None."""
    if isinstance(value, Mapping) and metric in value:
        return value[metric]
    first, _, rest = metric.partition(".")
    inner = value.get(first) if isinstance(value, Mapping) else None
    return found_in(inner, rest) if rest and inner is not None else None


def _as_number(value: Any) -> float | None:
    """Return a number as it is compared: a scalar of an array library is one, too."""
    number = _as_float(value)
    return number if number is not None and math.isfinite(number) else None


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if not isinstance(value, Real) and getattr(value, "ndim", None) != 0:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def judge_for(
    good: Outcome,
    bad: Outcome,
    metric: str | None,
    *,
    by_seconds: bool = False,
    higher_is_better: bool | None = None,
    noise: float = 0.0,
) -> Judge:
    """Return what tells good from bad.

    Args:
        good: What came of the good run.
        bad: What came of the bad one.
        metric: Name in the mapping that the function returns; None for the returned number itself,
            and for how the bad run failed, if it did.
        by_seconds: Whether it is about how long the function ran.
        higher_is_better: Whether a higher number is better; None where nobody says.
        noise: How far two runs of the same may be apart.

    Raises:
        UsageError: There is no such number, the two are too close, or the wrong way round.
    """
    if not good.has_returned:
        raise UsageError(
            f"the good run, {good.run_id}, has returned nothing",
            value=good.run_id,
            hint="name one that ended well, and whose result has not expired",
        )
    if not bad.has_returned and bad.header and metric is None and not by_seconds:
        return FailureJudge(bad=bad.header)
    name = None if by_seconds else metric or ""
    numbers = _number_or_refuse(good, name), _number_or_refuse(bad, name)
    _check_apart(*numbers, noise, higher_is_better)
    return NumberJudge(metric=name, good=numbers[0], bad=numbers[1])


def _number_or_refuse(outcome: Outcome, metric: str | None) -> float:
    found = number_of(outcome, metric)
    if found is not None:
        return found
    if metric is None:
        what, hint = "is not known to have run for a time", "name one that ended well"
    elif not outcome.has_returned:
        how = _why_none(outcome)
        what = f"has returned nothing: it {how}" if outcome.header is None else f"ended as {how}"
        hint = (
            "leave out --metric to find out what makes it fail"
            if outcome.header
            else ("its result may have expired: run it again (`kinetic runs retry`)")
        )
    elif (given := _as_float(_given(outcome, metric))) is not None:
        what = f"has returned {given} as {repr(metric) if metric else 'its value'}"
        hint = "name runs whose numbers can be compared, or another --metric"
    else:
        what = f"has returned no number {metric!r}" if metric else "has not returned a number"
        hint = _names_hint(outcome, metric)
    raise UsageError(f"run {outcome.run_id} {what}", value=metric, hint=hint)


def _names_hint(outcome: Outcome, metric: str) -> str:
    names = sorted(_numbers_in(outcome.value))
    if not names:
        return "the function has to return a number, or a mapping with numbers in it"
    return suggest(metric, names) if metric else f"say which: --metric {names[0]}"


def _numbers_in(value: Any, above: str = "", levels: int = 3) -> list[str]:
    if not isinstance(value, Mapping) or not levels:
        return [above.rstrip(".")] if above and _as_number(value) is not None else []
    return [
        name
        for key, each in value.items()
        for name in _numbers_in(each, f"{above}{key}.", levels - 1)
    ]


def _check_apart(good: float, bad: float, noise: float, higher_is_better: bool | None) -> None:
    if abs(good - bad) <= noise or good == bad:
        raise UsageError(
            f"both runs come to the same: {good:.12g} and {bad:.12g}",
            value=[good, bad],
            hint="name two runs that differ by more than --noise" if noise else "name two others",
        )
    if higher_is_better is not None and (good > bad) is not higher_is_better:
        better = "higher" if higher_is_better else "lower"
        raise UsageError(
            f"the good run has {good:.12g} and the bad one {bad:.12g}, and {better} is better",
            value=[good, bad],
            hint="name them the other way round: kinetic runs bisect GOOD BAD",
        )
