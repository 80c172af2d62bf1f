"""What differs between two runs, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kinetic_flows.runs.compare.files import FileChange, to_json

Section = Literal[
    "arguments",
    "data",
    "options",
    "environment variables",
    "accelerator",
    "image",
    "packages",
    "code",
    "result",
    "time",
    "metrics",
    "caller",
]

SECTIONS: tuple[Section, ...] = (
    *("arguments", "data", "options", "environment variables", "accelerator", "image"),
    *("packages", "code", "result", "time", "metrics", "caller"),
)
"""In the order in which people ask."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing in which two runs differ.

    Attributes:
        section: What kind of thing it is.
        name: What it is called; empty for what its section says.
        before: What it is of the first run; None where that has none.
        after: What it is of the second run; None where that has none.
        note: What is said besides, such as by how much a number changed; empty for nothing.
    """

    section: Section
    name: str
    before: str | None
    after: str | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class RunDiff:
    """What differs between two runs; `print(diff)` says all of it.

    Attributes:
        before: The first run, as `kinetic runs show --json` has it in part: `id`, `name`, `state`,
            `created`.
        after: The second run.
        differences: What differs, apart from the code's files.
        files: The files in which their code differs.
        same: What was compared and is the same.
        unknown: What could not be compared, and why.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    differences: tuple[Difference, ...] = ()
    files: tuple[FileChange, ...] = ()
    same: tuple[Section, ...] = ()
    unknown: Mapping[Section, str] = field(default_factory=dict)

    def of(self, section: Section) -> tuple[Difference, ...]:
        """Return what differs of one kind."""
        return tuple(each for each in self.differences if each.section == section)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "before": dict(self.before),
            "after": dict(self.after),
            "differences": [_plain(each) for each in self.differences],
            "files": [to_json(each) for each in self.files],
            "same": list(self.same),
            "unknown": dict(self.unknown),
        }

    def __str__(self) -> str:
        from kinetic_flows.runs.compare.words import told

        return told(self)

    def __repr__(self) -> str:
        found = len({each.section for each in self.differences}) + bool(self.files)
        return f"<RunDiff {self.before['id']} {self.after['id']}: {found} kinds of differences>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def _plain(difference: Difference) -> dict[str, Any]:
    return {
        "section": difference.section,
        "name": difference.name,
        "before": difference.before,
        "after": difference.after,
        **({"note": difference.note} if difference.note else {}),
    }
