"""The flow `kinetic-map`: many inputs of one function, so many at a time.

It is driven from a thread of its own, so that the caller of `map` can look at results while
further inputs are launched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from kinetic_flows.clients.prefect.flow_names import GROUP_FLOW, INPUTS_ARTIFACT
from kinetic_flows.clients.prefect.work_pools import WorkPools, ensure_worker_pool
from kinetic_flows.code.call_names import SweepNames
from kinetic_flows.core.display import counted, for_markdown
from kinetic_flows.core.exits import (
    at_exit,
    end_by_interrupt,
    is_ended_by_interrupt,
    wait_for_nothing,
)
from kinetic_flows.core.interruption import interruptible
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.core.signals import cause_in_words
from kinetic_flows.flows.engine import current_flow_run_id, run_flow
from kinetic_flows.flows.map_control import Control
from kinetic_flows.flows.map_driver import SweepDriver
from kinetic_flows.flows.prepare import prepare
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.inputs import Arguments, SweepOptions
from kinetic_flows.plans.secrets import shown_arguments
from kinetic_flows.runs.group import GroupState, MapItem
from kinetic_flows.runs.session import Session

if TYPE_CHECKING:
    from kinetic_flows.flows import sweep_cost
else:
    # Few sweeps have a limit on what they cost.
    sweep_cost = LazyModule("kinetic_flows.flows.sweep_cost")

MAX_ROWS = 1000
"""How many inputs the table of a group has, at most."""

ABANDON_SECONDS = 30.0
"""How long launches in progress are waited for when the group is abandoned."""


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The inputs of a group, and how to run them.

    Attributes:
        draft: A call of the function; its arguments do not matter.
        inputs: The arguments of each input, taken one by one as runs become possible.
        count: How many inputs there are; None when only taking them all will tell.
        options: How they are run.
        samples: Some of the inputs, which tell in what they differ; none where they are not
            there yet.
        open_session: Opens a session in the thread that calls it.
        tell: Told what becomes of the runs when the program is interrupted.
    """

    draft: Draft
    inputs: Iterator[Arguments]
    count: int | None
    options: SweepOptions
    samples: Sequence[Arguments]
    open_session: Callable[[], AbstractContextManager[Session]]
    tell: Callable[[str], None]


