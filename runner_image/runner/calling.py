"""Having the function called, and called again, until it returns or its chances are over."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from .box_keeper import UNREMARKABLE
from .door import Door, Entrance, close_door, open_door
from .endings import (
    Ending,
    State,
    cancelled,
    crashed,
    describe_exception,
    from_outcome,
    terminated,
    timed_out,
)
from .interrupts import Interrupts
from .memory import count_kills, describe_kill
from .outcome import BODY_FILE, TASK_FILE, read_outcome
from .output import Output
from .processes import Worker
from .reporter import Reporter, SilentReporter
from .sampler import Sampler
from .stores import BucketStore, DirectoryStore

if TYPE_CHECKING:
    from .compile_cache import CompileCache
    from .debugging import DebuggerWatch
    from .idle import IdleWatch
    from .spending import Spending
    from .stuck import StuckWatch

REASON_CHARACTERS = 300

OTHERS_SECONDS = 300.0
"""How long a host that has returned waits for what waits for the other hosts at its end.

JAX's processes leave together, and wait for one another as long (`shutdown_timeout_seconds` of its
distributed runtime): where host 0 is gone, the others fail.
"""

FAILED_SECONDS = 1.0
"""How long one that has failed does: the others cannot come, and are to know it."""

LOOK_SECONDS = 10.0
"""How long a function that is stopped for its time has to tell what it is doing."""

GIVEN_UP_SECONDS = 2.0
"""Time between SIGTERM and SIGKILL where another host has failed.

