"""The handle of many runs of one function: `train.map(...)`, from any process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from kinetic_flows.api.run import Run, handle_of
from kinetic_flows.core import option_values as check
from kinetic_flows.core.api_boundary import BoundedIterator, at_api_boundary, tidy
from kinetic_flows.core.cards import Card, counts_in_words
from kinetic_flows.core.errors import RunCancelled, RunNotFoundError, WaitTimeout
from kinetic_flows.core.interruption import in_thread, pause
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.public_names import public, without_attribute
from kinetic_flows.core.signals import heeded_signals, interruption_in
from kinetic_flows.runs.find import full_id
from kinetic_flows.runs.group import AttachedGroup, GroupState, MapItem, is_group
from kinetic_flows.runs.kept_session import KeptSession
from kinetic_flows.runs.results import read_result, unpack_result
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.wait import wait_for_run

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

    from kinetic_flows.flows import run as run_flow
else:
    run_flow = LazyModule("kinetic_flows.flows.run")

R = TypeVar("R")

WAIT_SECONDS = 0.5


class GroupSource(Protocol):
    """Where a group's handle learns what becomes of it."""

    @property
    def state(self) -> GroupState:
        """What is known of its items."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until something has ended, but no longer than a limit."""
        ...

    def cancel(self) -> None:
        """Launch nothing more and cancel what runs; return when that is done."""
        ...

    def interrupt(self, interruption: BaseException) -> None:
        """Tell, when this program is interrupted, what becomes of the runs; end them if need be."""
        ...


@public
class RunGroup(Generic[R]):
    """Runs of one function, one for each input of a sweep.

    The process that called `map` launches the inputs, so many at a time; while it lives, the
    group needs it. A program that ends stays until the last input is launched. What was launched
    goes on whatever becomes of it.

    A group can be pickled, and awaited in async code (`values = await group`).

    Example:
        ```python
        group = train.map([0.1, 0.2, 0.4], max_concurrent=2)
        losses = group.results()  # in the order of the inputs

        group = kinetic.attach_group(group.id)  # from any other process
        ```

    Attributes:
        id: The id of the flow run above the runs; `kinetic.attach_group` takes it.
        name: The function's name.
        url: Where a browser shows the group.
    """

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - as a run's
        name: str,
        url: str,
        source: GroupSource,
        cloud: Mapping[str, str],
        return_exceptions: bool = False,
    ) -> None:
        self.id = id
        self.name = name
        self.url = url
        self._source = source
        self._cloud = dict(cloud)
        self._return_exceptions = return_exceptions
        self._sessions = KeptSession(cloud)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return without_attribute(self, name)

    @property
    def runs(self) -> tuple[Run[R], ...]:
        """The runs launched so far, in the order of their inputs; nobody is asked for them."""
        items = self._source.state.items
        return tuple(self._run(item.ticket) for item in items if item.ticket)

    @at_api_boundary
    def as_completed(self, timeout_seconds: float | None = None) -> Iterator[Run[R]]:
        """Yield each run when it has ended, however it ended, the first to end first.

        An input that could not be launched has no run, and is left out.

        Args:
            timeout_seconds: When to stop waiting; None to wait for as long as it takes.

        Raises:
            WaitTimeout: They are not over yet; they go on.
        """
        limit = check.limit_seconds("timeout_seconds", timeout_seconds)
        return BoundedIterator(self._completed(limit))

    def _completed(self, timeout_seconds: float | None) -> Iterator[Run[R]]:
        for item in self._ended(timeout_seconds):
            if item.ticket:
                yield self._run(item.ticket)

    @at_api_boundary
    def wait(self, timeout_seconds: float | None = None) -> RunGroup[R]:
        """Wait until every input has ended, however it ended.

        Args:
            timeout_seconds: When to stop waiting; None to wait for as long as it takes.

        Raises:
            WaitTimeout: They are not over yet; they go on.
        """
        for _ in self._ended(check.limit_seconds("timeout_seconds", timeout_seconds)):
            pass
        return self

    @at_api_boundary
    def results(self, timeout_seconds: float | None = None) -> list[R]:
        """Wait for every input, and return the values in the order of the inputs.

        With `map(..., return_exceptions=True)`, the exception of an input that failed is in the
        place of its value. Else the first of them, by input, is raised when all have ended; with
        `fail_fast=True` that is soon after the first failure.

        Args:
            timeout_seconds: When to stop waiting, which cancels nothing; None to wait for as
                long as it takes.

        Raises:
            WaitTimeout: They are not over yet; they go on.
            Exception: What an input's run raised, or why it could not be run.
        """
        self.wait(timeout_seconds)
        outcomes: list[Any] = []
        first: Exception | None = None
        with self._sessions.session() as session:
            for item in self._in_order():
                outcome = _outcome(item, session)
                if isinstance(outcome, _Raised):
                    if self._return_exceptions:
                        tidy(outcome.error)
                    outcomes.append(outcome.error)
                    first = _more_telling(first, outcome.error)
                else:
                    outcomes.append(outcome)
        if first is not None and not self._return_exceptions:
            raise first
        return outcomes

    @at_api_boundary
    def status_counts(self) -> dict[str, int]:
        """Return how many inputs are in each state, by the state's name.

        Inputs that are not launched yet are not counted.
        """
        return self._source.state.counts()

    @at_api_boundary
    def cancel(self) -> None:
        """Launch nothing more, and cancel the runs that have not ended."""
        self._source.cancel()

    def _ended(self, timeout_seconds: float | None) -> Iterator[MapItem]:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        state, position = self._source.state, 0
        while True:
            is_over = state.is_over
            for item in state.ended(position):
                position += 1
                yield item
            if is_over:
                break
            seconds = WAIT_SECONDS if deadline is None else deadline - time.monotonic()
            if seconds <= 0:
                raise WaitTimeout(
                    f"the inputs of group {self.id} of {self.name} are not over after "
                    f"{timeout_seconds:g} s: {position} have ended",
                    value=self.id,
                    hint="they go on; wait longer, or cancel them with .cancel()",
                )
            self._wait(min(seconds, WAIT_SECONDS))
        if state.failure is not None:
            raise state.failure.with_traceback(None)

    def _wait(self, seconds: float) -> None:
        # A thread that gives up is left alone by signals, and leaves the group alone.
        pause(0)
        is_main = threading.current_thread() is threading.main_thread()
        with heeded_signals():
            try:
                self._source.wait(seconds)
            except BaseException as error:
                interruption = interruption_in(error)
                if interruption is not None and is_main:
                    self._source.interrupt(interruption)
                raise

    def _in_order(self) -> Iterator[MapItem]:
        """Yield every item by its place, those between them that nobody launched included."""
        items = self._source.state.items
        expected = 0
        for item in items:
            while expected < item.index:
                yield MapItem(index=expected)
                expected += 1
            yield item
            expected += 1

    def _run(self, ticket: RunTicket) -> Run[R]:
        # Runs are shown where the flow run above them is.
        url = f"{self.url.removesuffix(self.id)}{ticket.run_id}"
        return handle_of(ticket, url, self._cloud, self._sessions)

    @at_api_boundary
    def as_future(self) -> PrefectFuture[list[R]]:
        """Return a Prefect future of the results, for the flow that this is called in.

        As `Run.as_future()` does; for one future of each run, ask each of `runs`.

        Raises:
            MissingContextError: This is not called in a flow.
        """
        future: PrefectFuture[list[R]] = run_flow.await_in_flow(self.results, self.name)
        return future

    def __await__(self) -> Generator[Any, None, list[R]]:
        """Wait for the results without blocking the event loop; giving up leaves the runs alone."""
        return in_thread(self.results).__await__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _attached, (self.id, self._cloud, self._return_exceptions)

    def _card(self) -> Card:
        state = self._source.state
        items, ended = state.items, len(state.ended(0))
        rows = (
            ("inputs", f"{ended} of {len(items)} launched have ended" if items else ""),
            ("states", counts_in_words(state.counts().items())),
            ("id", self.id),
            ("page", self.url),
        )
        return Card(kind="RunGroup", title=self.name, rows=rows, done=ended, total=len(items))

    def _repr_html_(self) -> str:
        return self._card().html()

    def __repr__(self) -> str:
        return self._card().text()


