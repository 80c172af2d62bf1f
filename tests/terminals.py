"""Programs on a pseudo-terminal, and what a person sees of them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

import pexpect
import pyte


class Terminal:
    """A program on a pseudo-terminal, and the screen that a person sees of it.

    Args:
        command: The program and its arguments.
        variables: The program's variables; `TERM` need not be among them.
        columns: How wide the terminal is.
    """

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        columns: int = 100,
    ) -> None:
        self.screen = pyte.Screen(columns, 24)
        self._stream = pyte.ByteStream(self.screen)
        self._program = pexpect.spawn(
            command[0],
            list(command[1:]),
            dimensions=(24, columns),
            env={"TERM": "xterm-256color", **variables},
            echo=False,
            timeout=30,
        )
        self.raw = b""

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without the spinner and how long anything took."""
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return [re.sub(r"\d[\d.]* s\b", "N s", re.sub("^[⠋-⡿] ", "* ", line)) for line in lines]

    def until(self, pattern: str) -> None:
        """Read until something stands on the screen.

        Args:
            pattern: A regular expression for the screen's lines.
        """
        deadline = time.monotonic() + 60
        while not re.search(pattern, "\n".join(self.lines)):
            assert time.monotonic() < deadline, self.lines
            self._read()

    def go(self) -> None:
        """Let the program go on."""
        self._program.send("\n")

    def narrow(self, columns: int) -> None:
        """Make the window narrower, whose lines the terminal wraps."""
        self._program.setwinsize(24, columns)
        self.screen.resize(24, columns)

    def end(self) -> None:
        """Read until the program has ended."""
        while True:
            try:
                self._read()
            except pexpect.EOF:
                break
        self._program.close()
        assert self._program.exitstatus == 0, self.lines

    def close(self) -> None:
        """End the program."""
        self._program.close(force=True)

    def _read(self) -> None:
        chunk = self._program.read_nonblocking(65536, timeout=30)
        self.raw += chunk
        self._stream.feed(chunk)
