"""The handle of one remote run: its state, its output, its result, from any process."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

from kinetic_flows.api.outputs import Outputs, are_certain, found_outputs
from kinetic_flows.api.run_insight import RunInsight
from kinetic_flows.clients.prefect.labels import STORE_LABEL
from kinetic_flows.clients.prefect.surroundings import surrounding_flow_run_id
from kinetic_flows.core import option_values as check
from kinetic_flows.core.api_boundary import BoundedIterator, at_api_boundary
from kinetic_flows.core.cards import Card
from kinetic_flows.core.envelope import ResultEnvelope
from kinetic_flows.core.errors import ConfigurationError, RunError, RunNotFoundError
from kinetic_flows.core.interruption import in_thread
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.public_names import public, without_attribute
from kinetic_flows.core.streams import PrintedLine
from kinetic_flows.runs.cancel import cancel
from kinetic_flows.runs.find import RunFilter, find_records, group_for_run, run_id_of
from kinetic_flows.runs.following import followed_lines, last_lines
from kinetic_flows.runs.group import is_group
from kinetic_flows.runs.kept_session import KeptSession
from kinetic_flows.runs.leaving import run_goes_on, told_if_left
from kinetic_flows.runs.logs import LogReader
from kinetic_flows.runs.results import unpack_result
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import is_preparing, store_label, synced_record, ticket_of
from kinetic_flows.runs.wait import wait_for_run

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

    from kinetic_flows.clients.prefect.api import PrefectApi, RunRecord
    from kinetic_flows.flows import run as run_flow
    from kinetic_flows.runs import retry
else:
    run_flow = LazyModule("kinetic_flows.flows.run")
    retry = LazyModule("kinetic_flows.runs.retry")

R = TypeVar("R")


@public
@dataclass(frozen=True, kw_only=True)
class Run(RunInsight, Generic[R]):
    """One run of a function, which goes on whatever becomes of this process.

    A run can be pickled, and awaited in async code (`value = await run`). A REPL and a notebook
    show its name, id and page, and the state that `run.state` had when it was last asked for: to
    show a run asks nobody.

    Example:
        ```python
        run = train.submit(rate=0.1)
        print(run.url, run.state)
        loss = run.result(timeout_seconds=3600)

        again = kinetic.attach(run.id)  # from any other process
        ```

    Attributes:
        ticket: What is needed to follow the run and to trust its result.
        url: Where a browser shows the run.
        cloud: What its function's options say of Google Cloud, by option.
    """

    ticket: RunTicket
    url: str
    cloud: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    _final_state: ClassVar[str] = ""
    _outputs: ClassVar[Outputs | None] = None
    _seen: ClassVar[tuple[str, datetime | None]] = ("", None)

    @cached_property
    def _sessions(self) -> KeptSession:
        return KeptSession(self.cloud)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return without_attribute(self, name)

    def __getstate__(self) -> dict[str, Any]:
        # What is remembered here is for this process.
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def id(self) -> str:
        """The run's id, which is its flow run's."""
        return self.ticket.run_id

    @property
    def name(self) -> str:
        """What the run is called: its function and arguments, such as `train(rate=0.1)`.

        The name that it was given in Prefect's UI or by a program, where it was given one.
        """
        return self.ticket.name

    @property
    def function(self) -> str:
        """The function's name."""
        return self.ticket.function or self.ticket.name.partition("(")[0]

    @property
    @at_api_boundary
    def state(self) -> str:
        """The name of the run's state in Prefect, such as `Running`.

        Prefect is asked each time until the run has ended; a final state is remembered.
        """
        return self._final_state or self._ask_for_state()

    def _ask_for_state(self) -> str:
        with self._sessions.session() as session:
            record = synced_record(
                session.api.read_run(self.id), self.ticket, session.platform, session.api
            )
        _remember_state(self, record)
        return record.state_name

    @at_api_boundary
    def wait(self, timeout_seconds: float | None = None) -> Run[R]:
        """Wait until the run has ended, however it ended.

        Args:
            timeout_seconds: When to stop waiting; None to wait for as long as it takes.

        Raises:
            WaitTimeout: It is not over yet; it goes on.
        """
        with suppress(RunError):
            self._envelope(timeout_seconds)
        return self

    @at_api_boundary
    def result(self, timeout_seconds: float | None = None) -> R:
        """Wait for the run, and return what the function returned or raise what it raised.

        Args:
            timeout_seconds: When to stop waiting, which does not cancel the run; None to wait
                for as long as it takes.

        Raises:
            WaitTimeout: It is not over yet; it goes on.
            RunError: It ended without a value.
            Exception: The function's own exception.
        """
        value: R = unpack_result(self._envelope(timeout_seconds), self.ticket, url=self.url)
        return value

    def _envelope(self, timeout_seconds: float | None) -> ResultEnvelope:
        limit = check.limit_seconds("timeout_seconds", timeout_seconds)
        with (
            told_if_left(run_goes_on(self.id, self.name)),
            self._sessions.session() as session,
        ):
            return wait_for_run(self.ticket, session, NullProgress(), timeout_seconds=limit)

    @overload
    def logs(self, *, follow: Literal[True], tail: int | None = None) -> Iterator[PrintedLine]: ...

    @overload
    def logs(
        self, *, follow: Literal[False] = False, tail: int | None = None
    ) -> list[PrintedLine]: ...

    @at_api_boundary
    def logs(
        self, *, follow: bool = False, tail: int | None = None
    ) -> list[PrintedLine] | Iterator[PrintedLine]:
        """Return what the run has printed and logged, line by line.

        A line is a text whose `stream` is `stdout` or `stderr`. What was logged is on `stderr`,
        with its level and logger before it.

        Prefect keeps the lines, so they outlive the pod; what it does not have yet, or could
        not be sent, is read from the run's process.

        Args:
            follow: Whether to go on, with each line as it comes, until the run is over; an API
                that cannot be reached for a while is waited for.
            tail: How many of the last lines, of those there are when this is called; None for
                all.

        Raises:
            UsageError: `tail` is no number of lines.
        """
        if tail is not None:
            check.count("tail", tail)
        if follow:
            return BoundedIterator(followed_lines(self.ticket, self._sessions, tail))
        with self._sessions.session() as session:
            return last_lines(LogReader(self.ticket, session).available(), tail)

    @at_api_boundary
    def cancel(self) -> None:
        """Stop the function, kindly at first; nothing happens when it has ended."""
        with self._sessions.session() as session:
            cancel(self.ticket, session)

    @at_api_boundary
    def retry(self) -> Run[R]:
        """Start the same call once more, in the same image with the same code, as a new run.

        The new run names this one in its tags, and goes on with its directory of outputs.

        Raises:
            OutputDirInUseError: This run has not ended, or another writes to that directory.
            RunNotFoundError: What the run was started with has expired.
            KineticError: The new run could not be started.
        """
        with self._sessions.session() as session:
            record = session.api.read_run(self.id)
            ticket = retry.retry_run(record, surrounding_flow_run_id(), session)
            url = session.api.run_url(ticket.run_id)
            return handle_of(ticket, url, self.cloud, self._sessions)

    @property
    @at_api_boundary
    def outputs(self) -> Outputs:
        """Where the run keeps its outputs: what `KINETIC_OUTPUT_DIR` is set to in it.

        A directory on this machine, else a `gs://` URI: a text with `ls()` and `download(to)`.
        Prefect is asked the first time.
        """
        if self._outputs is None:
            with self._sessions.session() as session:
                record = session.api.read_run(self.id)
            found = found_outputs(record, self.cloud, self._sessions)
            vars(self)["_outputs"] = found if are_certain(record) else None
            return found
        return self._outputs

    def as_future(self) -> PrefectFuture[R]:
        """Return a Prefect future of the run, for the flow that this is called in.

        It is the future of a task `await-run` that waits for the run and has its value: what
        Prefect takes futures for (`wait_for=`, `as_completed`, arguments of tasks), it takes
        this for. The run itself is none: Prefect asks a subclass of its futures for everything
        but its `result()` (3.8.8).

        Raises:
            MissingContextError: This is not called in a flow.
        """
        future: PrefectFuture[R] = run_flow.await_in_flow(self.result, self.name)
        return future

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the result without blocking the event loop; giving up leaves the run alone."""
        return in_thread(self.result).__await__()

    def _card(self) -> Card:
        state, when = self._seen
        as_of = f" at {when:%H:%M:%S}; `run.state` asks again" if when else ""
        rows = (
            ("state", self._final_state or (f"{state}{as_of}" if state else "")),
            ("id", self.id),
            ("page", self.url),
        )
        return Card(kind="Run", title=self.name, rows=rows)

    def _repr_html_(self) -> str:
        return self._card().html()

    def __repr__(self) -> str:
        return self._card().text()


def handle_of(
    ticket: RunTicket, url: str, cloud: Mapping[str, str], sessions: KeptSession
) -> Run[Any]:
    """Return the handle of a run that asks in the sessions of another handle."""
    run: Run[Any] = Run(ticket=ticket, url=url, cloud=cloud)
    vars(run)["_sessions"] = sessions
    return run


def _handle_of_record(record: RunRecord, api: PrefectApi, sessions: KeptSession) -> Run[Any]:
    run = handle_of(ticket_of(record), api.run_url(record.id), {}, sessions)
    _remember_state(run, record)
    return run


def _remember_state(run: Run[Any], record: RunRecord) -> None:
    """Keep a state that was seen, and whether it stays.

    What a worker guesses does not, nor what a person may have run again.
    """
    vars(run)["_seen"] = (record.state_name, datetime.now())
    if record.is_final and not record.is_guessed and record.deployment_id is None:
        vars(run)["_final_state"] = record.state_name


@at_api_boundary
def attach(run_id: str) -> Run[Any]:
    """Return the handle of a run that was started anywhere with the same Prefect API and store.

    Args:
        run_id: The run's id, a shortened id that fits only one run, or its URL in the UI.

    Raises:
        RunNotFoundError: No run fits, or several do.
    """
    sessions = KeptSession({})
    with sessions.session() as session:
        record = session.api.read_run(run_id_of(run_id, session.api))
        if not ticket_of(record).run_key:
            if is_group(record):
                raise group_for_run(record.id)
            raise RunNotFoundError(
                f"flow run {record.id} is not a run of a remote function",
                value=record.id,
                hint="attach to the function's own flow run (older clients made `kinetic-run` "
                "above it)",
            )
        _check_store(record, session)
        return _handle_of_record(record, session.api, sessions)


def _check_store(record: RunRecord, session: Session) -> None:
    """Refuse a run whose objects are somewhere else than these settings say.

    Raises:
        ConfigurationError: They are.
    """
    there, here = record.labels.get(STORE_LABEL), store_label(session.platform)
    was_never_launched = there is None and record.is_final
    if there != here and not is_preparing(record) and not was_never_launched:
        raise ConfigurationError(
            f"run {record.id} has its objects in {there}, and the settings here say {here}",
            value=there,
            hint="set KINETIC_PROJECT, KINETIC_CLUSTER or KINETIC_PROFILE as where the run was "
            "started; `kinetic config` shows what is set here",
        )


@at_api_boundary
def list_runs(
    *,
    state: str | None = None,
    since: datetime | None = None,
    name: str | None = None,
    function: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    mine: bool = False,
    limit: int | None = 50,
) -> list[Run[Any]]:
    """Return runs of remote functions, newest first; what happened unseen is settled first.

    Args:
        state: Only runs in this state, such as `running`; None for all.
        since: Only runs made later; None for any time.
        name: Only runs whose own or whose function's name contains this; None for any.
        function: Only runs of the function of this name; None for any.
        group: Only runs of the group of this id, which may be short; None for any.
        tags: Only runs that have all of these tags.
        mine: Whether to return only runs that this user has started, on any machine.
        limit: How many at most; None for all.

    Raises:
        UsageError: An argument cannot be.
        RunNotFoundError: There is no such group.
    """
    wanted = RunFilter(
        state=state,
        since=since,
        name=name,
        function=function,
        group=group,
        tags=check.texts("tags", tags),
        mine=mine,
    )
    sessions = KeptSession({})
    with sessions.session() as session:
        records = find_records(session, wanted, limit=limit)
        return [_handle_of_record(record, session.api, sessions) for record in records]
