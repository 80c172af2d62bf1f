"""What rehearsals mean for a call that asks for them: where it may go, and where it may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kinetic_flows.core.display import for_line
from kinetic_flows.core.errors import RehearsalError
from kinetic_flows.plans.rehearsed import Rehearsed, outcome


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Where a call may go.

    Attributes:
        misfits: Why its steps do not fit, by the accelerator's name.
        unknown: Why nobody knows whether they fit, by the accelerator's name.
        smallest: The smallest accelerator that is known to fit, of those that were rehearsed.
    """

    misfits: Mapping[str, str]
    unknown: Mapping[str, str]
    smallest: str | None = None

    def warnings(self, function: str) -> tuple[str, ...]:
        """Say where a call goes without anybody knowing whether it fits there.

        Args:
            function: The function's name.
        """
        return tuple(
            f"nobody knows whether {function} fits {name}: {why}"
            for name, why in self.unknown.items()
        )

    def left_out(self, function: str) -> tuple[str, ...]:
        """Say which accelerators of a list a call does not go to.

        Args:
            function: The function's name.
        """
        return tuple(
            f"{name} is left out: {function} does not fit, as its rehearsal says: {why}"
            for name, why in self.misfits.items()
        )

    def refusal(self, function: str) -> RehearsalError:
        """Return what a call is refused with that fits none of its accelerators.

        Args:
            function: The function's name.
        """
        listed = [f"{name}: {why}" for name, why in self.misfits.items()]
        if len(self.misfits) == 1:
            ((name, why),) = self.misfits.items()
            message = f"{function} does not fit {name}, as its rehearsal says: {why}"
        else:
            reasons = "".join(f"\n  - {each}" for each in listed)
            message = f"{function} fits none of its accelerators, as its rehearsal says:{reasons}"
        larger = f"`{function}.rehearse([...])` with larger ones may find one that fits"
        fits = f"{self.smallest} is the smallest rehearsed that fits" if self.smallest else larger
        return RehearsalError(
            message,
            value=tuple(self.misfits),
            hint=f"{fits}; nothing was launched, and KINETIC_REHEARSE=0 launches it all the same",
        )


def judge(
    accelerators: Sequence[str], found: Mapping[str, Rehearsed], failure: str = ""
) -> Verdict:
    """Decide what rehearsals mean for a call.

    Args:
        accelerators: Names of those it may go on and that are rehearsed for.
        found: What rehearsals say, by the accelerator's name.
        failure: Why there is none of those that are lacking, or that are not of this code.
    """
    misfits: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for name in accelerators:
        told = found.get(name)
        if told is None or not told.is_current:
            unknown[name] = failure or "it was not rehearsed"
        elif told.misfit:
            misfits[name] = told.misfit
        elif not told.report.fits:
            unknown[name] = _why_unknown(told)
    smallest = (told.smallest for told in found.values() if told.is_current)
    return Verdict(misfits=misfits, unknown=unknown, smallest=next(filter(None, smallest), None))


def _why_unknown(told: Rehearsed) -> str:
    """Say in a line why a rehearsal left it open."""
    report = told.report
    if report.fits is False:
        return f"its rehearsal says that it {outcome(report)}"
    said = report.message or next((each.message for each in report.steps if each.message), "")
    return for_line(next(iter(said.strip().splitlines()), "")) or "its rehearsal does not say"
