"""The one place where the library shows something: the progress of a call a person waits for.

A warm call leaves one line, of how long it took and where its run is. A step leaves one when it
did something that is not done at every call. What goes on meanwhile is a live line on a terminal;
elsewhere something is said whenever nothing was for long.

Progress goes to standard error; what the function printed goes where it printed it.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.cells import cell_len

from kinetic_flows.core.display import for_line, for_terminal
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.moments import elapsed
from kinetic_flows.core.progress import (
    NullProgress,
    Outcome,
    Progress,
    ProgressMode,
    StepStatus,
    Stream,
)
from kinetic_flows.core.screen import Screen, current_screen, fitting
from kinetic_flows.core.signals import interruption_in
from kinetic_flows.core.waits import longest_wait

if TYPE_CHECKING:
    from kinetic_flows.core import notebook
else:
    notebook = LazyModule("kinetic_flows.core.notebook")

SILENT_SECONDS = (5.0, 10.0, 10.0, 15.0, 20.0, 30.0)
"""How long nothing is said, at most, where no line lives: at first, and then, and from then on."""

LAUNCHED_SECONDS = 5.0
"""A call that goes on for so long after its launch says where its run is before it ends."""

LOG_LINES = 100
"""How many lines of the log of a step that failed are shown, at most."""

SAME_SECONDS = 1.0
"""A step that takes as long as its call need not say so."""

BAR_CHARACTERS = 24
LEAST_TITLE = 12

MARKS = {
    "done": "✓",
    "passed": "✓",
    "cached": "✓",
    "failed": "✗",
    "interrupted": "✗",
}
STYLES = {
    "done": "32",
    "passed": "32",
    "cached": "36",
    "failed": "1;31",
    "interrupted": "33",
}
DIM, YELLOW = "2", "33"

WITHOUT_LINKS = ("dumb", "linux", "eterm", "screen")
"""Terminals, by the beginning of `TERM`, that may show the target of a link as garbage."""


def terminal_progress(mode: ProgressMode, environ: Mapping[str, str]) -> Progress:
    """Return the listener that fits where this process's output goes.

    Args:
        mode: The setting `KINETIC_PROGRESS`.
        environ: Variables that tell of the terminal: `TERM`, `NO_COLOR`, `CI`.
    """
    if mode == "quiet":
        return QuietProgress(current_screen(is_alive=False, has_colours=False))
    is_kernel = "ipykernel" in sys.modules and mode != "plain"
    cell = notebook.notebook_screen() if is_kernel else None
    if cell is not None:
        return TerminalProgress(cell, is_verbose=mode == "verbose")
    term = environ.get("TERM", "")
    is_terminal = sys.stderr is not None and sys.stderr.isatty() and term != "dumb"
    # A CI's log may be a terminal; nobody sees lines live there, and each drawing would stay.
    is_alive = mode == "rich" or (mode != "plain" and is_terminal and not environ.get("CI"))
    has_colours = is_alive and not environ.get("NO_COLOR")
    screen = current_screen(is_alive=is_alive, has_colours=has_colours)
    has_links = is_alive and not term.startswith(WITHOUT_LINKS)
    return TerminalProgress(screen, has_links=has_links, is_verbose=mode == "verbose")


@contextmanager
def shown_call(
    progress: Progress, title: str, outcome: Outcome | Callable[[], Outcome] = "done"
) -> Iterator[None]:
    """Show what is done within the block as a call.

    Args:
        progress: Who watches.
        title: What is called.
        outcome: How it ends with the block, when nothing keeps it from that; or what says so then.
    """
    progress.begin(title)
    try:
        yield
    except BaseException as error:
        progress.end("failed" if interruption_in(error) is None else "cancelled")
        raise
    progress.end(outcome() if callable(outcome) else outcome)


class QuietProgress(NullProgress):
    """Passes on what the function printed, and says nothing.

    Args:
        screen: Where it is written.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def output(self, text: str, stream: Stream) -> None:
        """Pass the function's output on unchanged."""
        self._screen.pass_on(text, stream)