JAX takes SIGTERM for a notice of preemption, and goes on.
"""


def spending_of(
    job: Mapping[str, Any],
    store: DirectoryStore | BucketStore,
    host: int,
    leaving: ExitStack,
) -> Spending | None:
    """Return what counts what a run costs; None where it has no limit, or another host counts.

    Args:
        job: The job.
        store: Where objects are.
        host: Which of its hosts this is.
        leaving: Takes what is to be done when the run has ended.
    """
    # Jobs that were written by earlier clients do not say.
    limit = job.get("cost")
    if not limit or host:
        return None
    from .spending import Spending

    spending = Spending(limit, job["run_id"], store)
    leaving.callback(spending.end)
    return spending


class Surroundings(NamedTuple):
    """What calls are made with.

    Attributes:
        entrance: Where those who look at the run find its processes.
        scratch: A directory for the workers' files.
        environ: The workers' environment variables.
        handed: What workers are told of secrets, which stands in no file.
        output: What takes everything the workers print.
        reporter: Told of states.
        interrupts: What asks for a stop.
        spending: Counts what the run costs; None where that has no limit.
        sampler: Reads what they use.
        compiled: Keeps the programs that are compiled for them; None where nobody does.
    """

    entrance: Entrance
    scratch: str
    environ: Mapping[str, str]
    handed: Mapping[str, Any]
    output: Output
    reporter: Reporter | SilentReporter
    interrupts: Interrupts
    sampler: Sampler
    spending: Spending | None = None
    compiled: CompileCache | None = None


class Calls:
    """The calls of one start of a run.

    Args:
        job: The job.
        task: What every worker is told.
        surroundings: What calls are made with.
    """

    def __init__(
        self, job: Mapping[str, Any], task: Mapping[str, Any], surroundings: Surroundings
    ) -> None:
        self._job = job
        self._task = task
        self._around = surroundings
        self._grace_seconds: float = job["grace_seconds"]
        self._has_others: bool = job["hosts"] > 1
        self._delay_seconds: float = job["retry_delay_seconds"]
        # One host of several cannot try again alone.
        self._tries: int = 1 + (0 if self._has_others else job["retries"])
        self._limit_seconds: float | None = job["timeout_seconds"]
        # Jobs that were written by earlier clients do not say.
        self._candidate: Mapping[str, Any] | None = job.get("candidate")
        self._deadline: float | None = None
        self._spending = surroundings.spending
        self._kills = 0
        self._debugger = self._debugger_watch()

    def run(self) -> Ending:
        """Call the function until it returns, and return how that ended."""
        try:
            return self._run()
        finally:
            # First, as what it says of them is stored with the readings.
            if self._around.compiled:
                self._around.compiled.end()
            self._around.sampler.end()

    def _run(self) -> Ending:
        if self._limit_seconds is not None:
            self._deadline = time.monotonic() + self._limit_seconds
        if self._spending and self._spending.is_over:
            return timed_out(self._too_long, self._around.output.tail)
        number = 0
        while True:
            ending = self._try(number)
            number += 1
            if ending.status != "raised" or number == self._tries or self._moves_on(ending):
                return ending
            self._announce_next(ending, number)
            stopped = self._pause()
            if stopped:
                return stopped

    def _try(self, number: int) -> Ending:
        directory = os.path.join(self._around.scratch, f"try-{number}")
        os.mkdir(directory)
        variables = {**self._task["variables"], "KINETIC_RETRY": str(number)}
        with open(os.path.join(directory, TASK_FILE), "w", encoding="utf-8") as file:
            json.dump({**self._task, "variables": variables, **self._of_this_try()}, file)
        around, self._kills = self._around, count_kills()
        worker = Worker(
            around.entrance.archive,
            directory,
            around.environ,
            around.handed,
            around.output,
            around.interrupts,
        )
        door = open_door(around.entrance, worker.pid, directory)
        self._await_debugger(worker, directory)
        idle = self._idle_watch()
        around.sampler.begin()
        if around.compiled:
            around.compiled.begin()
        around.sampler.watch(idle.note if idle else None)
        stuck = self._stuck_watch(door)
        self._watch(worker, idle, directory)
        if stuck is not None:
            stuck.end()
        if around.compiled and around.interrupts.is_terminated:
            around.compiled.hurry()
        is_late = worker.exit_code is None and not around.interrupts.is_stopping
        # A call that was over in time counts, whatever still ran.
        is_late = is_late and read_outcome(directory) is None
        why = (idle and idle.message) or self._too_long
        seen = self._last_look(door) if is_late or around.interrupts.is_given_up else {}
        if worker.exit_code is None:
            limit = GIVEN_UP_SECONDS if around.interrupts.is_given_up else self._grace_seconds
            worker.stop(min(limit, self._grace_seconds))
        worker.finish()
        close_door(around.entrance)
        if self._task["profile"]:
            self._keep_profile(directory, number)
        ending = self._ending(worker, directory, late=why if is_late else "")
        return ending if ending.status in UNREMARKABLE else self._seen(ending, seen)

    def _last_look(self, door: Door) -> dict[str, Any]:
        """Return what the function does that is about to be stopped."""
        from .black_box import stacks_of

        is_given_up = self._around.interrupts.is_given_up
        return stacks_of(door, GIVEN_UP_SECONDS if is_given_up else LOOK_SECONDS)

    def _seen(self, ending: Ending, seen: Mapping[str, Any]) -> Ending:
        """Return an ending with what was seen last: what was used, and who was killed for it."""
        from .black_box import READINGS_SECONDS, readings_of

        readings = readings_of(self._around.sampler.readings(READINGS_SECONDS))
        killed = describe_kill(self._kills) or ""
        return ending._replace(seen={**seen, "readings": readings, "killed": killed})

    def _debugger_watch(self) -> DebuggerWatch | None:
        if not self._task["debug"]:
            return None
        from .debugging import DebuggerWatch

        return DebuggerWatch(self._task["debug"], self._limit_seconds, self._around.output.say)

    def _await_debugger(self, worker: Worker, directory: str) -> None:
        """Wait as long as the function is not called: that time does not count, but its cost."""
        if self._debugger is None:
            return
        costly = self._spending.deadline if self._spending else None
        waited = self._debugger.wait(worker, directory, self._around.interrupts, costly)
        self._deadline = self._deadline and self._deadline + waited

    def _keep_profile(self, directory: str, number: int) -> None:
        """Bring the profile of a try to the run's outputs, and say where it is."""
        from .profile_store import profile_of_call

        variables, entrance = self._task["variables"], self._around.entrance
        # Another run may have left its own where these outputs go.
        session = f"call-{entrance.run_id[:8]}-{variables['KINETIC_RESTART_COUNT']}-{number}"
        told = profile_of_call(directory, variables["KINETIC_OUTPUT_DIR"], session, entrance.host)
        self._around.output.say(told)

    def _of_this_try(self) -> dict[str, Any]:
        """Return what this try's worker is told besides what all are."""
        debug = {"debug": self._debugger.for_next_try()} if self._debugger else {}
        return {**self._lingers(), **debug}

    def _idle_watch(self) -> IdleWatch | None:
        # Jobs that were written by earlier clients do not say.
        if not self._job.get("idle_timeout_seconds"):
            return None
        from .idle import idle_watch

        around = self._around
        return idle_watch(self._job, around.environ, around.output.say, around.interrupts.wake)

    def _stuck_watch(self, door: Door) -> StuckWatch | None:
        # Jobs that were written by earlier clients do not say. In a debugger a run stands still.
        if not self._job.get("stuck_after_seconds") or self._task["debug"]:
            return None
        from .stuck import StuckWatch

        return StuckWatch(self._job["stuck_after_seconds"], door, self._around).begin()

    def _lingers(self) -> dict[str, float]:
        """Return how long a worker may live on when its function has returned, or failed."""
        returned, failed = self._grace_seconds, self._grace_seconds
        if self._has_others:
            returned, failed = max(returned, OTHERS_SECONDS), min(failed, FAILED_SECONDS)
        return {"linger_seconds": returned, "failed_linger_seconds": failed}

    def _watch(self, worker: Worker, idle: IdleWatch | None, directory: str) -> None:
        """Wait until the worker has ended or has to be stopped."""
        interrupts = self._around.interrupts
        try:
            while worker.exit_code is None and not interrupts.is_stopping and not self._is_late():
                # One whose call is over does nothing more, and may be there for others.
                if idle is not None and idle.message and read_outcome(directory) is None:
                    break
                interrupts.wait_until(self._next_deadline)
        finally:
            if idle is not None:
                idle.end()

    @property
    def _too_long(self) -> str:
        if self._spending and self._spending.is_over:
            return self._spending.message
        return f"it ran longer than {self._limit_seconds or 0.0:g} s"

    def _is_late(self) -> bool:
        until = self._next_deadline
        return until is not None and time.monotonic() >= until

    @property
    def _next_deadline(self) -> float | None:
        """When its time is over, or its money."""
        costly = self._spending.deadline if self._spending else None
        limits = [each for each in (self._deadline, costly) if each is not None]
        return min(limits, default=None)

    def _ending(self, worker: Worker, directory: str, *, late: str) -> Ending:
        tail = self._around.output.tail
        if late:
            return timed_out(late, tail)
        outcome = read_outcome(directory)
        ending = (
            from_outcome(outcome, os.path.join(directory, BODY_FILE), tail) if outcome else None
        )
        if self._around.interrupts.is_stopping:
            return self._interrupted(ending)
        return ending or self._crashed(worker.exit_code or 0, tail)

    def _crashed(self, exit_code: int, tail: list[str]) -> Ending:
        why = describe_kill(self._kills)
        if why:
            self._around.reporter.tell("oom", "", {"reason": why})
        return crashed(exit_code, tail, why)

    def _interrupted(self, ending: Ending | None) -> Ending:
        """Return how a run ended that was asked to stop while the function ran."""
        when = "while the function ran"
        if self._around.reporter.is_cancelling():
            return cancelled(when)
        return ending if ending and ending.status == "returned" else terminated(when)

    def _moves_on(self, ending: Ending) -> bool:
        """Whether the next try is made with a larger accelerator, as it can only end so here."""
        return bool(ending.out_of_memory and (self._candidate or {}).get("moves_on"))

    def _announce_next(self, ending: Ending, number: int) -> None:
        what = describe_exception(ending.fields, REASON_CHARACTERS)
        message = f"try {number} of {self._tries} raised {what}"
        self._around.output.say(f"{message}; the next begins in {self._delay_seconds:g} s")
        self._around.reporter.set_state(State("RUNNING", "Retrying", message))

    def _pause(self) -> Ending | None:
        """Wait before the next try; return how the run ended if it ends meanwhile."""
        interrupts = self._around.interrupts
        begin = time.monotonic() + self._delay_seconds
        limit = self._next_deadline
        until = begin if limit is None else min(begin, limit)
        while time.monotonic() < until and not interrupts.is_stopping:
            interrupts.wait_until(until)
        if interrupts.is_stopping:
            return self._interrupted(None)
        if self._is_late():
            return timed_out(self._too_long, self._around.output.tail)
        return None
