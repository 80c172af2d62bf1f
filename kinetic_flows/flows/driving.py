"""Driving one of our flows with Prefect's engine, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)

from kinetic_flows.flows.console import quiet_console
from kinetic_flows.session import Session


def drive(
    body: Callable[..., Any],
    name: str,
    parameters: Mapping[str, Any],
    session: Session,
    *,
    run_name: str = "{function} on {accelerator}",
) -> None:
    """Run a flow to its end; what it raises is left to the body to note.

    Args:
        body: The flow's function, which returns the flow run's final state.
        name: The flow's name.
        parameters: What it is called with, as Prefect shows it.
        session: Where it runs and reports.
        run_name: What its runs are called, parameters in braces.
    """
    flow = Flow(body, name=name, version="1", flow_run_name=run_name, validate_parameters=False)
    with quiet_console(), temporary_settings(_prefect_settings(session)):
        flow(**parameters, return_state=True)


def current_flow_run_id() -> str:
    """Return the flow run that is being driven.

    Raises:
        LookupError: There is none.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise LookupError("no flow run is being driven here")
    return str(context.flow_run.id)


def _prefect_settings(session: Session) -> dict[Any, Any]:
    """Return the Prefect settings that our flows run under."""
    return {
        PREFECT_LOCAL_STORAGE_PATH: session.settings.home / "store" / "results",
        # A flow shorter than a second waits for its heartbeat's thread (Prefect 3.8.8). The
        # ledger of clients and the reconciler find flow runs whose client has died.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
