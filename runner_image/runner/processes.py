"""The worker as the supervisor sees it: a process with a session of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .interrupts import Interrupts
from .marks import MAX_RECORD_BYTES
from .output import Output

DRAIN_SECONDS = 1.0
"""How long output is waited for after the worker has ended, if something holds its pipe open."""


class Worker:
    """A running worker.

    Args:
        archive: The runner's zip archive.
        directory: Where its task is.
        environ: All of its environment variables but those that are secret.
        handed: What it is told of secrets, which stands in no file.
        output: What takes everything it prints.
        interrupts: Woken when it has ended.
    """

    def __init__(
        self,
        archive: str,
        directory: str,
        environ: Mapping[str, str],
        handed: Mapping[str, Any],
        output: Output,
        interrupts: Interrupts,
    ) -> None:
        (stdout, its_stdout), (stderr, its_stderr) = os.pipe(), os.pipe()
        records, its_records = _record_socket()
        its_handed, handing = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-u", archive, "worker", directory, str(its_records), str(its_handed)],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=its_stdout,
            stderr=its_stderr,
            pass_fds=(its_records, its_handed),
            start_new_session=True,
        )
        for fd in (its_stdout, its_stderr, its_records, its_handed):
            os.close(fd)
        _hand_over(handing, json.dumps(dict(handed)).encode())
        self._reader = output.follow(stdout, stderr, records)
        self._interrupts = interrupts
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        code: int | None = self._process.returncode
        return code

    def stop(self, grace_seconds: float) -> None:
        """Ask it to end, and end it when the grace is over."""
        self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while self.exit_code is None and time.monotonic() < deadline:
            self._interrupts.wait_until(deadline)
        if self.exit_code is None:
            self._signal_group(signal.SIGKILL)

    def finish(self) -> None:
        """Wait for its end and for the last of its output, and end what it has left behind."""
        self._process.wait()
        self._reader.join(DRAIN_SECONDS)
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def _wait(self) -> None:
        self._process.wait()
        self._interrupts.wake()


def _hand_over(pipe: int, data: bytes) -> None:
    """Write what a worker reads first to a pipe, which holds less than values may be."""

    def write() -> None:
        # One that ends at once reads nothing.
        with suppress(OSError), open(pipe, "wb") as file:
            file.write(data)

    if len(data) < select.PIPE_BUF:
        write()
    else:
        threading.Thread(target=write, daemon=True).start()


def _record_socket() -> tuple[int, int]:
    """Return the two ends of a socket for records: each message whole, whoever sends it."""
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_RECORD_BYTES)
    return ours.detach(), theirs.detach()
