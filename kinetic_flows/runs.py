"""The handle of one remote run: its state, its output, its result, from any process."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime
from queue import Full, Queue
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from kinetic_flows.errors import RunNotFoundError, UsageError
from kinetic_flows.interruption import in_thread
from kinetic_flows.job import RunTicket
from kinetic_flows.progress import Progress, Silence
from kinetic_flows.settings import process_environment

if TYPE_CHECKING:
    from kinetic_flows.clients.prefect_api import PrefectApi
    from kinetic_flows.session import Session

R = TypeVar("R")

FOLLOWED_BATCHES = 100
"""How many batches of lines wait for whoever follows; further ones stay where they are kept."""


@dataclass(frozen=True, kw_only=True)
class Run(Generic[R]):
    """One run of a function, which goes on whatever becomes of this process.

    A run can be pickled, and awaited in async code (`value = await run`).

    Attributes:
        ticket: What is needed to follow the run and to trust its result.
        url: Where a browser shows the run.
    """

    ticket: RunTicket
    url: str

    @property
    def id(self) -> str:
        """The run's id, which is its flow run's."""
        return self.ticket.run_id

    @property
    def name(self) -> str:
        """The function's name."""
        return self.ticket.name

    @property
    def state(self) -> str:
        """The name of the run's state in Prefect, such as `Running`."""
        from kinetic_flows.reconciler import settle

        with _session(Silence()) as session:
            settle(session.platform, session.api, self.ticket)
            return session.api.read_run(self.id).state_name

    def wait(self, timeout_seconds: float | None = None) -> Run[R]:
        """Wait until the run has ended, however it ended.

        Args:
            timeout_seconds: When to stop waiting; None to wait for as long as it takes.

        Raises:
            WaitTimeout: It is not over yet; it goes on.
        """
        from kinetic_flows.errors import RunError
        from kinetic_flows.following import follow

        with _session(Silence()) as session:
            try:
                follow(self.ticket, session, Silence(), timeout_seconds=timeout_seconds)
            except RunError:
                return self
        return self

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
        from kinetic_flows.following import follow
        from kinetic_flows.results import unpack_result

        with _session(Silence()) as session:
            envelope = follow(self.ticket, session, Silence(), timeout_seconds=timeout_seconds)
        value: R = unpack_result(envelope, self.ticket)
        return value

    @overload
    def logs(self, *, follow: Literal[True], tail: int | None = None) -> Iterator[str]: ...

    @overload
    def logs(self, *, follow: Literal[False] = False, tail: int | None = None) -> list[str]: ...

    def logs(self, *, follow: bool = False, tail: int | None = None) -> list[str] | Iterator[str]:
        """Return what the run has printed, line by line.

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
        from kinetic_flows.logs import LogReader

        if tail is not None and (isinstance(tail, bool) or tail < 0):
            raise UsageError(f"tail is {tail!r}", value=tail, hint="give 0 or a number of lines")
        if follow:
            return _followed(self.ticket, tail)
        with _session(Silence()) as session:
            return _last(LogReader(self.ticket, session).available(), tail)

    def cancel(self) -> None:
        """Stop the function, kindly at first; nothing happens when it has ended."""
        from kinetic_flows.following import cancel

        with _session(Silence()) as session:
            cancel(self.ticket, session)

    def retry(self) -> Run[R]:
        """Start the same call once more, in the same image with the same code, as a new run.

        The new run names this one in its tags. A run that has not ended yet goes on beside it.

        Raises:
            RunNotFoundError: What the run was started with has expired.
            KineticError: The new run could not be started.
        """
        from kinetic_flows.clients.prefect_api import surrounding_flow_run_id
        from kinetic_flows.relaunching import relaunch

        with _session(Silence()) as session:
            record = session.api.read_run(self.id)
            ticket = relaunch(record, surrounding_flow_run_id(), session)
            return Run(ticket=ticket, url=session.api.run_url(ticket.run_id))

    @property
    def outputs(self) -> str:
        """Where the run keeps its outputs: what `KINETIC_OUTPUT_DIR` is set to in it.

        A directory on this machine, else a `gs://` URI.
        """
        from kinetic_flows.naming import OUTPUTS_LABEL

        with _session(Silence()) as session:
            return f"{session.api.read_run(self.id).labels[OUTPUTS_LABEL]}/{self.id}"

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the result without blocking the event loop; giving up leaves the run alone."""
        return in_thread(self.result).__await__()

    def __repr__(self) -> str:
        return f"Run({self.name!r}, id={self.id!r})"