class TerminalProgress:
    """Shows one call, or some steps that belong to none.

    Args:
        screen: Where lines go.
        has_links: Whether addresses are made links.
        is_verbose: Whether every step leaves a line, and every line of a build's log.
    """

    def __init__(
        self, screen: Screen, *, has_links: bool = False, is_verbose: bool = False
    ) -> None:
        self._screen = screen
        self._has_links = has_links
        self._is_verbose = is_verbose
        self._title = ""
        self._began = time.monotonic()
        self._url = ""
        self._how = ""
        self._launched = 0.0
        self._has_told_url = self._shows_url = False
        self._steps = Steps()
        self._asides: list[str] = []
        self._told = 0

    def begin(self, title: str) -> None:
        """Show that a call goes on."""
        with self._screen.lock:
            if not self._title:
                self._began = time.monotonic()
            self._title = for_line(title)
            self._screen.attach(self)

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:
        """Show what is at work, and leave a line when it ended, if that is news."""
        with self._screen.lock:
            if status == "started":
                self._steps.start(name)
                self._screen.attach(self)
                return
            took, log = self._steps.end(name)
            if status == "failed":
                self._show_log(log, detail)
            if self._is_news(status):
                self._say(*_step_line(name, status, detail, took))
            self._rest()

    def count(self, name: str, done: int, total: int | None, detail: str) -> None:
        """Show how far a step is."""
        bar = _bar(done, total) if self._screen.is_alive else ""
        self.activity(name, f"{bar}{detail}")

    def activity(self, name: str, text: str) -> None:
        """Show beside the spinner what a step is doing."""
        with self._screen.lock:
            self._steps.describe(name, for_line(text))

    def log(self, name: str, line: str) -> None:
        """Show a line of a step's log beside the spinner, and keep it for a failure."""
        with self._screen.lock:
            self._steps.log(name, for_terminal(line))
            if self._is_verbose:
                self._say("", f"{name} | {for_terminal(line)}", DIM)

    def aside(self, text: str) -> None:
        """Say something before the next line that is said of a call, if there is one."""
        with self._screen.lock:
            self._asides.append(for_terminal(text))
            if self._is_verbose:
                self._say_asides()

    def notice(self, text: str) -> None:
        """Show a notice, dimmed."""
        with self._screen.lock:
            self._say("", for_terminal(text), DIM)

    def warning(self, text: str) -> None:
        """Show a warning in yellow."""
        with self._screen.lock:
            self._say("", for_terminal(f"warning: {text}"), YELLOW)

    def launched(self, url: str, how: str = "") -> None:
        """Note where the run is, and how."""
        with self._screen.lock:
            self._asides.clear()
            self._launched = self._launched or time.monotonic()
            self._url, self._how = for_line(url), for_line(how)

    def output(self, text: str, stream: Stream) -> None:
        """Pass the function's output on unchanged, with what lives out of the way."""
        self._screen.pass_on(text, stream)

    def end(self, outcome: Outcome) -> None:
        """Leave the line of the call: what was called, how long it took, where its run is."""
        with self._screen.lock:
            self._asides.clear()
            title, self._title = self._title, ""
            self._rest()
            if not title or (outcome in ("failed", "cancelled") and not self._url):
                return  # what is raised says all there is to say
            took = elapsed(time.monotonic() - self._began)
            ended = {"failed": f"failed after {took}", "cancelled": f"cancelled after {took}"}
            ended["launched"] = f"launched in {took}"
            mark = "done" if outcome in ("done", "launched") else "failed"
            parts = [title, self._how, ended.get(outcome, took), self._linked()]
            self._leave(MARKS[mark], " · ".join(filter(None, parts)), STYLES[mark])

    # What lives

    def line(self, width: int) -> str:
        """Return the live line: the call, since when, and what it is doing."""
        took = time.monotonic() - self._began if self._title else 0.0
        rest = " · ".join(filter(None, (elapsed(took) if self._title else "", self._doing(took))))
        whole = f"{self._title} · {rest} · {self._url}"
        self._shows_url = bool(self._url) and cell_len(whole) <= width
        if not self._title or self._shows_url:
            return whole if self._shows_url else rest
        room = width - cell_len(rest) - len(" · ")
        return f"{fitting(self._title, max(room, LEAST_TITLE))} · {rest}"

    def beat(self) -> None:
        """Say where the run is, once; and, where no line lives, what takes so long."""
        now = time.monotonic()
        if self._launched and now - self._launched >= LAUNCHED_SECONDS and not self._shows_url:
            self._tell_url()
        silent = SILENT_SECONDS[min(self._told, len(SILENT_SECONDS) - 1)]
        if self._screen.is_alive or now - self._screen.spoke < silent:
            return
        if not self._launched or self._how or self._steps.at_work() or longest_wait():
            self._told += 1
            self._say("", f"{self._doing() or self._title} ...", DIM)

    def _tell_url(self) -> None:
        """Leave, once, a line that says where the run is."""
        if self._url and self._title and not self._has_told_url:
            self._has_told_url = True
            self._leave("", f"{self._title} · {self._how or 'running'} · {self._linked()}", DIM)

    def _doing(self, beside_seconds: float = 0.0) -> str:
        """Say what is waited for."""
        wait = longest_wait()
        if wait is not None:
            return str(wait)
        running = (self._how or "running") if self._launched else ""
        return ", ".join(self._steps.at_work(beside_seconds)) or running

    # What stays

    def _is_news(self, status: StepStatus) -> bool:
        # How long what every call does takes is told while it does.
        return self._is_verbose or status in ("done", "failed", "interrupted")

    def _rest(self) -> None:
        """Live no longer than what there is to show."""
        if not self._title and not self._steps.at_work():
            self._screen.detach(self)

    def _show_log(self, lines: list[str], detail: str) -> None:
        """Show the log of a step that failed, but for what the error repeats of it."""
        told = {line.strip() for line in detail.splitlines()}
        left = [] if self._is_verbose else [each for each in lines if each.strip() not in told]
        for line in left:
            self._leave("", f"  {line}", DIM)

    def _say(self, mark: str, text: str, style: str) -> None:
        self._say_asides()
        self._leave(mark, text, style)

    def _say_asides(self) -> None:
        asides, self._asides = self._asides, []
        for text in asides:
            self._leave("", text, DIM)

    def _leave(self, mark: str, text: str, style: str) -> None:
        if not self._screen.is_alive:
            self._screen.say(f"kinetic: {mark} {text}" if mark else f"kinetic: {text}")
        elif mark:
            self._screen.say(f"{self._screen.styled(mark, style)} {text}")
        else:
            self._screen.say(text, style)

    def _linked(self) -> str:
        """Return where the run is, as a link where there are links."""
        if not self._has_links or not self._url:
            return self._url
        return f"\x1b]8;;{self._url}\x1b\\{self._url}\x1b]8;;\x1b\\"


