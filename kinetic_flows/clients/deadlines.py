"""A bound on how long a call may take, whatever the other side does.

Timeouts of HTTP clients bound the wait for the next byte, so a server that sends one byte now
and then can hold a call for ever. The calls of this package are bounded as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


class DeadlineExceeded(Exception):
    """The call did not end in time; its thread was left behind."""


def call_with_deadline(call: Callable[[], T], seconds: float) -> T:
    """Make a call in a thread of its own and wait for it no longer than a limit.

    Args:
        call: What to call.
        seconds: The limit.

    Returns:
        What it returns.

    Raises:
        DeadlineExceeded: It did not end in time. The thread dies with the process at the
            latest.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(
        target=copy_context().run, args=(run,), name="kinetic-call", daemon=True
    )
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise DeadlineExceeded(f"no answer within {seconds:g} s")
    return returned[0]
