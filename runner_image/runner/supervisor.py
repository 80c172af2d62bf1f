"""The supervisor: prepares a run, has the function called, and tells how it ended.

It is the process that the pod or the launcher sees. It holds the run's key and runs no code
of the project, so whatever the function does to its own process, its end is reported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .box_keeper import BoxKeeper
from .calling import Calls, Surroundings, spending_of
from .contract import (
    EXIT_MOVED_ON,
    EXIT_OBJECT_REFUSED,
    EXIT_RUNTIME_UNFIT,
    EXIT_STOOD_DOWN,
    EXIT_TERMINATED,
    Fault,
    host_result_object,
    make_header,
    metrics_object,
    read_header,
    seal,
    starts_prefix,
)
from .door import Entrance
from .endings import (
    Before,
    Ending,
    State,
    announcement,
    cancelled,
    exit_code_of,
    failed,
    state_of,
    terminated,
)
from .hosts import host_number
from .identity import LAUNCHED_RUN_VARIABLE, run_key
from .interrupts import Interrupted, Interrupts
from .marks import RESULT_LOGGER
from .output import Output
from .prefect_api import api_of
from .preparing import Start, is_flow, prepare
from .reporter import reporter_of
from .run_page import WHAT_IT_USED, RunPage
from .sampler import sampler_of
from .siblings import Siblings
from .slices import Slice
from .starts import Launched, Starts
from .stores import open_store
from .storing import store_patiently

if TYPE_CHECKING:
    from .candidates import Claims

Stored = TypeVar("Stored")


class Supervisor:
    """One start of a run, on one of its hosts.

    Args:
        launch: What the bootstrap hands over.
        job: Its job, which names its run.
        environ: This process's environment.
        leaving: Takes what is to be done when the run has ended.
    """

    def __init__(
        self,
        launch: Mapping[str, Any],
        job: Mapping[str, Any],
        environ: Mapping[str, str],
        leaving: ExitStack,
    ) -> None:
        self._job = job
        self._run_key = run_key(environ)
        self._host = host_number(self._job["hosts"], environ)
        self._environ = environ
        self._scratch: str = launch["scratch"]
        self._lasting: str = launch["scratch"]
        self._entrance = Entrance(job["run_id"], self._host, launch["path"], self._lasting)
        self._leaving = leaving
        self._client = launch["client"]
        self._store = open_store(launch["store"], self._client)
        self._interrupts = Interrupts()
        self._claims = self._make_claims()
        round_number = self._claims.launch.round if self._claims else None
        self._starts = starts_prefix(self._job["run_id"], round_number)
        self._marks = Starts(self._store, self._starts, self._host)
        self._launched = Launched.of(job, self._claims.launch if self._claims else None)
        siblings = Siblings(self._store, self._job, self._host, self._starts, environ)
        self._slice = Slice(self._store, self._job, self._host, self._starts, siblings)
        self._attempt, self._before = 0, Before()
        self._spending = spending_of(job, self._store, self._host, leaving)
        self._output = Output(self._on_entry)
        api = api_of(self._job, self._environ)
        self._reporter = reporter_of(api, self._interrupts.request_stop, self._output.say)
        self._page = RunPage(api)
        self._box = BoxKeeper(self._store, self._job, self._starts, self._host, self._output)

    def run(self) -> int:
        """Run the job and return this process's exit code."""
        if self._claims and (left := self._leaves(self._claims)):
            return left
        self._reporter.start()
        try:
            self._interrupts.install()
            while True:
                header = self._earlier_result()
                if header:
                    self._output.say("an earlier start of this run has left its result")
                    return self._report(header)
                ending = self._start()
                if self._interrupts.is_given_up and ending.status != "returned":
                    self._slice.check_siblings()
                    with self._box.beside(ending, self._restarts, self._page):
                        return self._give_up()
                if not self._is_to_start_again(ending):
                    break
                if self._claims:
                    ending = self._claims.await_end(self._output.say)
                    break
                self._begin_again()
        except Fault as fault:
            ending = self._failed(fault)
        except OSError as error:
            message = f"the run cannot be prepared in {self._scratch}: {error}"
            ending = self._failed(Fault(EXIT_RUNTIME_UNFIT, message))
        except Interrupted:
            ending = self._interrupted()
        with self._box.beside(ending, self._restarts, self._page):
            return self._end(ending)

    def _leaves(self, claims: Claims) -> int | None:
        """Claim the run for this accelerator; return the exit code of a process that stands down.

        It tells nobody but its own log: what the run is to be is another one's to tell.
        """
        try:
            self._interrupts.install()
            why = claims.take()
            self._before = claims.before() if why is None else self._before
        except Interrupted:
            return EXIT_TERMINATED
        self._interrupts.hold()
        if why is None:
            if self._environ.get(LAUNCHED_RUN_VARIABLE):
                from .own_flow_run import ACCELERATOR_LABEL, RUNNING, report

                report(self._environ, RUNNING)
                self._reporter.label({ACCELERATOR_LABEL: claims.launch.accelerator})
            return None
        self._output.say(f"this process ends, and calls nothing: {why}")
        return EXIT_STOOD_DOWN

    def _start(self) -> Ending:
        """Begin one start of the run, and return how it ended."""
        self._attempt = self._marks.claim(self._slice.settled)
        if not self._claims and not self._slice.may_begin(self._attempt):
            why = self._slice.who(self._attempt)
            message = f"{why}, and the run had been started again as often as max_preemptions says"
            raise Fault(EXIT_TERMINATED, message)
        if self._host == 0 and not is_flow(self._job):
            self._reporter.set_state(State("RUNNING", "Running"))
        if self._spending:
            self._spending.begin(again=self._restarts > 0)
        reason = self._before.disturbed
        if self._attempt:
            # An end of its own leaves a result, and nothing starts again after it.
            reason = "its process was ended from outside, and starts again"
        if self._host == 0 and self._restarts:
            again = self._marks.labels(self._attempt, self._launched, self._job["run_id"])
            self._reporter.label(again)
        if self._host == 0 and reason:
            payload = {"reason": reason, "restarts": self._restarts}
            self._reporter.tell("preempted", str(self._restarts), payload)
        watch = self._slice.watch(self._attempt, self._interrupts)
        try:
            return self._prepare_and_call()
        finally:
            watch.set()
            if self._interrupts.is_terminated:
                self._slice.tell_stopped(self._attempt)
                self._marks.tell_end(self._attempt)

    def _is_to_start_again(self, ending: Ending) -> bool:
        """Whether the slice starts again because of what happened to another host."""
        if self._interrupts.is_terminated or self._moves_on(ending):
            return False
        if self._interrupts.is_restarting:
            return ending.status not in ("returned", "cancelled")
        # What the function ran into may come of another host that is gone.
        return ending.status in ("raised", "crashed") and self._slice.is_over(self._attempt)

    def _give_up(self) -> int:
        """End because another host has failed the run; return the exit code."""
        self._interrupts.hold()
        self._output.say("another host of the run has failed: this one stops")
        self._reporter.finish(None)
        header = self._read_result()
        return exit_code_of(header) if header else EXIT_TERMINATED

    def _begin_again(self) -> None:
        why = self._slice.who(self._attempt + 1)
        self._output.say(f"{why}: every host of the slice starts again")
        self._scratch = os.path.join(self._scratch, f"start-{self._attempt + 1}")
        os.mkdir(self._scratch)
        self._interrupts.begin_again()

    def _make_claims(self) -> Claims | None:
        # Jobs that were written by earlier clients do not say.
        if not self._job.get("candidate"):
            return None
        from .candidates import Claims, launch_of

        launch = launch_of(self._job, self._environ)
        return Claims(launch, self._job, self._host, self._store, self._interrupts)

    def _on_entry(self, text: str, level: int, logger: str) -> None:
        shown = f"[host {self._host}] {text}" if self._job["hosts"] > 1 else text
        self._reporter.entry(shown, level, logger)

    # Before the function

    def _prepare_and_call(self) -> Ending:
        start = Start(
            job=self._job,
            environ=self._environ,
            store=self._store,
            client=self._client,
            scratch=self._scratch,
            lasting=self._lasting,
            leaving=self._leaving,
            host=self._host,
            attempt=self._restarts,
            output=self._output,
            reporter=self._reporter,
            api=api_of(self._job, self._environ),
        )
        task, environ, handed, compiled = prepare(start)
        sampler = sampler_of(start, environ, handed, metrics_object(self._starts, self._host))
        if compiled:
            sampler.also = compiled.sentence
        around = Surroundings(
            entrance=self._entrance,
            scratch=self._scratch,
            environ=environ,
            handed=handed,
            output=self._output,
            reporter=self._reporter,
            interrupts=self._interrupts,
            spending=self._spending,
            sampler=sampler,
            compiled=compiled,
        )
        self._interrupts.hold()
        self._page.course.call()
        used = partial(self._marks.on_page, self._attempt, self._job, self._environ)
        self._page.ask(WHAT_IT_USED, partial(used, sampler.markdown))
        return Calls(self._job, task, around).run()

    @property
    def _restarts(self) -> int:
        """How often the run was started before, on other accelerators as well."""
        return self._before.starts + self._attempt

    def _failed(self, fault: Fault) -> Ending:
        self._interrupts.hold()
        # What a server or a library has said may quote what it was sent.
        fault = Fault(fault.exit_code, self._output.masked(fault.message))
        return failed(fault, self._output.tail)

    def _interrupted(self) -> Ending:
        """Return how a run ended that was asked to stop before the function was called."""
        when = "before the function was called"
        return cancelled(when) if self._reporter.is_cancelling() else terminated(when)

    # After the function

    def _end(self, ending: Ending) -> int:
        """Leave the result, and report it; return the exit code."""
        self._interrupts.hold()
        message = announcement(ending)
        if message:
            self._output.say(message)
        if ending.status is None:
            self._reporter.finish(None)
            return ending.exit_code
        try:
            if self._claims and self._moves_on(ending):
                return self._move_on(self._claims, ending.out_of_memory)
            return self._leave(ending, ending.status)
        except Fault as fault:
            self._output.say(fault.message)
            self._reporter.finish(State("CRASHED", "Crashed", fault.message))
            return fault.exit_code

    def _moves_on(self, ending: Ending) -> bool:
        """Whether the run goes on with a larger accelerator, as it ran out of memory here."""
        return bool(ending.out_of_memory and self._claims and self._claims.launch.moves_on)

    def _leave(self, ending: Ending, status: str) -> int:
        """Leave the run's result, unless it has one, and report the one it has."""
        header = make_header(self._job["run_id"], status, self._restarts, **self._fields(ending))
        first = self._stored(partial(self._leave_result, header, ending.body))
        if first is not header:
            return self._report(first)
        self._report(header)
        return ending.exit_code

    def _move_on(self, claims: Claims, message: str) -> int:
        """Say in the store that the run goes on with a larger accelerator, and report nothing."""
        self._output.say(f"{message}: the run goes on with a larger accelerator of its list")
        self._stored(partial(claims.move_on, message))
        self._slice.tell_stopped(self._attempt, "ran out of memory")
        self._marks.tell_end(self._attempt)
        self._reporter.finish(None)
        return EXIT_MOVED_ON

    def _stored(self, store: Callable[[], Stored]) -> Stored:
        return store_patiently(
            store,
            limit_seconds=self._job["timeout_seconds"],
            interrupts=self._interrupts,
            say=self._output.say,
        )

    def _fields(self, ending: Ending) -> Mapping[str, Any]:
        if not self._host or ending.status == "returned":
            return ending.fields
        message = f"host {self._host}: {ending.fields['message']}"
        return {**ending.fields, "message": message}

    def _leave_result(self, header: dict[str, Any], body: str | None) -> dict[str, Any]:
        """Write the result, and return the header of the run's first result.

        Host 0 tells the run's value; every host can tell its failure.
        """
        head = seal(header, body, self._run_key)
        if self._host:
            own = host_result_object(self._starts, self._host)
            self._store.put_if_absent(own, head, body)
            if header["status"] == "returned":
                return header
        is_first = self._store.put_if_absent(self._job["result"], head, body)
        if header["status"] != "returned":
            # Where host 0 had returned, too: whoever waits for this one would wait for ever.
            self._slice.tell_failed()
        if is_first:
            return header
        first = self._read_result()
        return header if first == header else first or header

    def _report(self, header: dict[str, Any]) -> int:
        """Send the last lines and the state that fits a result; return its exit code."""
        self._interrupts.hold()
        state = state_of(header)
        is_for_others = self._host and header["status"] == "returned"
        if header["status"] == "returned" and not is_for_others:
            # Of a run that printed nothing, its page would show nothing at first.
            self._reporter.entry(state.message, logging.INFO, RESULT_LOGGER)
        self._reporter.finish(None if is_for_others else state)
        if not is_for_others:
            self._page.publish(state, self._restarts)
        return exit_code_of(header)

    def _earlier_result(self) -> dict[str, Any] | None:
        """Return the header of a result that leaves nothing to do; None where there is none."""
        header = self._read_result()
        if header and self._host and header["status"] == "returned":
            # The first host has been fast: that leaves this one its own part.
            return header if self._marks.has_begun(0) else None
        return header

    def _read_result(self) -> dict[str, Any] | None:
        """Return the header of the run's result, or None while there is none."""
        name = self._job["result"]
        data = self._store.read(name)
        if data is None:
            return None
        header = read_header(data, self._run_key, self._job["run_id"])
        if header is None:
            message = f"the object {name} is refused: it is no result of this run"
            raise Fault(EXIT_OBJECT_REFUSED, message)
        return header