class Sweep:
    """The inputs of a group at work.

    Args:
        request: The inputs, and how to run them.
    """

    def __init__(self, request: SweepRequest) -> None:
        self._request = request
        self._control = Control()
        self._is_ready = threading.Event()
        self._interruption = threading.Event()
        self._has_ended = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._work,), name=GROUP_FLOW, daemon=True
        )
        self._cost: sweep_cost.SweepCost | None = None
        self.state = GroupState()
        self.group_id = ""
        self.url = ""

    def start(self) -> None:
        """Make what the runs share, and begin to launch them.

        Raises:
            KineticError: What they share cannot be made.
            KeyboardInterrupt: The person pressed Ctrl-C while it was made.
        """
        self._thread.start()
        try:
            self._is_ready.wait()
        except BaseException as error:  # Ctrl-C, a signal, a time limit around us
            self._interruption.set()
            self._await_end()
            self._tell(f"{cause_in_words(error)}: no input was launched")
            raise
        if self.state.is_over and self.state.failure is not None:
            raise self.state.failure.with_traceback(None)
        at_exit(self._end_with_program)

    def wait(self, seconds: float) -> None:
        """Wait until an input has ended, but no longer than a limit."""
        self.state.wait(seconds)

    def cancel(self) -> None:
        """Launch nothing more and cancel what runs; return when that is done."""
        self._control.cancel()
        self._await_end()

    def interrupt(self, interruption: BaseException) -> None:
        """End the runs, or leave them, as the options say, and tell what becomes of them.

        Args:
            interruption: What interrupted the program.
        """
        if self.state.is_over:
            return
        if self._request.options.on_interrupt == "detach":
            self._leave(ABANDON_SECONDS)
            return
        self._control.cancel()
        why = cause_in_words(interruption)
        self._tell(f"{why}: cancelling the runs of group {self.group_id} ...")
        try:
            self.cancel()
        except KeyboardInterrupt:
            # Once more: the person wants to wait for nothing. The first one is raised.
            self._leave(0)
            wait_for_nothing()
            return
        self._tell(f"group {self.group_id} is cancelled: {self._so_far()}; {self.url} shows it")

    def _leave(self, seconds: float) -> None:
        """Launch nothing more, and wait neither for what runs nor long for what is launched."""
        self._control.launch_no_more()
        self._control.detach()
        self._await_end(seconds)
        self._tell(
            f"runs of group {self.group_id} go on ({self._so_far()}): {self.url} shows them, "
            f"`kinetic runs cancel {short_id(self.group_id)}` ends them"
        )

    def _so_far(self) -> str:
        """Say how many inputs are in each state, those that were not launched included."""
        counts = dict(self.state.counts())
        left = (self._request.count or 0) - sum(counts.values())
        parts = [f"{count} {state.lower()}" for state, count in counts.items()]
        return ", ".join([*parts, f"{left} not launched"] if left > 0 else parts) or "none launched"

    def _await_end(self, seconds: float | None = None) -> None:
        # A `join` that Ctrl-C ends takes the thread for ended (Python 3.11).
        self._has_ended.wait(seconds)

    def _tell(self, text: str) -> None:
        self._request.tell(text)

    def _end_with_program(self) -> None:
        """Let the program end when every input is launched, without waiting for its end."""
        try:
            if is_ended_by_interrupt():
                self.interrupt(KeyboardInterrupt())
            self._control.detach()
            self._await_end()
        except KeyboardInterrupt as interrupt:
            # Whatever is raised here, the interpreter prints and forgets.
            self.interrupt(interrupt)
            end_by_interrupt()

    def _work(self) -> None:
        interruptible(self._interruption)
        failure: BaseException | None = None
        try:
            with self._request.open_session() as session:
                self._drive(session)
        except BaseException as error:  # noqa: BLE001 - raised where the group is looked at
            failure = error
        finally:
            self.state.close(failure)
            self._is_ready.set()
            self._has_ended.set()

    def _drive(self, session: Session) -> None:
        """Run the flow."""

        def kinetic_map(
            function: str,  # noqa: ARG001 - shown in Prefect
            accelerator: str,  # noqa: ARG001
            inputs: int | None,  # noqa: ARG001
            max_concurrent: int,  # noqa: ARG001
            retries: int,  # noqa: ARG001
        ) -> None:
            """Run a Python function remotely for many inputs: lock, build, upload, launch."""
            self._run(session)

        request = self._request
        shown = {
            "function": request.draft.name,
            "accelerator": request.draft.runs_on,
            "inputs": request.count,
            "max_concurrent": request.options.max_concurrent,
            "retries": request.options.retries,
        }
        run_flow(kinetic_map, GROUP_FLOW, shown, session, final_state=lambda _: self._final_state())

    def _run(self, session: Session) -> None:
        self.group_id = current_flow_run_id()
        self.url = session.api.run_url(self.group_id)
        request = self._request
        prepared = prepare(request.draft, session)
        if request.options.work_queue is not None:
            self._open_work_queue(request.options.work_queue, session)
        if request.options.max_cost is not None:
            self._cost = sweep_cost.counting(request.options.max_cost, request.draft, session)
        driver = SweepDriver(
            draft=request.draft,
            prepared=prepared,
            options=request.options,
            count=request.count,
            group_id=self.group_id,
            session=session,
            state=self.state,
            control=self._control,
            names=self._names(),
            cost=self._cost,
        )
        session.progress.launched(self.url)
        self._is_ready.set()
        driver.run(request.inputs)
        publish_inputs(self.state.items, session)

    def _names(self) -> SweepNames:
        """Return what names the runs, by what differs among some of the inputs."""
        request = self._request
        hidden = request.draft.hidden
        samples = (shown_arguments(each.args, each.kwargs, hidden) for each in request.samples)
        return SweepNames(request.draft.name, request.draft.call.function, samples)

    def _open_work_queue(self, name: str, session: Session) -> None:
        """Have a work queue that lets so many runs go on at a time."""
        pool, limit = session.platform.worker_pool, self._request.options.max_concurrent
        ensure_worker_pool(pool, {}, session.api.url)
        WorkPools(session.api.url).limit_queue(pool.name, name, limit)
        session.progress.notice(
            f"the inputs are left to workers of work queue {name}, {limit} at a time "
            f"(`kinetic worker start {pool.name} --work-queue {name}` starts one)"
        )

    def _final_state(self) -> State[Any]:
        items = self.state.items
        counts = ", ".join(f"{count} {state}" for state, count in self.state.counts().items())
        message = f"{counted(len(items), 'input')}: {counts}" if items else "no inputs"
        if self._cost is not None and self._cost.words:
            message = f"{self._cost.words}; {message}"
        if any(_is_a_failure(item) for item in self.state.ended(0)):
            return Failed(message=message)
        if self._control.is_cancelling:
            return Cancelled(message=message)
        return Completed(message=message)


def _is_a_failure(item: MapItem) -> bool:
    return item.has_failed and item.state_type != "CANCELLED"


def publish_inputs(items: Sequence[MapItem], session: Session) -> None:
    """Show a group's inputs on the flow run that is being driven, those that failed first."""
    if not items:
        return
    ordered = sorted(items, key=lambda item: (not item.has_failed, item.index))
    left_out = len(ordered) - MAX_ROWS
    create_table_artifact(
        key=INPUTS_ARTIFACT,
        table=[_row(item, session) for item in ordered[:MAX_ROWS]],
        description=counted(len(items), "input")
        + (f", of which {left_out} are left out here" if left_out > 0 else ""),
    )


def _row(item: MapItem, session: Session) -> dict[str, str | int]:
    run_id = item.ticket.run_id if item.ticket else ""
    seconds = "" if item.seconds is None else f"{item.seconds:.1f}"
    return {
        "input": item.index,
        # Prefect shows cells as Markdown, and these texts are whatever somebody passed or raised.
        "arguments": for_markdown(item.arguments),
        "state": item.state,
        "seconds": seconds,
        "runs": item.tries,
        "run": f"[{short_id(run_id)}]({session.api.run_url(run_id)})"
        if run_id
        else for_markdown(str(item.error)),
    }
