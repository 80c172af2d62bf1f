"""A run as a task of the flow that asks for it, so that Prefect has a future of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError
from prefect.futures import PrefectFuture

from kinetic_flows.clients.prefect.flow_names import TASK_AWAIT_RUN
from kinetic_flows.flows.own_tasks import own_task


def await_in_flow(result: Callable[[], Any]) -> PrefectFuture[Any]:
    """Submit a task that waits for a run, in the flow that this is called in.

    Args:
        result: Waits for the run, and returns or raises its result.

    Raises:
        MissingContextError: This is not called in a flow.
    """
    if FlowRunContext.get() is None:
        raise MissingContextError("as_future() is for use in a Prefect flow; use result() here")

    @own_task(TASK_AWAIT_RUN)
    def await_run() -> Any:
        """Wait for a run of a remote function."""
        return result()

    return await_run.submit()
