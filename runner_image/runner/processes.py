"""The worker as the supervisor sees it: a process with a process group of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from .output import Output

DRAIN_SECONDS = 1.0
"""How long output is waited for after the worker has ended, if something holds its pipe open."""

EXITED = b"X"
STOP = b"S"


class Wake:
    """A pipe on which threads and signal handlers tell the main thread that something happened."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def send(self, what: bytes) -> None:
        """Tell the main thread; safe in signal handlers."""
        os.write(self._write, what)

    def wait(self, timeout_seconds: float | None) -> bytes:
        """Return what was told first; empty when the time is over."""
        seconds = None if timeout_seconds is None else max(timeout_seconds, 0.0)
        readable, _, _ = select.select([self._read], [], [], seconds)
        return os.read(self._read, 1) if readable else b""


class Worker:
    """A running worker.

    Args:
        archive: The runner's zip archive.
        directory: Where its task is.
        environ: All of its environment variables.
        output: What takes everything it prints.
        wake: Told when it has ended.
    """

    def __init__(
        self, archive: str, directory: str, environ: Mapping[str, str], output: Output, wake: Wake
    ) -> None:
        read, write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-u", archive, "worker", directory],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            start_new_session=True,
        )
        os.close(write)
        self._reader = output.follow(read)
        self._wake = wake
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    def signal_group(self, number: int) -> None:
        """Send a signal to it and to every process it started that stayed in its group."""
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def stop(self, grace_seconds: float) -> None:
        """Ask it to end, end it when the grace is over, and wait for that."""
        self.signal_group(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while self.exit_code is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self.signal_group(signal.SIGKILL)
                break
            self._wake.wait(left)

    def drain(self) -> None:
        """Wait for the end of its output, then end what it has left behind."""
        self._process.wait()
        self._reader.join(DRAIN_SECONDS)
        self.signal_group(signal.SIGKILL)

    def _wait(self) -> None:
        self._process.wait()
        self._wake.send(EXITED)
