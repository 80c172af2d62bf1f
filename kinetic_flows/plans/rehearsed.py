"""What rehearsals say of a call: of which code and packages they were, and how well it fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from kinetic_flows.core.display import for_line
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.rehearsal_amounts import of_memory
from kinetic_flows.core.rehearsals import Buffer, RehearsalRecord, StepReport, TargetReport
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.plans.planned_rehearsal import PlannedRehearsal
from kinetic_flows.platforms.image_sources import ImageSource, OwnImage

Subject = Literal["this", "older code", "other packages"]
"""What a rehearsal was made of, seen from a call: the same code and packages, or others."""

_BEFORE = {
    "this": "",
    "older code": ", with other code or values",
    "other packages": ", with other packages",
}


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What a rehearsal said of an accelerator.

    Attributes:
        report: What it said.
        made_at: When, in seconds since 1970.
        subject: What it was made of.
        smallest: The accelerator that fits and is the smallest of those that were asked for; None
            where none fits.
    """

    report: TargetReport
    made_at: float
    subject: Subject
    smallest: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether it was made of this code and these packages."""
        return self.subject == "this"

    @property
    def largest_misfit(self) -> StepReport | None:
        """The step that does not fit and needs most; None where none is known not to fit.

        Of an estimate that is not known.
        """
        found = [
            each for each in self.report.steps if each.verdict == "exceeds" and not each.is_estimate
        ]
        return max(found, key=lambda each: each.memory.needed_bytes or 0, default=None)

    @property
    def misfit(self) -> str:
        """Why steps do not fit, as far as that is certain; empty where they may fit.

        Such as `it needs 48.62 of 31.25 GiB a device; the largest is 16.00 GiB f32[65536,65536]
        by jit(step)/dot_general at model.py:42`.
        """
        step = self.largest_misfit if self.is_current else None
        if step is None:
            return ""
        of = f"its step {for_line(step.name)}" if len(self.report.steps) > 1 else "it"
        said = for_line(next(iter(step.message.strip().splitlines()), ""))
        needs = needs_in_words(step) or said or "more than there is"
        largest = largest_in_words(step.buffers)
        return f"{of} needs {needs}{f'; the largest is {largest}' if largest else ''}"

    def planned(self) -> PlannedRehearsal:
        """Return it as a plan and a run's page tell it."""
        made_at = datetime.fromtimestamp(self.made_at, UTC)
        return PlannedRehearsal(
            made_at=made_at,
            outcome=f"{_BEFORE[self.subject]}: {outcome(self.report)}",
            document={
                "accelerator": self.report.accelerator,
                "made_at": made_at.isoformat(timespec="seconds"),
                "of": self.subject,
                "fits": self.report.fits,
                "problem": self.report.problem,
                "smallest_that_fits": self.smallest,
                "steps": [_step_json(each) for each in self.report.steps],
            },
        )


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """What a call would be rehearsed of on an accelerator.

    Attributes:
        accelerator: The accelerator's name, without how its nodes are bought.
        devices: How many devices it has.
        code: Digest of the code, as `plans.rehearsal.code_digest` gives it.
        packages: What tells its packages from others, as `packages_of` gives it; None where that
            is not known, which tells none from others.
    """

    accelerator: str
    devices: int
    code: str
    packages: str | None


def rehearsed_on(records: Iterable[RehearsalRecord], asked: Subjects) -> Rehearsed | None:
    """Return what rehearsals say of a call on an accelerator: one of it, else the newest other.

    Args:
        records: The function's rehearsals, newest first.
        asked: The call on it.

    Returns:
        None where it was never rehearsed.
    """
    found: list[Rehearsed] = []
    for record in records:
        report = record.of(asked.accelerator)
        # Of more slices or nodes an accelerator has the same name.
        if report is None or report.devices not in (0, asked.devices):
            continue
        subject = _subject(record, asked)
        told = Rehearsed(
            report=report,
            made_at=record.made_at,
            subject=subject,
            smallest=_smallest(record) if subject == "this" else None,
        )
        if told.is_current:
            return told
        found.append(told)
    return next(iter(found), None)


def packages_digest(lock: Lock) -> str:
    """Return what tells the packages that a function has from others, wherever they are put.

    Images that are made in different ways from one lock have one digest, as they compile alike.

    Args:
        lock: The project's packages for an accelerator.
    """
    packages = sorted((item.name, item.version) for item in lock.packages)
    return sha256_hex(canonical_json({"packages": packages, "python": lock.target.python}))


def packages_of(image: ImageSource, lock: Lock | None) -> str | None:
    """Return what tells a run's packages from others; None where nobody has looked.

    Args:
        image: Where its image comes from; one of the person's own has its name for all of them.
        lock: Its packages in any other.
    """
    if isinstance(image, OwnImage):
        return image.reference
    return packages_digest(lock) if lock else None


def outcome(report: TargetReport) -> str:
    """Return how steps fit, without the accelerator's name: `fits, 12.30 of 31.25 GiB a device`."""
    if report.fits is None:
        failed = next((each.message for each in report.steps if each.message), report.message)
        why = for_line(next(iter(failed.strip().splitlines()), ""))
        return f"not known to fit: {why}" if why else "not known to fit"
    deciding = [each for each in report.steps if report.fits or each.verdict == "exceeds"]
    step = max(deciding, key=lambda each: each.memory.needed_bytes or 0)
    verdict = "fits" if report.fits else "does not fit"
    amount = needs_in_words(step)
    needs = f", {'' if report.fits else 'needs '}{amount}" if amount else ""
    of = f", in the step {for_line(step.name)}" if len(report.steps) > 1 else ""
    return f"{verdict}{needs}{of}{' (an estimate)' if step.is_estimate else ''}"


def needs_in_words(step: StepReport) -> str:
    """Return what a step needs of what it has: `48.62 of 31.25 GiB a device`; else nothing."""
    if step.memory.needed_bytes is None:
        return ""
    return f"{of_memory(step.memory.needed_bytes, step.memory.available_bytes)} a device"


def largest_in_words(buffers: Sequence[Buffer]) -> str:
    """Return the largest buffer, what made it and on which line; nothing where none is known."""
    if not buffers:
        return ""
    first = buffers[0]
    origin = "of the argument" if first.kind == "argument" else "by"
    made = f" {origin} {for_line(first.operation)}" if first.operation else ""
    at = f" at {for_line(first.source)}" if first.source else ""
    size = of_memory(first.size_bytes, first.size_bytes).rpartition(" of ")[2]
    return f"{size} {for_line(first.shape)}{made}{at}"


def _subject(record: RehearsalRecord, asked: Subjects) -> Subject:
    if record.code_sha256 != asked.code:
        return "older code"
    packages = record.environments.get(asked.accelerator)
    return "this" if asked.packages in (None, packages) else "other packages"


def _smallest(record: RehearsalRecord) -> str | None:
    from kinetic_flows.core.rehearsal_words import smallest_that_fits

    return smallest_that_fits(record)


def _step_json(step: StepReport) -> dict[str, Any]:
    return {
        "name": step.name,
        "fits": {"fits": True, "exceeds": False, "failed": None}[step.verdict],
        "is_estimate": step.is_estimate,
        "needed_bytes": step.memory.needed_bytes,
        "available_bytes": step.memory.available_bytes,
    }
