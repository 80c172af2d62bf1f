"""Driving one of our flows with Prefect's engine, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import wraps
from typing import Any

import httpx
from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging import get_run_logger
from prefect.states import Failed

from kinetic_flows.clients.prefect_api import impatient, translation
from kinetic_flows.errors import KineticError
from kinetic_flows.flows.console import quiet_console
from kinetic_flows.flows.own_settings import own_settings
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

    A Prefect API that is away when the body has ended loses nothing of what the body noted: the
    final state is set the next time that somebody looks.

    Args:
        body: The flow's function, which returns the flow run's final state.
        name: The flow's name.
        parameters: What it is called with, as Prefect shows it.
        session: Where it runs and reports.
        run_name: What its runs are called, parameters in braces.
    """
    ended = _Ended()
    with quiet_console(), own_settings(), ExitStack() as hurry:

        @wraps(body)
        def noted(**arguments: Any) -> State[Any]:
            ended.flow_run_id = current_flow_run_id()
            try:
                ended.state = body(**arguments)
                return ended.state
            except Exception as error:  # noqa: BLE001 - the body has noted it
                # Not raised: Prefect keeps what a flow raises, pickled, whether or not its
                # results are to be kept (3.8.8), and a run's ticket has its key.
                ended.state = _failed(error)
                return ended.state
            except BaseException as error:
                ended.state = Failed(message=str(error).partition("\n")[0])
                raise
            finally:
                if session.outage.is_on:
                    # Prefect's engine would ask in vain for another minute.
                    hurry.enter_context(impatient())

        flow = Flow(
            noted,
            name=name,
            version="1",
            flow_run_name=run_name,
            validate_parameters=False,
            retries=0,
            retry_delay_seconds=0,
            log_prints=False,
            persist_result=False,
            # Its tasks inherit this; else they would the storage of a flow around it.
            result_storage=session.settings.home / "store" / "results",
        )
        try:
            flow(**parameters, return_state=True)
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if ended.state is None:
                raise
            session.outage.note(translation(session.api.url, error))
            session.ledger.owe(
                session.api.url,
                ended.flow_run_id,
                ended.state.type.value,
                ended.state.message or "",
            )


class _Ended:
    """What a flow's body came to, as far as it has ended."""

    flow_run_id = ""
    state: State[Any] | None = None


def _failed(error: Exception) -> State[Any]:
    """Return the state of a flow run that failed, with what its log does not tell by itself."""
    if isinstance(error, KineticError):
        get_run_logger().error(str(error))
        return Failed(message=error.message)
    get_run_logger().exception("kinetic-flows itself failed")
    return Failed(message=f"{type(error).__name__}: {error}")


def current_flow_run_id() -> str:
    """Return the flow run that is being driven.

    Raises:
        LookupError: There is none.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise LookupError("no flow run is being driven here")
    return str(context.flow_run.id)