def attach(run_id: str) -> Run[Any]:
    """Return the handle of a run that was started anywhere with the same Prefect API and store.

    Args:
        run_id: The run's id, a shortened id that fits only one run, or its URL in the UI.

    Raises:
        RunNotFoundError: No run fits, or several do.
    """
    from kinetic_flows.reconciler import ticket_of

    with _session(Silence()) as session:
        record = session.api.read_run(_full_id(run_id, session.api))
        ticket = ticket_of(record)
        if not ticket.run_key:
            raise RunNotFoundError(
                f"flow run {record.id} is not a run of a remote function",
                value=record.id,
                hint="attach to the function's own flow run, not to `kinetic-run` above it",
            )
        return Run(ticket=ticket, url=session.api.run_url(record.id))


def list_runs(
    *,
    state: str | None = None,
    since: datetime | None = None,
    name: str | None = None,
    limit: int | None = 50,
) -> list[Run[Any]]:
    """Return runs of remote functions, newest first; what happened unseen is settled first.

    Args:
        state: Only runs in this state, such as `running`; None for all.
        since: Only runs made later; None for any time.
        name: Only runs whose name contains this; None for any.
        limit: How many at most; None for all.
    """
    from kinetic_flows.clients.prefect_records import query_of_state
    from kinetic_flows.reconciler import reconcile, ticket_of

    query = replace(query_of_state(state), name=name, since=since)
    with _session(Silence()) as session:
        reconcile(session.platform, session.api)
        records = session.api.find_runs(query, limit=limit)
        return [
            Run(ticket=ticket_of(record), url=session.api.run_url(record.id)) for record in records
        ]


def _followed(ticket: RunTicket, tail: int | None) -> Iterator[str]:
    """Yield a run's lines; a thread reads them, so that no session stays open in the caller."""
    lines: Queue[list[str] | BaseException | None] = Queue(maxsize=FOLLOWED_BATCHES)
    is_over = threading.Event()
    thread = threading.Thread(
        target=copy_context().run, args=(_read_on, ticket, tail, lines, is_over), daemon=True
    )
    thread.start()
    try:
        while (batch := lines.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield from batch
    finally:
        is_over.set()


def _read_on(
    ticket: RunTicket,
    tail: int | None,
    lines: Queue[list[str] | BaseException | None],
    is_over: threading.Event,
) -> None:
    """Put a run's lines, then None, into a queue whose reader may stop reading."""
    from kinetic_flows.logs import LogReader

    def put(item: list[str] | BaseException | None) -> None:
        while not is_over.is_set():
            with suppress(Full):
                lines.put(item, timeout=1.0)
                return

    try:
        with _session(Silence()) as session:
            reader = LogReader(ticket, session)
            put(_last(reader.available(), tail))
            for batch in reader.follow():
                put(batch)
                if is_over.is_set():
                    return
        put(None)
    except BaseException as error:  # noqa: BLE001 - the reader raises it
        put(error)


def _last(lines: list[str], tail: int | None) -> list[str]:
    return lines if tail is None else lines[len(lines) - tail :] if tail < len(lines) else lines


def _full_id(text: str, api: PrefectApi) -> str:
    """Complete a shortened id, or take the id out of a URL."""
    from uuid import UUID

    wanted = text.strip().rstrip("/").rpartition("/")[2]
    try:
        return str(UUID(wanted))
    except ValueError:
        pass
    fits = [record.id for record in api.find_runs() if record.id.startswith(wanted.lower())]
    if len(fits) == 1 and wanted:
        return fits[0]
    count = f"{len(fits)} runs have an id that starts" if fits and wanted else "no run's id starts"
    raise RunNotFoundError(
        f"{count} with {wanted!r}",
        value=text,
        hint="give more characters of the id" if fits else "see `kinetic runs ls`",
    )


def _session(progress: Progress) -> AbstractContextManager[Session]:
    """Open a session with this process's settings; imported late, as Prefect is heavy."""
    from kinetic_flows.configuration import configure
    from kinetic_flows.session import open_session

    environ = process_environment()
    return open_session(configure(environ, progress), environ, progress)
