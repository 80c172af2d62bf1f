"""Being asked to stop: by SIGTERM, or by Prefect, which is turned into one."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any


class Interrupted(BaseException):
    """The run is to stop, and the function has not been called."""


class Interrupts:
    """What the main thread waits for: the end of a worker, and being asked to stop.

    Until the function is called, being asked to stop raises `Interrupted` in the main thread,
    wherever it is. From then on, it wakes the main thread, which stops the worker.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._raises = False
        self.is_terminated = False
        self.is_restarting = False
        self.is_given_up = False

    @property
    def is_stopping(self) -> bool:
        """Whether the function is to be stopped, for good or to be called anew."""
        return self.is_terminated or self.is_restarting or self.is_given_up

    def install(self) -> None:
        """Begin to listen."""
        self._raises = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def hold(self) -> None:
        """From now on, raise nothing."""
        self._raises = False

    def request_stop(self) -> None:
        """Ask this process to stop, from any thread."""
        os.kill(os.getpid(), signal.SIGTERM)

    def request_restart(self) -> None:
        """Ask for the function to be stopped and called anew, from any thread."""
        self.is_restarting = True
        self.wake()

    def request_giving_up(self) -> None:
        """Ask for the function to be stopped for good, from any thread, as its run has failed."""
        self.is_given_up = True
        self.wake()

    def begin_again(self) -> None:
        """Forget a restart that was asked for, and raise again until the function is called."""
        self.is_restarting = False
        self._raises = True

    def wake(self) -> None:
        """Wake the main thread; safe in signal handlers."""
        os.write(self._write, b".")

    def wait_until(self, deadline: float | None) -> None:
        """Sleep until the main thread is woken or a moment of the monotonic clock has come."""
        seconds = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        readable, _, _ = select.select([self._read], [], [], seconds)
        if readable:
            os.read(self._read, 1)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self.is_terminated = True
        if self._raises:
            self._raises = False
            raise Interrupted
        self.wake()
