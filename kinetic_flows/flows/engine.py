"""Running one of our flows with Prefect's engine, in this process."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
from prefect import Flow
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import MissingContextError, PrefectHTTPStatusError, TerminationSignal
from prefect.logging import get_run_logger
from prefect.states import Crashed

from kinetic_flows.clients.prefect.api import short_retries
from kinetic_flows.clients.prefect.build_cache import CACHE_PREFIX
from kinetic_flows.clients.prefect.errors import translation
from kinetic_flows.clients.prefect.internals import SENDING_LOGGERS
from kinetic_flows.clients.prefect.surroundings import surrounding_flow_run_id
from kinetic_flows.core.errors import (
    KineticError,
    PrefectServerError,
    PrefectUnreachable,
    RunCancelled,
)
from kinetic_flows.core.files import close_to_others
from kinetic_flows.core.other_loggers import hold_back
from kinetic_flows.core.signals import interruption_in
from kinetic_flows.flows.defaults import own_settings
from kinetic_flows.runs.session import Session

T = TypeVar("T")

LOCAL_RETRIES = 2
"""How often a server of this machine is asked again: after 2 and 4 seconds."""


def run_flow(
    body: Callable[..., T],
    name: str,
    parameters: Mapping[str, Any],
    session: Session,
    *,
    final_state: Callable[[T], State[Any]],
    run_name: str = "{function} on {accelerator}",
) -> T:
    """Run a flow to its end, and return what its body returns or raise what it raises.

    Prefect persists neither value nor exception. When the API is away as the body ends, the
    flow run's final state is kept in the ledger and set by the next session.

    Args:
        body: The flow's function.
        name: The flow's name.
        parameters: Its parameters, as Prefect shows them.
        session: Where it runs and reports.
        final_state: Returns the flow run's final state for what the body returned.
        run_name: What its runs are called, parameters in braces.

    Raises:
        BaseException: What the body raised, or what interrupted it.
    """
    ending: _Ending[T] = _Ending(session, before=sys.exception())
    results = results_of(session)
    with (
        quiet_console(lambda: session.api_availability.is_away),
        own_settings(**retries_of(session)),
        ExitStack() as afterwards,
    ):

        @wraps(body)
        def noted(**arguments: Any) -> State[Any]:
            try:
                ending.begin(current_flow_run_id())
                value = body(**arguments)
                ending.returned(value, final_state(value))
            except BaseException as error:  # noqa: BLE001 - raised by the ending
                # Not here: Prefect keeps what a flow raises, pickled, whether or not its results
                # are to be kept (3.8.8), and a run's ticket has its key.
                ending.raised(error)
            finally:
                if session.api_availability.is_away:
                    # Prefect's engine would ask in vain for another minute.
                    afterwards.enter_context(short_retries(session.api_retries(1)))
            return ending.state

        flow = own_flow(noted, name, run_name, results)
        afterwards.callback(tidy, results)
        try:
            ending.told(flow(**parameters, return_state=True))
        except BaseException as error:  # noqa: BLE001 - raised by the ending, where it counts
            ending.engine_raised(error)
    return ending.result()


def own_flow(
    body: Callable[..., State[Any]], name: str, run_name: str | None, results: Path
) -> Flow[..., State[Any]]:
    """Make a flow by what is written here, whatever Prefect's defaults are."""
    return Flow(
        body,
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


@dataclass(frozen=True, kw_only=True)
class End:
    """How work ended that something kept from its end.

    Attributes:
        error: What is raised for it.
        state_type: Prefect's type of its flow run's final state.
        message: What the UI shows beside that.
        log: What the flow run's log says of it; None for nothing.
        is_told: Whether that says everything, so that nobody needs a traceback.
    """

    error: BaseException
    state_type: str
    message: str
    log: str | None
    is_told: bool


def end_of(error: BaseException, session: Session, *, before: BaseException | None) -> End:
    """Say what an exception that ended a flow's work makes of its flow run.

    Args:
        error: The exception.
        session: Where it reports.
        before: The exception that was being handled when the work began, if any.
    """
    if isinstance(error, httpx.TransportError | PrefectHTTPStatusError):
        error = translation(session.api.url, error)
    if isinstance(error, PrefectUnreachable):
        session.api_availability.is_away = True
    interruption = interruption_in(error, before=before)
    if interruption is not None or isinstance(error, RunCancelled):
        message = str(interruption or error).partition("\n")[0] or "interrupted"
        return End(
            error=interruption or error,
            state_type="CANCELLED",
            message=message,
            log=None,
            is_told=True,
        )
    is_told = isinstance(error, KineticError)
    text = error.message if isinstance(error, KineticError) else _described(error)
    log = str(error) if is_told else text
    return End(error=error, state_type="FAILED", message=text, log=log, is_told=is_told)


class _Ending(Generic[T]):
    """How the body of a flow ended: value or exception, and the flow run's final state.

    Args:
        session: Where the flow runs and reports.
        before: The exception that was being handled when the flow began, if any: no part of it.
    """

    _value: T

    def __init__(self, session: Session, *, before: BaseException | None) -> None:
        self._session = session
        self._before = before
        self._flow_run_id = ""
        self._error: BaseException | None = None
        self.state: State[Any] = Crashed(message="its client failed")

    def begin(self, flow_run_id: str) -> None:
        """Note that this process drives the flow run."""
        self._flow_run_id = flow_run_id
        self._session.ledger.enter(flow_run_id)

    def returned(self, value: T, state: State[Any]) -> None:
        """Note the value that the body returned, and the flow run's final state."""
        self._value, self.state = value, state

    def raised(self, error: BaseException) -> None:
        """Note the exception that ended the body, and the final state for it."""
        end = end_of(error, self._session, before=self._before)
        self._error = end.error
        self.state = State(type=StateType(end.state_type), message=end.message)
        if end.log is not None:
            with suppress(MissingContextError):
                get_run_logger().error(end.log, exc_info=None if end.is_told else error)

    def told(self, state: State[Any]) -> None:
        """Note that Prefect has the final state.

        Raises:
            RunCancelled: The body was not called: its flow run was cancelled before.
            PrefectServerError: It was not called for another reason.
        """
        if not self._is_known:
            if state.is_cancelled() or state.is_cancelling():
                raise RunCancelled(
                    "the flow run was cancelled before it began",
                    value=state.name,
                    hint="call again; who cancelled it stands on its page in Prefect's UI",
                )
            raise PrefectServerError(
                f"Prefect did not begin the flow run: it is {state.name}: "
                f"{state.message or 'unknown'}",
                hint="its page in Prefect's UI may say more; call again",
            )
        self._session.ledger.leave(self._flow_run_id)

    def engine_raised(self, error: BaseException) -> None:
        """Note an exception of Prefect's engine; the end of the body before it counts for more."""
        if not self._is_known or interruption_in(error, before=self._before) is not None:
            self.raised(error)
        elif isinstance(error, httpx.TransportError | PrefectHTTPStatusError):
            self._session.api_availability.failed(translation(self._session.api.url, error))
        self._add_pending_update()

    def result(self) -> T:
        """Return what the body returned, or raise what ended it."""
        if isinstance(self._error, TerminationSignal):
            # Prefect's engine took the signal; now this program's own handler gets it.
            signal.raise_signal(self._error.signal)
        if self._error is not None:
            raise self._error
        return self._value

    @property
    def _is_known(self) -> bool:
        """Whether the body came to its end."""
        return self._error is not None or self.state.type is not StateType.CRASHED

    def _add_pending_update(self) -> None:
        """Have the flow run get its state that Prefect's engine did not bring to its end."""
        if not self._flow_run_id:
            return
        session, state = self._session, self.state
        is_noted = session.ledger.add_pending_update(
            session.api.url, self._flow_run_id, state.type.value, state.message or ""
        )
        if is_noted:
            session.ledger.leave(self._flow_run_id)
            if not session.api_availability.is_away:
                session.ledger.send_pending_updates(session.api)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def current_flow_run_id() -> str:
    """Return the flow run that is being driven.

    Raises:
        LookupError: There is none.
    """
    flow_run_id = surrounding_flow_run_id()
    if flow_run_id is None:
        raise LookupError("no flow run is being driven here")
    return flow_run_id


def retries_of(session: Session) -> dict[str, Any]:
    """Return the settings of Prefect by which its API is asked again."""
    # A server of this machine comes back within seconds, or not by itself.
    return {"client.max_retries": LOCAL_RETRIES} if _is_here(session.api.url) else {}


def results_of(session: Session) -> Path:
    """Return where Prefect keeps what our tasks cache on this machine."""
    return session.settings.home / "store" / "results"


def _is_here(api_url: str) -> bool:
    """Whether an API is on this machine."""
    host = urlsplit(api_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def tidy(results: Path) -> None:
    """Close what Prefect has cached, which it writes as the umask says, and drop failures.

    What its engine runs into, when the server is away for instance, it keeps pickled, under names
    of its own: nobody reads it, and the requests in it carry the server's password (3.8.8).
    """
    close_to_others(results)
    for path in results.glob("*"):
        if not path.name.startswith(CACHE_PREFIX):
            path.unlink(missing_ok=True)


class _Hushed(logging.Filter):
    """Drops what Prefect's sending threads say while our flows are driven, or an API is away.

    That an API is away is said once, by us.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._driven = 0
        self._is_kept = False
        self._raises = True

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - whatever it is
        return not (self._driven or self._is_kept)

    def begin(self) -> None:
        with self._lock:
            if not self._driven and not self._is_kept:
                # By this Prefect decides whether to write to standard error (3.8.8).
                self._raises, logging.raiseExceptions = logging.raiseExceptions, False
                for name in SENDING_LOGGERS:
                    logging.getLogger(name).addFilter(self)
            self._driven += 1

    def end(self, *, keep: bool) -> None:
        with self._lock:
            self._driven -= 1
            self._is_kept = self._is_kept or keep
            if not self._driven and not self._is_kept:
                logging.raiseExceptions = self._raises


_hushed = _Hushed()


@contextmanager
def quiet_console(outage: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Silence Prefect's console about our flow while one of its runs is driven here.

    Args:
        outage: Whether the API is away, so that Prefect's threads will not stop complaining.
    """
    hold_back()
    _hushed.begin()
    try:
        yield
    finally:
        _hushed.end(keep=outage())
