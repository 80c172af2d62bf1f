"""A rehearsal in words: tables of what steps need and take at least, and what follows from them.

Names, messages and sources are whatever a function or its compiler said, so everything is made
safe for where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import Any

from kinetic_flows.core import markdown
from kinetic_flows.core.accelerators import prices
from kinetic_flows.core.accelerators.model import Accelerator
from kinetic_flows.core.accelerators.parsing import parse_accelerator
from kinetic_flows.core.display import for_line
from kinetic_flows.core.errors import AcceleratorError
from kinetic_flows.core.moments import elapsed
from kinetic_flows.core.money import dollars
from kinetic_flows.core.rehearsal_amounts import UNKNOWN, flops, memory, moment, of_memory, share
from kinetic_flows.core.rehearsals import (
    Buffer,
    RehearsalRecord,
    StepReport,
    TargetReport,
    Verdict,
)
from kinetic_flows.core.roofline import Resource, Roofline, roofline

SHOWN_BUFFERS = 5
"""How many of the largest buffers are shown of a step."""

COLUMNS = 100
"""How wide sentences are; tables are as wide as they have to be."""

NOT_KNOWN = (
    "Not known before it runs: how fast data comes, the memory of the hosts, what else is on the "
    "devices besides the step, and how far their memory is in pieces by then."
)

ESTIMATES = (
    "Estimates are of the program that is compiled for CPUs: the accelerator's own may need more "
    "or less."
)

_VERDICTS: dict[Verdict, str] = {
    "fits": "fits",
    "exceeds": "does not fit",
    "failed": "does not compile",
}
MAY_FIT = "may fit"
_BOUNDS: dict[Resource, str] = {"compute": "compute", "memory": "memory", "links": "links"}

Rows = list[tuple[str, ...]]

MEMORY_HEAD = (
    "accelerator",
    "step",
    "fits",
    "needs",
    "available",
    "left",
    "arguments",
    "temporaries",
    "output",
    "code",
)
TIME_HEAD = (
    "accelerator",
    "step",
    "FLOPs",
    "bytes",
    "step takes at least",
    "bound by",
    "use at most",
    "compiled in",
)


def table_text(record: RehearsalRecord) -> str:
    """Return a rehearsal as text: its tables, what stands out, and what follows."""
    parts = [f"{title}\n{_aligned(rows)}" for title, rows in tables(record)]
    for report in _detailed(record):
        parts.extend(f"{for_line(title)}\n{_aligned(rows)}" for title, rows in _details(report))
    for report in record.reports:
        parts.extend("\n".join(lines) for lines in _problem_lines(report))
    parts.append("\n".join(_folded(line, "") for line in conclusion(record)))
    return "\n\n".join(parts)


def table_markdown(record: RehearsalRecord) -> str:
    """Return a rehearsal as Markdown, for artifacts and notebooks."""
    shown = [*tables(record), *(each for found in _detailed(record) for each in _details(found))]
    parts = [f"**{markdown.text(title)}**\n\n{_markdown_table(rows)}" for title, rows in shown]
    for title, lines in (each for report in record.reports for each in _problem(report)):
        listed = "\n".join(f"- {markdown.text(line)}" for line in lines)
        parts.append(f"**{markdown.text(title)}**\n\n{listed}")
    parts.append("\n\n".join(markdown.text(line) for line in conclusion(record)))
    return "\n\n".join(parts)


def document(record: RehearsalRecord) -> dict[str, Any]:
    """Return a rehearsal as plain JSON values, with the bounds of its steps and what follows."""
    told = record.to_json()
    for report, each in zip(record.reports, told["reports"], strict=True):
        each["fits"] = report.fits
        each["hourly_usd"] = hourly(report.accelerator)
        for step, plain in zip(report.steps, each["steps"], strict=True):
            bound = bound_of(step, report.accelerator)
            plain["at_least_seconds"] = bound.seconds if bound else None
            plain["bound_by"] = bound.bound_by if bound else None
            plain["use_at_most"] = bound.use if bound else None
    return {**told, "smallest_that_fits": smallest_that_fits(record)}


def smallest_that_fits(record: RehearsalRecord) -> str | None:
    """Return the accelerator that fits and costs least; None where none fits.

    Where a list price of one that fits is not known, it is the one with the least memory.
    """
    fitting = [each.accelerator for each in record.reports if each.fits]
    if not fitting:
        return None
    known = {name: hourly(name) for name in fitting}

    def cost(name: str) -> tuple[float, int]:
        price = known[name] if None not in known.values() else None
        accelerator = _accelerator(name)
        return (price or 0.0, accelerator.total_memory_gb if accelerator else 0)

    return min(fitting, key=cost)


def verdict(record: RehearsalRecord) -> str:
    """Return in a few words what came out of a rehearsal: `tpu-v6e-8 fits`, `it does not fit`."""
    smallest = smallest_that_fits(record)
    if smallest:
        return f"{for_line(smallest)} fits"
    several = len(record.reports) > 1
    if all(each.fits is False for each in record.reports):
        return "none of them fits" if several else "it does not fit"
    return "not one is known to fit" if several else "it is not known to fit"


def hourly(name: str) -> float | None:
    """Return what an hour of an accelerator costs by list prices, in US dollars; None if unknown.

    Args:
        name: Its canonical name.
    """
    accelerator = _accelerator(name)
    found = prices.price_of(accelerator, {}) if accelerator else None
    return found.hourly if found else None


def bound_of(step: StepReport, name: str) -> Roofline | None:
    """Return the roofline of a step on an accelerator; None where no figure is known.

    Args:
        step: The step.
        name: The accelerator's canonical name.
    """
    accelerator = _accelerator(name)
    return roofline(step, accelerator) if accelerator else None


def sentence(report: TargetReport) -> str:
    """Return the outcome on an accelerator in a line, safe for a terminal.

    Such as `fits tpu-v6e-8: 12.30 of 31.25 GiB a device`; of several steps, that of the largest
    one of those that decide it.
    """
    name = for_line(report.accelerator)
    if report.fits is None:
        failed = next((each for each in report.steps if each.verdict == "failed"), None)
        why = failed.message if failed else report.message
        return f"not known whether it fits {name}: {_first_line(why) or 'no step was compiled'}"
    deciding = [each for each in report.steps if report.fits or each.verdict == "exceeds"]
    step = max(deciding, key=lambda each: each.memory.needed_bytes or 0)
    of = f", in the step {for_line(step.name)}" if len(report.steps) > 1 else ""
    mark = ", an estimate" if step.is_estimate else ""
    if step.memory.needed_bytes is None:
        return f"{'fits' if report.fits else 'does not fit'} {name}{of}{mark}"
    amount = of_memory(step.memory.needed_bytes, step.memory.available_bytes)
    verb = "fits" if report.fits else "does not fit"
    needs = "" if report.fits else "needs "
    return f"{verb} {name}: {needs}{amount} a device{of}{mark}"


# Tables


def tables(record: RehearsalRecord) -> list[tuple[str, Rows]]:
    """Return the tables of a rehearsal, each with its title; the first row is the head."""
    steps = [(each.accelerator, step) for each in record.reports for step in each.steps]
    missing = [each.accelerator for each in record.reports if not each.steps]
    room: Rows = [_memory_row(name, step) for name, step in steps]
    room += [(name, "", "not known", *[UNKNOWN] * 7) for name in missing]
    took: Rows = [_time_row(name, step) for name, step in steps if _is_counted(step)]
    made = [("Memory of one device", [MEMORY_HEAD, *room])]
    made += [("One step on one device", [TIME_HEAD, *took])] if took else []
    several = len({step.name for _, step in steps}) > 1
    return [(title, rows if several else _without(rows, 1)) for title, rows in made]


def _is_counted(step: StepReport) -> bool:
    return step.flops is not None or bool(step.bytes_accessed)


def _verdict(step: StepReport) -> str:
    """Return whether a step fits in words; some estimates decide nothing."""
    is_open = step.is_estimate and step.memory.needed_bytes is not None
    return MAY_FIT if step.verdict == "failed" and is_open else _VERDICTS[step.verdict]


def _memory_row(name: str, step: StepReport) -> tuple[str, ...]:
    told = step.memory
    known = told.needed_bytes is not None and told.available_bytes is not None
    left = (told.available_bytes or 0) - (told.needed_bytes or 0) if known else None
    sizes = (told.arguments_bytes, told.temporary_bytes, told.output_bytes, told.code_bytes)
    mark = ", an estimate" if step.is_estimate else ""
    return (
        name,
        step.name,
        f"{_verdict(step)}{mark}",
        memory(told.needed_bytes),
        memory(told.available_bytes),
        memory(left),
        *(memory(size) for size in sizes),
    )


def _time_row(name: str, step: StepReport) -> tuple[str, ...]:
    bound = bound_of(step, name)
    took = step.compile_seconds
    return (
        name,
        step.name,
        flops(step.flops),
        memory(step.bytes_accessed),
        moment(bound.seconds if bound else None),
        _BOUNDS[bound.bound_by] if bound else UNKNOWN,
        share(bound.use if bound else None),
        UNKNOWN if took is None else elapsed(took),
    )


def _without(rows: Sequence[tuple[str, ...]], column: int) -> Rows:
    return [(*row[:column], *row[column + 1 :]) for row in rows]


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as lines, each column as wide as its widest cell."""
    lines = [[for_line(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _markdown_table(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(markdown.text(cell) for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


# What stands out


def _detailed(record: RehearsalRecord) -> list[TargetReport]:
    """Return what is shown in detail: what does not fit, and the smallest that does."""
    smallest = smallest_that_fits(record)
    return [each for each in record.reports if not each.fits or each.accelerator == smallest]


def _details(report: TargetReport) -> Iterator[tuple[str, Rows]]:
    """Return the largest buffers and the collectives of each step, with a title each."""
    for step in report.steps:
        what = f"{step.name} on {report.accelerator}"
        if step.buffers:
            head = ("size", "shape", "kind", "made by", "from")
            largest = [_buffer_row(each) for each in step.buffers[:SHOWN_BUFFERS]]
            yield f"Largest buffers of {what}", [head, *largest]
        if step.collectives:
            counts: Rows = [
                (each.operation, str(each.count), memory(each.size_bytes))
                for each in step.collectives
            ]
            yield f"Collectives of {what}", [("operation", "times", "bytes"), *counts]


def _buffer_row(buffer: Buffer) -> tuple[str, ...]:
    return (
        memory(buffer.size_bytes),
        buffer.shape,
        buffer.kind,
        buffer.operation or UNKNOWN,
        buffer.source or UNKNOWN,
    )


def _problem_lines(report: TargetReport) -> Iterator[list[str]]:
    for title, lines in _problem(report):
        yield [for_line(title), *(_folded(for_line(line), "  ") for line in lines)]


def _folded(text: str, indent: str) -> str:
    """Return a sentence as lines; words stay whole."""
    lines = wrap(
        text,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def _problem(report: TargetReport) -> Iterator[tuple[str, list[str]]]:
    """Return what is wrong and what to do about it, with a title each."""
    name = report.accelerator
    if report.message:
        yield f"Of {name} nothing is known", _lines(report.message, report.hint)
    for step in report.steps:
        if step.message:
            title = f"{step.name} on {name} {_verdict(step)}"
            yield title, _lines(step.message, step.hint)
    for warning in report.warnings:
        yield f"Note on {name}", _lines(warning, "")


def _lines(message: str, hint: str) -> list[str]:
    lines = [line.rstrip() for line in message.strip().splitlines() if line.strip()]
    return [*lines, *([f"hint: {hint}"] if hint else [])]


def _first_line(message: str) -> str:
    return for_line(next(iter(message.strip().splitlines()), ""))


# What follows


def conclusion(record: RehearsalRecord) -> list[str]:
    """Return what follows from a rehearsal, a sentence or two for each line."""
    lines = [*_choice(record)]
    if any(step.is_estimate for each in record.reports for step in each.steps):
        lines.append(ESTIMATES)
    compilers = _compilers(record.reports)
    lines += [f"Compiled by {compilers}."] if compilers else []
    return [*lines, NOT_KNOWN]


def _choice(record: RehearsalRecord) -> Iterator[str]:
    smallest = smallest_that_fits(record)
    several = len(record.reports) > 1
    if smallest:
        price = hourly(smallest)
        costs = f", {dollars(price)} an hour by {prices.LIST_PRICES}" if price is not None else ""
        which = "The smallest of them that fits" if several else "It fits"
        yield f"{which}: {for_line(smallest)}{costs}"
    elif all(each.fits is False for each in record.reports):
        yield "None of them fits." if several else "It does not fit."
    else:
        yield "Not one of them is known to fit." if several else "It is not known to fit."


def _compilers(reports: Iterable[TargetReport]) -> str:
    """Return what compiled, as `jax 0.10.2, libtpu 0.0.42.1`, where it is the same for all."""
    told = {tuple(sorted(each.versions.items())) for each in reports if each.versions}
    versions = next(iter(told)) if len(told) == 1 else ()
    return for_line(", ".join(f"{name} {version}" for name, version in versions))


def _accelerator(name: str) -> Accelerator | None:
    try:
        return parse_accelerator(name)
    except AcceleratorError:
        return None
