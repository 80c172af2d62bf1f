"""Handing a function that is itself a Prefect flow to Prefect's engine.

Its tasks then show as task runs, and its states are the engine's own, under the flow run that
stands for this run. Prefect is imported only here, and only when the function is a flow.
"""

from __future__ import annotations

import inspect
from typing import Any

from .masks import Masks


def run_flow(flow: Any, args: Any, kwargs: Any, flow_run_id: str, masks: Masks) -> Any:
    """Run a flow under an existing flow run and return its value, or raise what it raised.

    Args:
        flow: The flow.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        flow_run_id: The flow run.
        masks: Put in the place of what states of the flow and of its tasks may not show.
    """
    from uuid import UUID

    from prefect import get_client
    from prefect.flow_engine import run_flow as run_in_engine
    from prefect.utilities.callables import get_call_parameters

    if masks:
        hide_in_states(masks)
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(flow_run_id))
    value = run_in_engine(
        flow, flow_run=flow_run, parameters=get_call_parameters(flow.fn, args, kwargs)
    )
    if inspect.isawaitable(value):
        import asyncio

        return asyncio.run(_awaited(value))
    return value


def hide_in_states(masks: Masks) -> None:
    """Have what the engine says of exceptions in states masked, where it says it as in 3.8.8."""
    from prefect import states

    told = getattr(states, "format_exception", None)
    if told is not None:
        vars(states)["format_exception"] = lambda *args, **kwargs: masks.text(told(*args, **kwargs))


async def _awaited(value: Any) -> Any:
    return await value
