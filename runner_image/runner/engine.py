"""Handing a function that is itself a Prefect flow to Prefect's engine.

Its tasks then show as task runs, and its states are the engine's own, under the flow run that
stands for this run. Prefect is imported only here, and only when the function is a flow.
"""

from __future__ import annotations

import inspect
from typing import Any


def run_flow(flow: Any, args: Any, kwargs: Any, flow_run_id: str) -> Any:
    """Run a flow under an existing flow run and return its value, or raise what it raised."""
    from uuid import UUID

    from prefect import get_client
    from prefect.flow_engine import run_flow as run_in_engine
    from prefect.utilities.callables import get_call_parameters

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(flow_run_id))
    value = run_in_engine(
        flow, flow_run=flow_run, parameters=get_call_parameters(flow.fn, args, kwargs)
    )
    if inspect.isawaitable(value):
        import asyncio

        return asyncio.run(_awaited(value))
    return value


async def _awaited(value: Any) -> Any:
    return await value
