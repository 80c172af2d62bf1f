"""The retry policy of all clients, for requests that met a busy or unreachable server.

Google's and Prefect's own clients have policies of their own.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kinetic_flows.core.interruption import pause
from kinetic_flows.core.waits import try_failed

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


class Transient(Exception):
    """A try failed in a way that may not happen again.

    Args:
        error: What is raised if this was the last try.
        wait_seconds: The pause that the server asks for; None for the policy's.
    """

    def __init__(self, error: Exception, wait_seconds: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_seconds = wait_seconds


def insist(
    attempt: Callable[[], T],
    pauses_seconds: Sequence[float],
    *,
    sleep: Callable[[float], None] = pause,
) -> T:
    """Try until a try does not fail as `Transient`, and return what came of it.

    Args:
        attempt: One try.
        pauses_seconds: Pauses before each further try, which vary at random: those who failed
            together would otherwise fail together again.
        sleep: Waits between tries.

    Raises:
        Exception: What the last try failed with.
    """
    from tenacity import Retrying

    try:
        return Retrying(sleep=sleep, **_policy(pauses_seconds))(attempt)
    except Transient as last:
        raise last.error from last.__cause__


async def insist_within_loop(
    attempt: Callable[[], Awaitable[T]], pauses_seconds: Sequence[float]
) -> T:
    """Do what `insist` does, for work in an event loop."""
    from tenacity import AsyncRetrying

    try:
        return await AsyncRetrying(**_policy(pauses_seconds))(attempt)
    except Transient as last:
        raise last.error from last.__cause__


def _policy(pauses_seconds: Sequence[float]) -> dict[str, Any]:
    from tenacity import retry_if_exception_type, stop_after_attempt

    # tenacity 9 asks for a pause after the last try, too.
    pauses = (*pauses_seconds, 0.0)

    def wait_seconds(state: RetryCallState) -> float:
        failed = state.outcome.exception() if state.outcome else None
        if isinstance(failed, Transient) and failed.wait_seconds is not None:
            return failed.wait_seconds
        return pauses[state.attempt_number - 1] * random.uniform(0.5, 1.5)  # noqa: S311

    return {
        "before_sleep": lambda _: try_failed(),
        "retry": retry_if_exception_type(Transient),
        "stop": stop_after_attempt(len(pauses)),
        "wait": wait_seconds,
        "reraise": True,
    }
