"""Asking a server that may be away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .prefect_api import ApiError

T = TypeVar("T")

PATIENCE_SECONDS = 120.0
"""How long a run waits for what it cannot begin without: a server may restart."""

FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 10.0


def ask_patiently(
    ask: Callable[[], T],
    say: Callable[[str], None],
    waiting_for: str,
    patience_seconds: float = PATIENCE_SECONDS,
) -> T:
    """Return what a server answers, however often it has to be asked.

    Args:
        ask: Asks.
        say: Called with a line to print, once, when that takes more than one try.
        waiting_for: What the line says.
        patience_seconds: When to give up.

    Raises:
        ApiError: It refuses, or does not answer.
    """
    deadline = time.monotonic() + patience_seconds
    pause_seconds = FIRST_PAUSE_SECONDS
    while True:
        try:
            return ask()
        except ApiError as error:
            if error.is_final or time.monotonic() + pause_seconds >= deadline:
                raise
            if pause_seconds == FIRST_PAUSE_SECONDS:
                say(f"waiting for {waiting_for}: {error}")
        time.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, LAST_PAUSE_SECONDS)
