"""The terminal of this process: lines that stay, and below them lines that live.

One for all calls of a process, in whatever threads: they share the terminal, and what one says
must not land in another's live line. While a line lives, what the program itself prints passes
through here, too, as it does with rich.

Not with rich's Live (15.0): it draws over a line that the function's output, or a progress bar of
its, has not ended; it leaves an empty line behind at the bottom of the screen; and it costs a
tenth of a second before the first sign of life.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol, TextIO, cast

from rich.cells import cell_len, set_cell_size

from kinetic_flows.core.progress import Stream

TICK_SECONDS = 0.1
"""How often lines that live are drawn."""

BEAT_SECONDS = 0.5
"""How often, where lines only stay, a call is asked whether it has something to say."""

DEFAULT_WIDTH = 80
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINNER_STYLE = "32"
RESET = "\x1b[0m"
ERASED = "\r\x1b[2K"
ONE_UP = "\x1b[1A\x1b[2K"


class Live(Protocol):
    """Something that goes on, and is shown while it does."""

    def line(self, width: int) -> str:
        """Return what it is doing, best in at most so many columns."""
        ...

    def beat(self) -> None:
        """Say what is to be said by now, if nothing was said for long."""
        ...


class Screen:
    """Where lines go.

    Args:
        events: Where our lines go, and the function's standard error; None for nowhere.
        output: Where the function's standard output goes; None for nowhere.
        is_alive: Whether lines may live, which takes a terminal.
        has_colours: Whether it shows colours.
    """

    def __init__(
        self,
        events: TextIO | None,
        output: TextIO | None,
        *,
        is_alive: bool = False,
        has_colours: bool = False,
    ) -> None:
        self.is_alive = is_alive
        self.lock = threading.RLock()
        self.spoke = time.monotonic()
        """When something was last written, in seconds of the monotonic clock."""
        self._has_colours = has_colours
        self._events, self._output = events, output
        self._is_shared = _is_same_file(events, output)
        self._doors = [_Door(self, "stderr", events)]
        self._doors += [_Door(self, "stdout", output)] if self._is_shared else []
        self._lives: list[Live] = []
        self._drawn: list[str] = []
        self._frame = 0
        self._is_line_begun = False
        self._ticker: threading.Thread | None = None
        self._closing = threading.Event()

    def is_on(self, events: TextIO | None, output: TextIO | None) -> bool:
        """Whether this is where two streams lead."""
        return self._events is _behind(events) and self._output is _behind(output)

    def say(self, line: str, style: str = "") -> None:
        """Leave a line.

        Args:
            line: The line, whose only orders to the terminal may be links and colours of ours.
            style: Parameters of its colour; empty for none.
        """
        with self.lock:
            self._erase()
            begun = "\n" if self._is_line_begun else ""
            self._write(f"{begun}{self.styled(line, style)}\n")
            self._is_line_begun = False
            self._draw()

    def styled(self, text: str, style: str) -> str:
        """Return a text in a colour, where there are colours."""
        return f"\x1b[{style}m{text}{RESET}" if style and self._has_colours else text

    def pass_on(self, text: str, stream: Stream) -> None:
        """Write what a program printed, as it is."""
        with self.lock:
            is_here = bool(text) and (stream == "stderr" or self._is_shared)
            if is_here:
                self._erase()
            write_out(self._output if stream == "stdout" else self._events, text)
            self.spoke = time.monotonic()
            if is_here:
                self._is_line_begun = not text.endswith("\n")
                self._draw()

    def attach(self, live: Live) -> None:
        """Show what something is doing, until it is detached."""
        with self.lock:
            if live in self._lives:
                return
            self._lives.append(live)
            if self.is_alive:
                _put(self._doors)
            self._draw()
            if self._ticker is None:
                self._ticker = threading.Thread(
                    target=self._tick, name="kinetic-terminal", daemon=True
                )
                self._ticker.start()

    def detach(self, live: Live) -> None:
        """Show no more what something is doing."""
        with self.lock:
            if live not in self._lives:
                return
            self._lives.remove(live)
            self._erase()
            self._draw()
            if not self._lives:
                _take_away(self._doors)

    def close(self) -> None:
        """Leave nothing alive, so that no thread writes while the interpreter ends."""
        self._closing.set()
        with self.lock:
            self._lives.clear()
            self._erase()
            _take_away(self._doors)
            ticker = self._ticker
        if ticker is not None:
            ticker.join(1)

    def forget(self) -> None:
        """Begin anew in a process that was forked, which has neither our lines nor our thread."""
        self.lock = threading.RLock()
        self._lives, self._drawn, self._ticker = [], [], None
        _take_away(self._doors)

    def _tick(self) -> None:
        while not self._closing.wait(TICK_SECONDS if self.is_alive else BEAT_SECONDS):
            with self.lock:
                if not self._lives:
                    self._ticker = None
                    return
                self._frame += 1
                self._draw()
                for live in list(self._lives):
                    live.beat()

    def _draw(self) -> None:
        """Draw what lives in place of what was drawn, but not into a line that is begun."""
        if not self.is_alive or self._is_line_begun or not self._lives:
            return
        room = self._width() - len("⠋ ") - 1
        drawn = [fitting(each.line(room), room) for each in self._lives]
        mark = self.styled(SPINNER[self._frame % len(SPINNER)], SPINNER_STYLE)
        self._erase(then="\n".join(f"{mark} {each}" for each in drawn))
        self._drawn = [f"⠋ {each}" for each in drawn]

    def _erase(self, then: str = "") -> None:
        """Take away what was drawn, also where a window made narrower has wrapped it."""
        width = self._width()
        rows = sum(max(1, -(-cell_len(each) // width)) for each in self._drawn)
        self._drawn = []
        taken = ERASED + ONE_UP * (rows - 1) if rows else ""
        if taken or then:
            self._write(taken + then)

    def _width(self) -> int:
        with suppress(OSError, ValueError, AttributeError):
            columns = os.get_terminal_size(cast("TextIO", self._events).fileno()).columns
            return columns if columns > 0 else DEFAULT_WIDTH
        return DEFAULT_WIDTH

    def _write(self, text: str) -> None:
        """Write lines of ours; that nobody is there to read them is no reason to fail."""
        self.spoke = time.monotonic()
        with suppress(OSError, ValueError):
            write_out(self._events, text)


class _Door:
    """Stands in for a stream of the program while lines live, so that both get on.

    Args:
        screen: Knows what has been drawn.
        stream: Which stream it is.
        target: The stream.
    """

    def __init__(self, screen: Screen, stream: Stream, target: TextIO | None) -> None:
        self._screen = screen
        self.stream: Stream = stream
        self.target = target

    def write(self, text: str) -> int:
        self._screen.pass_on(text, self.stream)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


def fitting(text: str, width: int) -> str:
    """Return a text, cut where it takes more columns than there are."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def _behind(stream: TextIO | None) -> TextIO | None:
    """Return the stream that a door stands in for."""
    return stream.target if isinstance(stream, _Door) else stream


