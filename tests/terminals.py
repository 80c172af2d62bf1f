"""Programs on a pseudo-terminal, and what a person sees of them."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence

import pyte

_BECOME = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Has the terminal send signals to the program that it becomes."""


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
        self._terminal, inner = pty.openpty()
        self._resize(columns)
        attributes = termios.tcgetattr(inner)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(inner, termios.TCSANOW, attributes)
        # Not forked, as pexpect does it: gRPC, which loopback servers use here, does not stand it.
        self._program = subprocess.Popen(
            [sys.executable, "-c", _BECOME, *command],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={"TERM": "xterm-256color", **variables},
            start_new_session=True,
        )
        os.close(inner)
        self.raw = b""

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without the spinner and how long anything took."""
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return [re.sub(r"\d[\d.]* s\b", "N s", re.sub("^[⠋-⡿] ", "* ", line)) for line in lines]

    @property
    def transcript(self) -> str:
        """Everything that was written, without what moves the cursor and what colours it."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.decode(errors="replace"))

    def until(self, pattern: str) -> None:
        """Read until something stands on the screen.

        Args:
            pattern: A regular expression for the screen's lines.
        """
        deadline = time.monotonic() + 60
        while not re.search(pattern, "\n".join(self.lines)):
            assert time.monotonic() < deadline, self.lines
            if not self._read():
                break
        assert re.search(pattern, "\n".join(self.lines)), self.lines

    def go(self) -> None:
        """Let the program go on."""
        self.press("\n")

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    def narrow(self, columns: int) -> None:
        """Make the window narrower, whose lines the terminal wraps."""
        self._resize(columns)
        self.screen.resize(24, columns)

    def end(self, code: int = 0) -> None:
        """Read until the program has ended.

        Args:
            code: Its exit code.
        """
        while self._read():
            pass
        assert self._program.wait(timeout=30) == code, self.lines

    def close(self) -> None:
        """End the program."""
        self._program.kill()
        self._program.wait()
        os.close(self._terminal)

    def _resize(self, columns: int) -> None:
        termios.tcsetwinsize(self._terminal, (24, columns))

    def _read(self) -> bool:
        """Read what the program writes; return whether there was anything before its end."""
        ready, _, _ = select.select([self._terminal], [], [], 30)
        assert ready, self.lines
        try:
            chunk = os.read(self._terminal, 65536)
        except OSError:  # nobody has the terminal open any more
            return False
        self.raw += chunk
        self._stream.feed(chunk)
        return bool(chunk)
