"""Driving one of our flows with Prefect's engine, in this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from prefect import Flow
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError, PrefectHTTPStatusError, TerminationSignal
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Crashed, Failed

from kinetic_flows.clients.prefect.api import short_retries, translation
from kinetic_flows.clients.prefect.build_cache import CACHE_PREFIX
from kinetic_flows.core.errors import (
    KineticError,
    PrefectServerError,
    PrefectUnreachable,
    RunCancelled,
)
from kinetic_flows.core.files import close_to_others
from kinetic_flows.core.signals import interruption_in
from kinetic_flows.flows.console import quiet_console
from kinetic_flows.flows.own_settings import own_settings
from kinetic_flows.runs.session import Session

LOCAL_RETRIES = 2
"""How often a server of this machine is asked again: after 2 and 4 seconds."""


def drive(
    body: Callable[..., State[Any]],
    name: str,
    parameters: Mapping[str, Any],
    session: Session,
    *,
    run_name: str = "{function} on {accelerator}",
) -> None:
    """Run a flow to its end.

    A Prefect API that is away when the body has ended loses nothing of what the body came to:
    the final state is set the next time that somebody looks.

    Args:
        body: The flow's function, which returns the flow run's final state.
        name: The flow's name.
        parameters: What it is called with, as Prefect shows it.
        session: Where it runs and reports.
        run_name: What its runs are called, parameters in braces.

    Raises:
        BaseException: What the body raised, or what interrupted it.
    """
    ended, results = _Ended(sys.exception()), session.settings.home / "store" / "results"
    # A server of this machine comes back within seconds, or not by itself.
    patience = {"client.max_retries": LOCAL_RETRIES} if _is_here(session.api.url) else {}
    with (
        quiet_console(lambda: session.api_availability.is_away),
        own_settings(**patience),
        ExitStack() as hurry,
    ):

        @wraps(body)
        def noted(**arguments: Any) -> State[Any]:
            ended.flow_run_id = current_flow_run_id()
            try:
                session.ledger.enter(ended.flow_run_id)
                ended.state = body(**arguments)
            except BaseException as error:  # noqa: BLE001 - raised again below
                # Not here: Prefect keeps what a flow raises, pickled, whether or not its results
                # are to be kept (3.8.8), and a run's ticket has its key.
                ended.take(error, session)
            finally:
                if session.api_availability.is_away:
                    # Prefect's engine would ask in vain for another minute.
                    hurry.enter_context(short_retries(session.patience(1)))
            return ended.state

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
            result_storage=results,
        )
        hurry.callback(_tidy, results)
        try:
            ended.check(flow(**parameters, return_state=True))
            session.ledger.leave(ended.flow_run_id)
        except BaseException as error:  # noqa: BLE001 - raised below, where it counts
            ended.take_from_engine(error, session)
            _owe_state(ended, session)
    if isinstance(ended.error, TerminationSignal):
        # Prefect's engine took the signal; now it is for whoever would have had it.
        signal.raise_signal(ended.error.signal)
    if isinstance(ended.error, KineticError | KeyboardInterrupt):
        # Prefect's engine is no part of what went wrong; a bug of ours keeps its frames.
        raise ended.error.with_traceback(None)
    if ended.error is not None:
        raise ended.error


class _Ended:
    """What a flow's body came to, as far as it has ended.

    Args:
        before: What was being handled when the flow began, which is no part of it.
    """

    def __init__(self, before: BaseException | None) -> None:
        self._before = before
        self.flow_run_id = ""
        self.state: State[Any] = Crashed(message="its client failed")
        self.error: BaseException | None = None

    @property
    def is_known(self) -> bool:
        """Whether the body came to its end."""
        return self.error is not None or self.state.type is not StateType.CRASHED

    def check(self, state: State[Any]) -> None:
        """See that the body was called, which Prefect may have found a reason against.

        Raises:
            RunCancelled: Its flow run was cancelled before.
            PrefectServerError: There was another reason.
        """
        if self.is_known:
            return
        if state.is_cancelled() or state.is_cancelling():
            raise RunCancelled("the flow run was cancelled before it began")
        raise PrefectServerError(
            f"Prefect did not begin the flow run: it is {state.name}: {state.message or 'unknown'}",
            hint="its page in Prefect's UI may say more; call again",
        )

    def take(self, error: BaseException, session: Session) -> None:
        """Note what ended the body, and the state that this means."""
        if isinstance(error, httpx.TransportError | PrefectHTTPStatusError):
            error = translation(session.api.url, error)
        if isinstance(error, PrefectUnreachable):
            session.api_availability.is_away = True
        interruption = interruption_in(error, before=self._before)
        self.error = interruption or error
        if interruption is not None or isinstance(error, RunCancelled):
            self.state = Cancelled(message=str(error).partition("\n")[0] or "interrupted")
            return
        is_told = isinstance(error, KineticError)
        text = error.message if isinstance(error, KineticError) else _described(error)
        self.state = Failed(message=text)
        with suppress(MissingContextError):
            get_run_logger().error(str(error) if is_told else text, exc_info=not is_told)

    def take_from_engine(self, error: BaseException, session: Session) -> None:
        """Note what Prefect's engine raised; what the body came to before that counts for more."""
        if not self.is_known or interruption_in(error, before=self._before) is not None:
            self.take(error, session)
        elif isinstance(error, httpx.TransportError | PrefectHTTPStatusError):
            session.api_availability.failed(translation(session.api.url, error))


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _owe_state(ended: _Ended, session: Session) -> None:
    """Have a flow run get its state that Prefect's engine did not bring to its end."""
    if not ended.flow_run_id:
        return
    state, ledger = ended.state, session.ledger
    if ledger.add_pending_update(
        session.api.url, ended.flow_run_id, state.type.value, state.message or ""
    ):
        ledger.leave(ended.flow_run_id)
        if not session.api_availability.is_away:
            ledger.send_pending_updates(session.api)


def current_flow_run_id() -> str:
    """Return the flow run that is being driven.

    Raises:
        LookupError: There is none.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise LookupError("no flow run is being driven here")
    return str(context.flow_run.id)


def _is_here(api_url: str) -> bool:
    """Whether an API is on this machine."""
    host = urlsplit(api_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _tidy(results: Path) -> None:
    """Close what Prefect has cached, which it writes as the umask says, and drop failures.

    What its engine runs into, when the server is away for instance, it keeps pickled, under names
    of its own: nobody reads it, and the requests in it carry the server's password (3.8.8).
    """
    close_to_others(results)
    for path in results.glob("*"):
        if not path.name.startswith(CACHE_PREFIX):
            path.unlink(missing_ok=True)
