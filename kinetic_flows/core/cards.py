"""How handles show themselves in a few lines: in a REPL, in a log, and in a notebook.

What they show is what this process knows: to show something asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kinetic_flows.core.display import for_line

_URL = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:)]")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A thing in a few lines.

    Attributes:
        kind: What it is: `Run`.
        title: What it is called.
        rows: What there is to say of it, a label and a text each; those without a text are left
            out.
        done: How much of it is done; None for what has no parts.
        total: Of how much; None when that is not known.
        details: A longer text, folded away where that can be; empty for none.
    """

    kind: str
    title: str
    rows: tuple[tuple[str, str], ...] = ()
    done: int | None = None
    total: int | None = None
    details: str = ""

    def text(self) -> str:
        """Return it as plain text."""
        lines = [f"{label}: {for_line(text)}" for label, text in self.rows if text]
        return "\n  ".join([f"<{self.kind} {for_line(self.title)}", *lines]) + ">"

    def html(self) -> str:
        """Return it as a piece of a page: whatever it holds is text there."""
        from html import escape

        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(label)}</th>"
            f"<td style='text-align:left'>{linked(text)}</td></tr>"
            for label, text in self.rows
            if text
        )
        heading = f"<b>{escape(self.kind)}</b> <code>{escape(self.title)}</code>"
        details = (
            f"<details><summary>more</summary><pre>{escape(self.details)}</pre></details>"
            if self.details
            else ""
        )
        return f"<div>{heading}{self._bar()}<table>{rows}</table>{details}</div>"

    def _bar(self) -> str:
        if self.done is None or not self.total:
            return ""
        return f" <progress value='{self.done}' max='{self.total}'></progress>"


def linked(text: str) -> str:
    """Return a text for a page, its addresses as links."""
    from html import escape

    pieces, position = [], 0
    for match in _URL.finditer(text):
        url = escape(match[0])
        pieces += [escape(text[position : match.start()]), f"<a href='{url}'>{url}</a>"]
        position = match.end()
    return "".join([*pieces, escape(text[position:])])


def counts_in_words(counts: Iterable[tuple[str, int]]) -> str:
    """Return numbers of things in states: `3 Completed, 1 Running`."""
    return ", ".join(f"{count} {state}" for state, count in counts)
