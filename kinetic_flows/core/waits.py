"""What this process waits for that does not answer: a bucket, a cluster, the Prefect API.

Clients note it deep inside, where nobody passes a listener; whoever shows the progress of a call
looks here. It is a process's own, not a call's: two calls that wait for one bucket both say so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

WORTH_SAYING_SECONDS = 2.0
"""An answer that takes less is nothing to tell of."""

_lock = threading.Lock()
_waits: dict[int, Wait] = {}
_innermost: ContextVar[Wait | None] = ContextVar("wait", default=None)


class Wait:
    """A wait for an answer.

    Args:
        what: What is asked, such as `bucket kinetic-x`.
        moves_data: Whether the answer may take long because it is large: nothing is told of it
            then before a try has failed.
    """

    def __init__(self, what: str, *, moves_data: bool = False) -> None:
        self._what = what
        self._moves_data = moves_data
        self._since = time.monotonic()
        self._failed = 0

    def failed(self) -> None:
        """Note that a try failed, and that another one may follow."""
        self._failed += 1

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return time.monotonic() - self._since

    @property
    def is_worth_saying(self) -> bool:
        """Whether somebody who looks on wants to know of it."""
        return self.seconds >= WORTH_SAYING_SECONDS and bool(self._failed or not self._moves_data)

    def __str__(self) -> str:
        tries = {0: "", 1: ", tried once"}.get(self._failed, f", tried {self._failed} times")
        return f"{self._what} does not answer{tries}, {self.seconds:.0f} s"


@contextmanager
def waiting_for(what: str, *, moves_data: bool = False) -> Iterator[None]:
    """Note for the time of a block that this process waits for an answer.

    Args:
        what: What is asked.
        moves_data: Whether the answer may take long because it is large.
    """
    wait = Wait(what, moves_data=moves_data)
    with _lock:
        _waits[id(wait)] = wait
    token = _innermost.set(wait)
    try:
        yield
    finally:
        _innermost.reset(token)
        with _lock:
            del _waits[id(wait)]


def try_failed() -> None:
    """Note that a try of what this thread waits for has failed."""
    wait = _innermost.get()
    if wait is not None:
        wait.failed()


def waits() -> list[Wait]:
    """Return all that is waited for."""
    with _lock:
        return list(_waits.values())


def longest_wait() -> Wait | None:
    """Return what has been waited for the longest, if there is something worth saying."""
    worth_saying = (wait for wait in waits() if wait.is_worth_saying)
    return max(worth_saying, key=lambda wait: wait.seconds, default=None)
