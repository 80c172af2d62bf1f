"""How long the steps of a call took, as the phases that its run tells of."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from kinetic_flows.clients.prefect.flow_names import (
    TASK_BUILD_IMAGE,
    TASK_LOCK_DEPENDENCIES,
    TASK_RESOLVE_IMAGE,
    TASK_UPLOAD_CODE,
    TASK_UPLOAD_DATA,
    TASK_UPLOAD_DEPENDENCIES,
)

_PHASES: Mapping[str, str] = {
    TASK_LOCK_DEPENDENCIES: "lock",
    TASK_RESOLVE_IMAGE: "lock",
    TASK_BUILD_IMAGE: "build",
    TASK_UPLOAD_DEPENDENCIES: "upload",
    TASK_UPLOAD_CODE: "upload",
    TASK_UPLOAD_DATA: "upload",
}

_times: ContextVar[dict[str, float] | None] = ContextVar("step_times", default=None)


@contextmanager
def timed_steps() -> Iterator[dict[str, float]]:
    """Yield how many seconds each phase of the block took, filled in as its steps end.

    Steps of one phase that run at the same time count as the longest of them.
    """
    times: dict[str, float] = {}
    token = _times.set(times)
    try:
        yield times
    finally:
        _times.reset(token)


def also_took(parallel: Iterable[Mapping[str, float]]) -> None:
    """Note what steps took that went on at the same time, of each phase the longest.

    Args:
        parallel: What each of them took, as `timed_steps` yields it.
    """
    times = _times.get()
    if times is None:
        return
    for took in parallel:
        for phase, seconds in took.items():
            times[phase] = max(times.get(phase, 0.0), seconds)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Note how long a step takes, whose block this is, if somebody wants to know.

    Args:
        step: Its name.
    """
    times, phase = _times.get(), _PHASES.get(step)
    begun = time.monotonic()
    yield
    if times is not None and phase:
        took = time.monotonic() - begun
        is_parallel = phase == "upload"
        times[phase] = (
            max(times.get(phase, 0.0), took) if is_parallel else (times.get(phase, 0.0) + took)
        )
