"""Launching the inputs of a group as others end, and seeing how each ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kinetic_flows.clients.prefect.api import RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import STEP_RUN_INPUTS
from kinetic_flows.code.call_names import SweepNames
from kinetic_flows.code.payload import SHARED_PIECE_BYTES
from kinetic_flows.code.pieces import EMPTY, upload_pieces
from kinetic_flows.core.errors import (
    KineticError,
    LaunchError,
    ObjectRefusedError,
    PrefectServerError,
)
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Phase, Processes
from kinetic_flows.core.progress import StepStatus
from kinetic_flows.flows.map_control import Control
from kinetic_flows.plans.draft import Draft, with_arguments
from kinetic_flows.plans.inputs import Arguments, SweepOptions
from kinetic_flows.plans.secrets import shown_arguments
from kinetic_flows.plans.sweep_outputs import SweepOutputs
from kinetic_flows.runs.cache import launch_or_reuse
from kinetic_flows.runs.cancel import cancel
from kinetic_flows.runs.flow_run import Membership
from kinetic_flows.runs.group import NOT_LAUNCHED, GroupState, MapItem, is_retried
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.retry import retry_run
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import sync_state
from kinetic_flows.runs.worker_runs import processes_of

if TYPE_CHECKING:
    from kinetic_flows.flows.sweep_cost import SweepCost

LAUNCHERS = 6
"""Launches at a time. More only collide in a Prefect server on SQLite."""

LOOK_SECONDS = 0.25
PARENT_SECONDS = 5.0
RECORD_SECONDS = 2.0
"""How often the states of runs are asked for whose processes a Prefect worker starts."""

RECORDS_AT_A_TIME = 100
BUSY_RETRIES = 5
"""How often the launch of an input is tried again that Prefect had no time for, beyond the
tries of each request: a server on SQLite answers 503 while others write."""

MAX_REFUSALS = 10
"""Launches that fail one after the other before the cluster is taken to be out of order."""

ARGUMENTS_CHARACTERS = 120


@dataclass(frozen=True, kw_only=True)
class Launch:
    """An input that is being launched.

    Attributes:
        item: The input.
        launch: Launches its run; called again when Prefect was too busy.
    """

    item: MapItem
    launch: Callable[[], RunTicket]


@dataclass(kw_only=True)
class SweepDriver:
    """Runs the inputs of one group to their ends, from one thread.

    Attributes:
        draft: A call of the function.
        prepared: Image, code and requirements of its runs.
        options: How the inputs are run.
        count: How many inputs there are; None when that is not known.
        group_id: The flow run above the runs.
        session: Where they run and report.
        state: The group's state, updated as runs are launched and end.
        control: Requests to cancel, detach or launch no more.
        names: Names the runs.
        cost: Counts what the runs cost; None where that has no limit.
    """

    draft: Draft
    prepared: Prepared
    options: SweepOptions
    count: int | None
    group_id: str
    session: Session
    state: GroupState
    control: Control
    names: SweepNames
    cost: SweepCost | None = None

    def __post_init__(self) -> None:
        self._launching: dict[Future[RunTicket], Launch] = {}
        self._busy: Counter[int] = Counter()
        self._active: dict[str, MapItem] = {}
        self._driven: dict[str, Processes] = {}
        self._uploaded: set[str] = set()
        self._outputs = SweepOutputs()
        self._taken = 0
        self._is_exhausted = False
        self._refusals = 0
        self._failures = 0
        self._failure: Exception | None = None
        self._next_parent_look = time.monotonic() + PARENT_SECONDS
        self._next_record_look = 0.0
        self._cancelled: set[str] = set()

    def run(self, inputs: Iterator[Arguments]) -> None:
        """Launch every input and see it end.

        Raises:
            Exception: The inputs could not be taken to their end, or nothing can be launched.
        """
        self.session.progress.step(STEP_RUN_INPUTS, "started")
        with ThreadPoolExecutor(LAUNCHERS) as pool:
            while not self._is_done():
                self._launch_more(pool, inputs)
                self._take_launched(pool)
                self._look(pool)
                self._watch_cost()
                self._obey(pool)
                self._show()
                self.control.pause(LOOK_SECONDS)
        status: StepStatus = "failed" if self._failures or self._failure else "done"
        self.session.progress.step(STEP_RUN_INPUTS, status, self._summary())
        if self._failure is not None:
            raise self._failure

    def _is_done(self) -> bool:
        no_more = self._is_exhausted or self.control.launches_no_more
        is_waited_for = self._active and not self.control.is_detached
        return no_more and not self._launching and not is_waited_for

    # Launching

    def _launch_more(self, pool: ThreadPoolExecutor, inputs: Iterator[Arguments]) -> None:
        while (
            not self._is_exhausted
            and not self.control.launches_no_more
            and len(self._launching) < 2 * LAUNCHERS
            and len(self._launching) + len(self._active) < self.options.at_a_time
        ):
            try:
                arguments = next(inputs)
            except StopIteration:
                self._is_exhausted = True
                return
            except Exception as error:  # noqa: BLE001 - raised when what is launched has ended
                self._failure = error
                self.control.launch_no_more()
                return
            self._launch_next(pool, arguments)

    def _launch_next(self, pool: ThreadPoolExecutor, arguments: Arguments) -> None:
        item = MapItem(index=self._taken)
        self._taken += 1
        try:
            draft = with_arguments(
                self.draft, arguments.args, arguments.kwargs, piece_bytes=SHARED_PIECE_BYTES
            )
            self._outputs.add(item.index, draft.output)
            draft = self._upload_pieces(draft)
        except KineticError as error:
            self._not_launched(item, error)
            return
        shown = ", ".join(f"{name}={text}" for name, text in draft.argument_reprs.items())
        named = shown_arguments(arguments.args, arguments.kwargs, draft.hidden)
        item = replace(item, arguments=shown[:ARGUMENTS_CHARACTERS])
        group = Membership(
            parent=self.group_id,
            index=item.index,
            name=self.names.name(item.index, *named),
            work_queue=self.options.work_queue,
            gives_up=self._gives_up,
        )
        self._submit(pool, item, lambda: launch_or_reuse(draft, self.prepared, group, self.session))

    def _upload_pieces(self, draft: Draft) -> Draft:
        """Upload the pieces of the payload that no input before had; keep none in memory."""
        pieces = draft.payload.pieces
        new = [piece for piece in pieces if piece.sha256 not in self._uploaded]
        upload_pieces(new, self.session.platform.store, self.group_id)
        self._uploaded.update(piece.sha256 for piece in new)
        light = tuple(replace(piece, data=EMPTY) for piece in pieces)
        return replace(draft, payload=replace(draft.payload, pieces=light))

    def _gives_up(self) -> bool:
        """Whether an input that waits for its directory of outputs is not to be run any more."""
        return self.control.launches_no_more

    def _submit(
        self, pool: ThreadPoolExecutor, item: MapItem, launch: Callable[[], RunTicket]
    ) -> None:
        self.state.put(item)
        launched = pool.submit(copy_context().run, launch)
        self._launching[launched] = Launch(item=item, launch=launch)
        launched.add_done_callback(lambda _: self.control.notify())

    def _take_launched(self, pool: ThreadPoolExecutor) -> None:
        for launched in [future for future in self._launching if future.done()]:
            attempt = self._launching.pop(launched)
            item, error = attempt.item, launched.exception()
            if error is None:
                ticket = launched.result()
                self._refusals = 0
                self._active[ticket.run_id] = replace(item, ticket=ticket, state="Pending")
                self.state.put(self._active[ticket.run_id])
            elif self._was_too_busy(item, error):
                self._submit(pool, item, attempt.launch)
            elif isinstance(error, KineticError):
                self._not_launched(item, error)
            else:
                raise error

    def _was_too_busy(self, item: MapItem, error: BaseException) -> bool:
        """Whether a launch failed because Prefect had too much to do, and is to be tried again.

        Nothing was started then: the flow run comes first.
        """
        if not isinstance(error, PrefectServerError) or self.control.launches_no_more:
            return False
        self._busy[item.index] += 1
        return self._busy[item.index] <= BUSY_RETRIES

    def _not_launched(self, item: MapItem, error: KineticError) -> None:
        self._end(replace(item, state=NOT_LAUNCHED, error=error))
        if isinstance(error, LaunchError):
            self._refusals += 1
            if self._refusals >= MAX_REFUSALS:
                self._failure = error
                self.control.launch_no_more()

    # Seeing how they end

    def _look(self, pool: ThreadPoolExecutor) -> None:
        is_time = time.monotonic() >= self._next_record_look
        if is_time:
            self._next_record_look = time.monotonic() + RECORD_SECONDS
        ended = [item for item in self._active.values() if self._may_have_ended(item, is_time)]
        for position in range(0, len(ended), RECORDS_AT_A_TIME):
            some = ended[position : position + RECORDS_AT_A_TIME]
            for item, record in zip(some, self._records(some), strict=True):
                self._finish(pool, item, record)

    def _may_have_ended(self, item: MapItem, is_time: bool) -> bool:
        """Whether an item's flow run is to be read: its process is gone, or not to be seen."""
        if item.ticket is None:
            return False
        if item.ticket.dispatch == "worker":
            return is_time
        seen = self._processes(item.ticket).observe(item.ticket.run_id, None)
        if seen.phase is Phase.RUNNING and item.state != "Running":
            running = replace(item, state="Running", state_type="RUNNING")
            self._active[item.ticket.run_id] = running
            self.state.put(running)
        return seen.phase.is_final or (seen.is_outdated and is_time)

    def _processes(self, ticket: RunTicket) -> Processes:
        """Return what observes a run; of one that has several candidates always the same."""
        if not ticket.has_candidates:
            return self.session.platform.launcher
        if ticket.run_id not in self._driven:
            found = processes_of(self.session.platform, self.session.api, ticket)
            self._driven[ticket.run_id] = found
        return self._driven[ticket.run_id]

    def _records(self, items: list[MapItem]) -> list[RunRecord]:
        """Return the flow runs of items whose processes are gone, settled."""
        ids = tuple(item.ticket.run_id for item in items if item.ticket)
        found = {record.id: record for record in self.session.api.find_runs(RunQuery(ids=ids))}
        return [self._settled(item, found) for item in items if item.ticket]

    def _settled(self, item: MapItem, found: dict[str, RunRecord]) -> RunRecord:
        ticket = item.ticket
        if ticket is None:
            raise LookupError("only what was launched can be settled")
        record = found.get(ticket.run_id)
        is_known = record is not None and record.is_final and not record.is_guessed
        if record is not None and (is_known or ticket.dispatch == "worker"):
            return record
        try:
            sync_state(self.session.platform, self.session.api, ticket, is_launched=True)
        except ObjectRefusedError as refusal:
            self.session.progress.warning(refusal.message)
        return self.session.api.read_run(ticket.run_id)

    def _finish(self, pool: ThreadPoolExecutor, item: MapItem, record: RunRecord) -> None:
        if not record.is_final:
            return
        self._active.pop(record.id, None)
        self._driven.pop(record.id, None)
        if self.cost is not None:
            self.cost.ended(record)
        ended = replace(
            item,
            state=record.state_name,
            state_type=record.state_type,
            seconds=_seconds(record),
        )
        launches_on = not self.control.launches_no_more
        if launches_on and is_retried(record, ended.tries, self.options.retries):
            again = replace(ended, tries=ended.tries + 1)
            queue = self.options.work_queue
            self._submit(
                pool,
                again,
                lambda: retry_run(
                    record,
                    self.group_id,
                    self.session,
                    work_queue=queue,
                    gives_up=self._gives_up,
                ),
            )
            return
        self._end(ended)

    def _end(self, item: MapItem) -> None:
        self.state.end(item)
        if item.state_type == "CANCELLED":
            # Perhaps the whole group is being cancelled from elsewhere: know before launching.
            self._next_parent_look = 0.0
        elif item.has_failed:
            self._failures += 1
            if self.options.fail_fast:
                self.control.cancel()

    # Requests to the group

    def _watch_cost(self) -> None:
        """End the runs when they have cost as much as they may."""
        if self.cost is None or self.control.is_cancelling or self._is_done():
            return
        over = self.cost.over(tuple(self._active))
        if over:
            self.session.progress.warning(
                f"{over}: what runs is cancelled, and nothing more is launched"
            )
            self.control.cancel()

    def _obey(self, pool: ThreadPoolExecutor) -> None:
        if time.monotonic() >= self._next_parent_look:
            self._next_parent_look = time.monotonic() + PARENT_SECONDS
            if self.session.api.read_run(self.group_id).state_type.startswith("CANCEL"):
                self.control.cancel()
        if self.control.is_cancelling:
            for run_id, item in self._active.items():
                if item.ticket and run_id not in self._cancelled:
                    self._cancelled.add(run_id)
                    pool.submit(copy_context().run, cancel, item.ticket, self.session)

    def _show(self) -> None:
        ended = self._taken - len(self._launching) - len(self._active)
        self.session.progress.count(STEP_RUN_INPUTS, ended, self.count, self._summary())

    def _summary(self) -> str:
        at_work = len(self._active) + len(self._launching)
        ended = self._taken - at_work
        of = f" of {self.count}" if self.count is not None else ""
        parts = [f"{ended}{of} inputs ended"]
        parts += [f"{at_work} at work"] if at_work else []
        parts += [f"{self._failures} failed"] if self._failures else []
        return ", ".join(parts)


def _seconds(record: RunRecord) -> float | None:
    if record.started is None or record.ended is None:
        return None
    return (record.ended - record.started).total_seconds()
