"""What `kinetic doctor` prints: a line for each finding, below headings, as they come."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from textwrap import wrap

from kinetic_flows.core.display import for_line
from kinetic_flows.core.findings import Finding, Level
from kinetic_flows.core.moments import elapsed
from kinetic_flows.core.settings.settings import process_environment

LEVELS: tuple[Level, ...] = ("wrong", "warning", "unknown", "ok")
_STYLES: Mapping[Level, str] = {"ok": "32", "warning": "33", "wrong": "1;31", "unknown": "36"}
_BOLD, _DIM = "1", "2"
_WIDTH = len("warning")
_INDENT = " " * (_WIDTH + 4)
_NARROWEST = 30


class DoctorReport:
    """Prints findings; what cannot be asked for one and the same reason is on one line."""

    def __init__(self) -> None:
        self._group = ""
        self._held: list[Finding] = []

    def show(self, group: str, finding: Finding) -> None:
        """Print a finding, or hold it back until another one comes that is not like it."""
        if self._held and (group != self._group or not _is_alike(self._held[0], finding)):
            self.finish()
        if group != self._group:
            self._group = group
            print(coloured(group, _BOLD))
        self._held.append(finding)
        if finding.level != "unknown":
            self.finish()

    def finish(self) -> None:
        """Print what was held back."""
        if self._held:
            subjects = ", ".join(dict.fromkeys(each.subject for each in self._held))
            _print_finding(subjects, self._held[0])
            self._held = []


def print_summary(findings: Iterable[Finding], levels: Counter[Level], seconds: float) -> None:
    """Print how many findings there are of each level, and how many can be mended unasked."""
    told = [f"{levels[level]} {level}" for level in LEVELS if levels[level]]
    print(f"\n{', '.join(told)}, in {elapsed(seconds)}")
    fixable = sum(each.fix is not None and each.level != "ok" for each in findings)
    if fixable:
        print(f"`kinetic doctor --fix` mends {fixable} of these")


def coloured(text: str, style: str) -> str:
    """Return a text in a style of terminals, where there is one that has colours."""
    has_colours = sys.stdout.isatty() and not process_environment().get("NO_COLOR")
    return f"\x1b[{style}m{text}\x1b[0m" if has_colours else text


def _is_alike(one: Finding, other: Finding) -> bool:
    return (one.level, one.text, one.command) == (other.level, other.text, other.command)


def _print_finding(subject: str, finding: Finding) -> None:
    mark = coloured(finding.level.ljust(_WIDTH), _STYLES[finding.level])
    for number, line in enumerate(_folded(for_line(f"{subject}: {finding.text}"))):
        print(f"  {mark}  {line}" if number == 0 else f"{_INDENT}{line}")
    if finding.command:
        # In one piece, to be copied.
        print(f"{_INDENT}  {coloured(for_line(finding.command), _DIM)}")
    sys.stdout.flush()


def _folded(text: str) -> list[str]:
    if not sys.stdout.isatty():
        return [text]
    room = max(shutil.get_terminal_size().columns - len(_INDENT), _NARROWEST)
    return wrap(text, room, break_long_words=False, break_on_hyphens=False)
