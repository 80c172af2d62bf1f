"""A process that is asked about chips: a library that hangs or dies takes whoever asks along."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

WAIT_SECONDS = 2.0
"""How long an answer is waited for at once: other readings are not to wait for it."""

_DIE_WITH_PARENT = "import ctypes; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)\n"
"""Its input ends with who asks, of which a driver that hangs takes no note; see prctl(2)."""


class Asker:
    """Asks a program that answers every line of its input with a JSON object.

    Args:
        program: Its source.
        arguments: Its arguments.
        environ: Its variables.
    """

    def __init__(self, program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT + program, *arguments]
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: float | None = None

    @property
    def waited_seconds(self) -> float:
        """How long an answer has been waited for."""
        return 0.0 if self._asked is None else time.monotonic() - self._asked

    def ask(self) -> Mapping[str, Any] | None:
        """Ask, and wait a while for the answer, or go on waiting for one that has not come.

        Returns:
            The answer; None where it has not come yet.

        Raises:
            OSError: The process has ended, or cannot be started.
            ValueError: It was closed, or what it says is no answer.
        """
        self._process = self._process or self._start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        if self._asked is None:
            self._asked = time.monotonic()
            stdin.write(b"\n")
            stdin.flush()
        if not select.select([stdout], [], [], WAIT_SECONDS)[0]:
            return None
        answer = stdout.readline()
        self._asked = None
        if not answer:
            raise OSError("who asked the driver has ended")
        told: Mapping[str, Any] = json.loads(answer)
        return told

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.kill()
        # Within a driver that hangs it may not even end so.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