def _put(doors: list[_Door]) -> None:
    for door in doors:
        if getattr(sys, door.stream) is door.target:
            setattr(sys, door.stream, door)


def _take_away(doors: list[_Door]) -> None:
    for door in doors:
        if getattr(sys, door.stream) is door:
            setattr(sys, door.stream, door.target)


def write_out(target: TextIO | None, text: str) -> None:
    """Write a text and flush it, in characters that the stream has."""
    if target is None:
        return
    try:
        target.write(text)
    except UnicodeEncodeError as error:
        target.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
    target.flush()


def _is_same_file(one: TextIO | None, other: TextIO | None) -> bool:
    """Whether two streams lead to the same terminal, pipe or file."""
    try:
        first, second = (os.fstat(cast("TextIO", each).fileno()) for each in (one, other))
    except (OSError, ValueError, AttributeError):
        return one is other
    return os.path.samestat(first, second)


_current: Screen | None = None
_choosing = threading.RLock()


def current_screen(*, is_alive: bool, has_colours: bool) -> Screen:
    """Return the screen of this process, as its streams are now.

    Args:
        is_alive: Whether lines may live.
        has_colours: Whether colours are shown.
    """
    global _current
    events, output = sys.stderr, sys.stdout
    # Calls may begin in several threads at once.
    with _choosing:
        found = _current
        if found is None or not found.is_on(events, output) or found.is_alive != is_alive:
            # The widths of other scripts are a module that rich imports when they are first asked
            # for: here, and not in a thread that holds the screen while this one imports what
            # prints.
            cell_len("…")
            found = _current = Screen(
                _behind(events), _behind(output), is_alive=is_alive, has_colours=has_colours
            )
    return found


def _close() -> None:
    if _current is not None:
        _current.close()


def _forget() -> None:
    global _choosing
    _choosing = threading.RLock()
    if _current is not None:
        _current.forget()


atexit.register(_close)
os.register_at_fork(after_in_child=_forget)
