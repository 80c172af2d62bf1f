"""What a rehearsal says, as people hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kinetic_flows.core.public_names import public
from kinetic_flows.core.rehearsal_words import (
    document,
    sentence,
    smallest_that_fits,
    table_markdown,
    table_text,
)
from kinetic_flows.core.rehearsals import RehearsalRecord, TargetReport


@public
@dataclass(frozen=True, kw_only=True, repr=False)
class Rehearsal:
    """Whether the steps of a function fit accelerators, as their compilers say.

    Printing it shows a table.

    Example:
        ```python
        rehearsal = train.rehearse(["tpu-v5e-8", "tpu-v6e-8"])
        print(rehearsal)
        assert rehearsal.fits
        ```

    Attributes:
        record: All that is known, as it is kept.
    """

    record: RehearsalRecord

    @property
    def reports(self) -> tuple[TargetReport, ...]:
        """What is known of each accelerator, in the order that was asked for."""
        return self.record.reports

    @property
    def fits(self) -> bool | None:
        """Whether all steps fit one of the accelerators; None where that is not known."""
        known = {report.fits for report in self.reports}
        if True in known:
            return True
        return None if None in known else False

    @property
    def smallest(self) -> str | None:
        """The smallest of the accelerators that all steps fit; None where there is none."""
        return smallest_that_fits(self.record)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, sizes in bytes of one device, times in seconds.

        Besides what the compilers said, that has the bounds of each step and what follows.
        """
        return document(self.record)

    def __repr__(self) -> str:
        said = "; ".join(sentence(report) for report in self.reports)
        return f"<Rehearsal of {self.record.function}: {said}>"

    def __str__(self) -> str:
        return table_text(self.record)

    def _repr_markdown_(self) -> str:
        """Return it as notebooks show it."""
        return table_markdown(self.record)
