"""A run as a task of the flow that asks for it, so that Prefect has a future of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError
from prefect.futures import PrefectFuture

from kinetic_flows.naming import TASK_AWAIT_RUN


def await_in_flow(result: Callable[[], Any]) -> PrefectFuture[Any]:
    """Submit a task that waits for a run, in the flow that this is called in.

    Args:
        result: Waits for the run, and returns or raises its result.

    Raises:
        MissingContextError: This is not called in a flow.
    """
    if FlowRunContext.get() is None:
        raise MissingContextError("as_future() is for use in a Prefect flow; use result() here")

    def await_run() -> Any:
        """Wait for a run of a remote function."""
        return result()

    task: Task[[], Any] = Task(
        await_run, name=TASK_AWAIT_RUN, version="1", cache_policy=NO_CACHE, persist_result=False
    )
    return task.submit()
