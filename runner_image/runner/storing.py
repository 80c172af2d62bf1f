"""Keeping a result while the store is away, and storing it as soon as the store answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .contract import StoreAway
from .interrupts import Interrupts

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

Result = TypeVar("Result")


def store_patiently(
    store: Callable[[], Result],
    *,
    limit_seconds: float | None,
    interrupts: Interrupts,
    say: Callable[[str], None],
) -> Result:
    """Store something, trying again for as long as the store is away.

    Args:
        store: Stores it; raises `StoreAway` while that cannot be.
        limit_seconds: How long to try; None for as long as the run may go on.
        interrupts: What asks the run to stop: then one last try is made.
        say: Told when the store is away, and when it is back.

    Raises:
        StoreAway: It was away to the end.
        Fault: It refuses.
    """
    deadline = None if limit_seconds is None else time.monotonic() + limit_seconds
    pause, is_told = FIRST_PAUSE_SECONDS, False
    while True:
        # Looked at first, so that the try that follows an interruption is the last one.
        is_last = interrupts.is_stopping or (deadline is not None and time.monotonic() >= deadline)
        try:
            stored = store()
        except StoreAway as away:
            if is_last:
                raise
            if not is_told:
                say(f"{away.message}; the result is kept here, and stored when the store is back")
                is_told = True
        else:
            if is_told:
                say("the store is back: the result is stored")
            return stored
        until = time.monotonic() + pause
        interrupts.wait_until(until if deadline is None else min(until, deadline))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
