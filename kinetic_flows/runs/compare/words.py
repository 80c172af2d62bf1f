"""What differs between two runs, in words for a terminal, a notebook and a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from kinetic_flows.clients.prefect.timings import PHASES
from kinetic_flows.core.display import for_line, labelled
from kinetic_flows.core.moments import local
from kinetic_flows.core.run_ids import short_ids
from kinetic_flows.runs.compare.difference import SECTIONS, Difference, RunDiff, Section
from kinetic_flows.runs.compare.files import FileChange, counted_changes

Row = tuple[str, str]

LETTERS = {"added": "A", "removed": "D", "changed": "M", "moved": "R", "mode": "M"}
"""As git's `--name-status` has them."""

ONE_LINE_CHARACTERS = 88
"""Texts that are longer together stand below one another."""

NAME_CHARACTERS = 60
"""What stands behind the names of files is aligned behind names up to this length."""

_PHASE_NAMES = {**PHASES, "took": "took"}


def told(diff: RunDiff, *, lines: bool = True) -> str:
    """Return all of a comparison as text.

    Args:
        diff: The comparison.
        lines: Whether the changed lines of files are shown, and not their names alone.
    """
    rows = [*_runs(diff), *_rows(diff)]
    texts = [labelled(rows)]
    if lines:
        texts += [block for each in diff.files if (block := file_block(each))]
    return "\n\n".join(texts)


def file_block(change: FileChange) -> str:
    """Return the changed lines of a file below its name; empty where there are none to show."""
    if not change.lines:
        return ""
    name = for_line(change.path)
    old = "/dev/null" if change.kind == "added" else f"a/{name}"
    new = "/dev/null" if change.kind == "removed" else f"b/{name}"
    return "\n".join([f"--- {old}", f"+++ {new}", *map(for_line, change.lines)])


def _runs(diff: RunDiff) -> Iterator[Row]:
    shorts = short_ids([diff.before["id"], diff.after["id"]])
    for label, run, short in zip(
        ("before", "after"), (diff.before, diff.after), shorts, strict=True
    ):
        yield label, f"{short}  {_run(run)}"


def _run(run: Mapping[str, Any]) -> str:
    created = local(datetime.fromisoformat(run["created"]))
    return f"{for_line(str(run['name']))}, {run['state']}, {created}"


def _rows(diff: RunDiff) -> Iterator[Row]:
    for section in SECTIONS:
        if section == "code":
            yield from _code(diff.files)
        else:
            yield from _section(section, diff.of(section))
    if not diff.differences and not diff.files:
        yield "differs", "nothing that is known" if diff.unknown else "nothing"
    if diff.same:
        yield "the same", ", ".join(diff.same)
    reasons: dict[str, list[Section]] = {}
    for section, why in diff.unknown.items():
        reasons.setdefault(why, []).append(section)
    for why, sections in reasons.items():
        yield "unknown", f"{', '.join(sections)}: {for_line(why)}"


def _section(section: Section, differences: Sequence[Difference]) -> Iterator[Row]:
    names = [_name(each) for each in differences]
    width = max(map(len, names), default=0)
    for number, (name, each) in enumerate(zip(names, differences, strict=True)):
        shown = name.ljust(width) + "  " if width else ""
        first, *more = _change(each)
        yield section if not number else "", f"{shown}{first}"
        yield from (("", f"{' ' * len(shown)}{line}") for line in more)


def _name(difference: Difference) -> str:
    name = difference.name
    return for_line(_PHASE_NAMES.get(name, name) if difference.section == "time" else name)


def _change(difference: Difference) -> list[str]:
    note = f"  ({difference.note})" if difference.note else ""
    before, after = difference.before, difference.after
    if before is None and after is None:
        return [difference.note]
    if before is None or after is None:
        sign, text = ("+", after) if before is None else ("-", before)
        return [f"{sign} {for_line(text or '')}".rstrip() + note]
    old, new = for_line(before), for_line(after)
    if len(old) + len(new) > ONE_LINE_CHARACTERS:
        return [f"- {old}", f"+ {new}{note}"]
    return [f"{old} → {new}{note}"]


def _code(files: tuple[FileChange, ...]) -> Iterator[Row]:
    if not files:
        return
    yield "code", counted_changes(files)
    names = [_file_name(each) for each in files]
    width = min(max(map(len, names)), NAME_CHARACTERS)
    for name, each in zip(names, files, strict=True):
        counts = f"  +{each.added} -{each.removed}" if each.lines else ""
        note = f"  ({for_line(each.note)})" if each.note else ""
        yield "", f"{name.ljust(width)}{counts}{note}".rstrip()


def _file_name(change: FileChange) -> str:
    moved = f" from {for_line(change.before)}" if change.before else ""
    return f"{LETTERS[change.kind]} {for_line(change.path)}{moved}"