@at_api_boundary
def attach_group(group_id: str, *, return_exceptions: bool = False) -> RunGroup[Any]:
    """Return the handle of a group that was started anywhere with the same Prefect API and store.

    Args:
        group_id: The group's id, a shortened id, or its URL in the UI.
        return_exceptions: Whether `results()` returns exceptions in place of values.

    Raises:
        RunNotFoundError: No group fits, or several do.
    """
    return _attached(group_id, {}, return_exceptions)


def _attached(group_id: str, cloud: Mapping[str, str], return_exceptions: bool) -> RunGroup[Any]:
    sessions = KeptSession(cloud)
    with sessions.session() as session:
        record = session.api.read_run(full_id(group_id, session.api, groups=True))
        if not is_group(record):
            raise RunNotFoundError(
                f"flow run {record.id} is no group of runs",
                value=record.id,
                hint="attach to a single run with kinetic.attach(id)",
            )
        source = AttachedGroup(record, sessions.session)
        source.refresh(session)
        return RunGroup(
            id=record.id,
            name=str(record.parameters.get("function", record.name)),
            url=session.api.run_url(record.id),
            source=source,
            cloud=cloud,
            return_exceptions=return_exceptions,
        )


class _Raised:
    """What an input's run raised; a value may be an exception too."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _outcome(item: MapItem, session: Session) -> Any:
    """Return the value of an item that has ended, or what it raised."""
    if item.error is not None:
        return _Raised(item.error)
    if item.ticket is None:
        message = f"input {item.index} was not launched: its group was cancelled"
        return _Raised(RunCancelled(message, value=item.index))
    try:
        # It has ended and is settled: most have a result, and nobody else needs to be asked.
        envelope = read_result(session.platform.store, item.ticket)
        if envelope is None:
            envelope = wait_for_run(item.ticket, session, NullProgress(), is_launched=True)
        url = session.api.run_url(item.ticket.run_id)
        return unpack_result(envelope, item.ticket, url=url)
    except Exception as error:  # noqa: BLE001 - the function's own
        error.add_note(f"raised by input {item.index}: {item.arguments}")
        return _Raised(error)


def _more_telling(first: Exception | None, other: Exception) -> Exception:
    """Return the exception to raise: that of a run that failed before that of a cancelled one."""
    if first is None or (isinstance(first, RunCancelled) and not isinstance(other, RunCancelled)):
        return other
    return first
