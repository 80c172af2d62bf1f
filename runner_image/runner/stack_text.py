"""Stacks as they stand in a run's log; `runs/insight/stack_words.py` shows them elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .stack_view import Thread
from .stacks import Stacks

MOST_LINES = 200
LONGEST_SOURCE = 120
BUSY_PERCENT = 1.0
"""From which use of a processor on it is told."""


def text_of(stacks: Stacks) -> str:
    """Return what the threads of a host do, those that do the same once."""
    lines = [f"note: {note}" for note in stacks.notes]
    alike: dict[object, list[Thread]] = {}
    for thread in stacks.threads:
        alike.setdefault((thread.process is None, thread.is_main, thread.frames), []).append(thread)
    for threads in alike.values():
        lines += _lines(threads)
    left_out = len(lines) - MOST_LINES
    if left_out > 0:
        lines[MOST_LINES:] = [f"... and {left_out} lines more"]
    return "\n".join(lines)


def _lines(threads: Sequence[Thread]) -> Iterator[str]:
    first = threads[0]
    name = f"process {first.process} ({first.name})" if first.process else first.name
    name = f"{name} thread" if first.is_main else name
    more = f" and {len(threads) - 1} more like it" if len(threads) > 1 else ""
    percent = max(thread.cpu_percent or 0.0 for thread in threads)
    used = f", uses {percent:.0f} % of a processor" if percent >= BUSY_PERCENT else ""
    yield f"{name}{more}: {first.state}{used}".rstrip(": ")
    for frame in first.frames:
        line = "" if frame.line is None else f", line {frame.line}"
        yield f'  File "{frame.file}"{line}, in {frame.function}' if frame.file else "  ..."
        if frame.source:
            yield f"    {frame.source[:LONGEST_SOURCE]}"