class Steps:
    """Knows which steps are at work, since when, and what they are doing."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._described: dict[str, str] = {}
        self._logs: dict[str, deque[str]] = {}

    def start(self, name: str) -> None:
        """Note a step's start."""
        self._started[name] = time.monotonic()
        self._logs[name] = deque(maxlen=LOG_LINES)

    def end(self, name: str) -> tuple[float, list[str]]:
        """Note a step's end; return how many seconds it has taken, and its log's last lines."""
        now = time.monotonic()
        self._described.pop(name, None)
        return now - self._started.pop(name, now), list(self._logs.pop(name, ()))

    def describe(self, name: str, text: str) -> None:
        """Note what a step at work is doing."""
        if name in self._started:
            self._described[name] = text

    def log(self, name: str, line: str) -> None:
        """Note a line of a step's log."""
        if name in self._started and line.strip():
            self._logs[name].append(line)

    def at_work(self, beside_seconds: float = 0.0) -> list[str]:
        """Return the steps at work, oldest first, each with its seconds and what it is doing.

        Args:
            beside_seconds: How long what they belong to takes, which is shown beside them.
        """
        return [self._told(name, beside_seconds) for name in self._started]

    def _told(self, name: str, beside_seconds: float) -> str:
        log = self._logs[name]
        doing = self._described.get(name) or (log[-1].strip() if log else "")
        took = time.monotonic() - self._started[name]
        shown = "" if abs(took - beside_seconds) < SAME_SECONDS else f" {elapsed(took)}"
        return f"{name}{shown}: {doing}" if doing else f"{name}{shown}"


def _bar(done: int, total: int | None) -> str:
    """Draw how far a step is; nothing when it is not known."""
    if not total:
        return ""
    filled = BAR_CHARACTERS * done // total
    return f"{'━' * filled}{'╌' * (BAR_CHARACTERS - filled)} "


def _step_line(name: str, status: StepStatus, detail: str, took: float) -> tuple[str, str, str]:
    """Return the mark, the text and the colour of the line of a step that ended."""
    told = detail.partition("\n")[0] if status == "failed" else detail
    shown = f"{name}: {told}" if told else name
    cached = ", cached" if status == "cached" else ""
    return MARKS[status], for_terminal(f"{shown} ({elapsed(took)}{cached})"), STYLES[status]
