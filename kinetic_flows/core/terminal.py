"""The one place where the library shows something: the progress of a call a person waits for.

Rich and alive on a terminal, plain lines everywhere else, nothing with `KINETIC_QUIET=1`.
Progress goes to standard error; what the function printed goes where it printed it.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

from kinetic_flows.core.display import for_line, for_terminal
from kinetic_flows.core.progress import NullProgress, Progress, StepStatus, Stream

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

TELL_SECONDS = 5.0
"""How often, at most, a step that consists of many is told of where lines are written."""

BAR_CHARACTERS = 24

MARKS = {"done": "✓", "cached": "✓", "failed": "✗"}
STYLES = {"done": "green", "cached": "cyan", "failed": "bold red"}


def terminal_progress(*, quiet: bool) -> Progress:
    """Return the listener that fits where this process's output goes."""
    if quiet:
        return NullProgress()
    return RichProgress() if sys.stderr.isatty() else PlainProgress(sys.stderr, sys.stdout)


class PlainProgress:
    """One line per event, for logs, pipes and notebooks.

    Args:
        events: Where progress is written.
        output: Where the function's standard output is written; its standard error goes where
            progress does.
    """

    def __init__(self, events: TextIO, output: TextIO) -> None:
        self._events = events
        self._output = output
        self._clock = StepClock()

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:
        """Write a line when a step ends."""
        took = self._clock.step(name, status)
        if status != "started":
            self._say(f"{MARKS[status]} {_step_line(name, status, detail, took)}")

    def count(self, name: str, done: int, total: int | None, detail: str) -> None:  # noqa: ARG002
        """Write a line about how far a step is, now and then."""
        if self._clock.is_time_to_tell(name, detail):
            self._say(f"{name}: {detail}")

    def activity(self, name: str, text: str) -> None:
        """Write nothing: the lines of the step's log say it already."""

    def log(self, name: str, line: str) -> None:
        """Write a line of a step's log."""
        self._say(f"{name} | {line}")

    def notice(self, text: str) -> None:
        """Write a notice."""
        self._say(text)

    def warning(self, text: str) -> None:
        """Write a warning."""
        self._say(f"warning: {text}")

    def output(self, text: str, stream: Stream) -> None:
        """Pass the function's output on unchanged."""
        target = self._output if stream == "stdout" else self._events
        target.write(text)
        target.flush()

    def _say(self, line: str) -> None:
        self._events.write(f"kinetic: {for_terminal(line)}\n")
        self._events.flush()


class RichProgress:
    """A spinner for the step at work, and a coloured line for each that ended.

    Not with rich's Progress (15): one that goes on after it was stopped for the function's output
    erases the line that this ended in, and one line more for every further step.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console: Console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._clock = StepClock()
        self._lock = threading.Lock()

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:
        """Show what is at work, and leave a line when it ended."""
        took = self._clock.step(name, status)
        with self._lock:
            if status != "started":
                mark = f"[{STYLES[status]}]{MARKS[status]}[/]"
                line = _step_line(name, status, detail, took).replace("[", r"\[")
                self._console.print(f"{mark} {for_terminal(line)}", soft_wrap=True)
            self._spin()

    def count(self, name: str, done: int, total: int | None, detail: str) -> None:
        """Show a bar of how far a step is."""
        with self._lock:
            self._clock.describe(name, f"{_bar(done, total)}{name}: {detail}")
            self._spin()

    def activity(self, name: str, text: str) -> None:
        """Show beside the spinner what a step is doing."""
        with self._lock:
            self._clock.describe(name, f"{name}: {text}")
            self._spin()

    def log(self, name: str, line: str) -> None:  # noqa: ARG002 - the spinner names it
        """Show a line of a step's log, dimmed, above the spinner."""
        with self._lock:
            self._console.print(
                f"  {for_terminal(line)}", style="dim", markup=False, soft_wrap=True
            )

    def notice(self, text: str) -> None:
        """Show a notice, dimmed."""
        with self._lock:
            self._console.print(for_terminal(text), style="dim", markup=False, soft_wrap=True)

    def warning(self, text: str) -> None:
        """Show a warning in yellow."""
        with self._lock:
            line = for_terminal(f"warning: {text}")
            self._console.print(line, style="yellow", markup=False, soft_wrap=True)

    def output(self, text: str, stream: Stream) -> None:
        """Pass the function's output on unchanged, with the spinner out of the way."""
        with self._lock:
            self._stop()
            target = sys.stdout if stream == "stdout" else sys.stderr
            target.write(text)
            target.flush()

    def _spin(self) -> None:
        at_work = self._clock.at_work()
        if not at_work:
            self._stop()
            return
        text = for_line(", ".join(at_work)).replace("[", r"\[")
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


class StepClock:
    """Knows which steps are at work and how long each took."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._described: dict[str, str] = {}
        self._told = (time.monotonic(), "")

    def step(self, name: str, status: StepStatus) -> float:
        """Note a step's start or end; return how many seconds it has taken."""
        now = time.monotonic()
        if status == "started":
            self._started[name] = now
            return 0.0
        self._described.pop(name, None)
        return now - self._started.pop(name, now)

    def describe(self, name: str, text: str) -> None:
        """Give a step at work a text that tells more than its name."""
        if name in self._started:
            self._described[name] = text

    def is_time_to_tell(self, name: str, detail: str) -> bool:
        """Whether what is told of a step is new, and the last was told a while ago."""
        now, (told, last) = time.monotonic(), self._told
        is_time = name in self._started and detail != last and now - told >= TELL_SECONDS
        if is_time:
            self._told = (now, detail)
        return is_time

    def at_work(self) -> list[str]:
        """Return the steps that have started and not ended, oldest first."""
        return [self._described.get(name, name) for name in self._started]


def _bar(done: int, total: int | None) -> str:
    """Draw how far a step is; nothing when it is not known."""
    if not total:
        return ""
    filled = BAR_CHARACTERS * done // total
    return f"{'━' * filled}{'╌' * (BAR_CHARACTERS - filled)} "


def _step_line(name: str, status: StepStatus, detail: str, took: float) -> str:
    shown = f"{name}: {detail}" if detail else name
    cached = ", cached" if status == "cached" else ""
    return f"{shown} ({took:.1f} s{cached})"
