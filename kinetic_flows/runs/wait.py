"""Waiting for a run: its output as it comes, what it waits for, its result.

A run whose own process cannot reach the Prefect API is told of by the client that waits for it:
`relay.py`.
"""

from __future__ import annotations

import re
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from kinetic_flows.clients.prefect.api import short_retries
from kinetic_flows.core.envelope import ResultEnvelope, ResultHeader
from kinetic_flows.core.errors import (
    KineticError,
    PrefectUnreachable,
    RunCancelled,
    WaitTimeout,
)
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase, Processes
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.moments import elapsed
from kinetic_flows.core.progress import Progress, Stream
from kinetic_flows.core.settings.settings import is_debugging
from kinetic_flows.core.streams import TRACEBACK_LOGGER, Piece, StreamDecoder
from kinetic_flows.runs.cancel import (
    API_AWAY,
    CancellationWatch,
)
from kinetic_flows.runs.left_results import LEFT, STORING, LeftWatch, result_while_storing
from kinetic_flows.runs.pod_waits import PodWaits
from kinetic_flows.runs.relay import Relay, relay_for
from kinetic_flows.runs.results import LOG_TAIL_LINES, crash_error, read_result
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import (
    WORTH_EXPLAINING,
    is_being_launched,
    sync_state,
    ticket_of,
)
from kinetic_flows.runs.wait_events import WaitEvents
from kinetic_flows.runs.worker_runs import processes_of

if TYPE_CHECKING:
    from kinetic_flows.runs.insight import debugger
else:
    debugger = LazyModule("kinetic_flows.runs.insight.debugger")

FIRST_POLL_SECONDS = 0.02
LAST_POLL_SECONDS = 0.25
POLL_FRACTION = 0.05

WORTH_SAYING_SECONDS = 5.0
FINAL_STATE_RETRIES = 3
"""How often a Prefect API that is away is asked to take a run's end: for a quarter of a minute."""

_CALLED_AGAIN = re.compile(r"^kinetic: (?:try \d+ of \d+ raised|.* starts again$)", re.MULTILINE)
"""What the runner says before it calls a function once more."""

_DEBUGGER_AWAITED = "kinetic: waiting for a debugger on "
"""What it says when it waits for a debugger; `runner_image/runner/debugging.py`."""


def wait_for_run(
    run: RunTicket,
    session: Session,
    progress: Progress,
    *,
    timeout_seconds: float | None = None,
    is_launched: bool = False,
) -> ResultEnvelope:
    """Wait until a run's process has ended and its flow run has its final state.

    Args:
        run: The run.
        session: Where it runs and reports.
        progress: Told what the function prints.
        timeout_seconds: When to stop waiting; None to wait for as long as it takes.
        is_launched: Whether it is known to have been launched, so that a process that is not
            there is gone; else another client may be about to start it.

    Returns:
        The result envelope.

    Raises:
        RunCrashed: The process ended without a result.
        RunCancelled: It was cancelled before it could leave one.
        WaitTimeout: The time is over; the run goes on.
    """
    started = time.monotonic()
    try:
        return _wait(run, session, progress, timeout_seconds, started, is_launched=is_launched)
    except _IsListed as listed:
        return _wait(listed.run, session, progress, timeout_seconds, started, is_launched=False)


class _IsListed(Exception):
    """A run was asked about before it was launched, as one that has several candidates.

    Attributes:
        run: The run, as one that has.
    """

    def __init__(self, run: RunTicket) -> None:
        super().__init__(run.run_id)
        self.run = run


def _wait(
    run: RunTicket,
    session: Session,
    progress: Progress,
    timeout_seconds: float | None,
    started: float,
    *,
    is_launched: bool,
) -> ResultEnvelope:
    """Wait for a run, whose waiting began at a moment of the monotonic clock."""
    _say_where(run, session, progress)
    processes = processes_of(session.platform, session.api, run)
    cancellation = CancellationWatch(run, session, processes)
    seen = Observation(phase=Phase.PENDING)
    reasons, left = _Reasons(run, session, progress), LeftWatch(run, session)
    waits, events = PodWaits(run, session), WaitEvents(run, session)
    relay = relay_for(run, session) if is_launched else Relay(run, session, is_needed=False)
    envelope: ResultEnvelope | None = None
    with ShownOutput(progress) as output, ExitStack() as leaving:
        with short_retries(), ExitStack() as hasty:
            is_hasty = False
            while True:
                if session.api_availability.is_away and not is_hasty:
                    # Else each look at the API holds what the run prints back for seconds.
                    hasty.enter_context(short_retries(0))
                    is_hasty = True
                before = replace(seen, output=b"", position=output.position)
                seen = left.look(_look(run, session, processes, before))
                for text in seen.told:
                    progress.notice(text)
                output.take(seen)
                if output.is_debugger_awaited:
                    output.is_debugger_awaited = False
                    debugger.lead_debugger(run, session, progress, leaving)
                relay.take(seen)
                if seen.phase.is_final and (
                    is_launched or not _is_yet_to_start(run, session, seen)
                ):
                    reasons.end(seen)
                    break
                if output.is_storing and not relay.is_needed:
                    output.is_storing = False
                    envelope = result_while_storing(run, session)
                    if envelope is not None:
                        reasons.end(seen)
                        break
                reasons.take(seen)
                waits.take(seen)
                events.take(seen, is_relayed=bool(relay.is_needed))
                cancellation.look()
                waited = time.monotonic() - started
                if timeout_seconds is not None and waited >= timeout_seconds:
                    raise _timeout(run, timeout_seconds)
                pause(_pause_seconds(waited))
            hasty.close()  # what is told now is told once
            relay.finish()
        if envelope is None:
            envelope = _settled(run, session, seen, output.tail(), is_launched=is_launched)
        output.end(envelope)
    return envelope


def _timeout(run: RunTicket, timeout_seconds: float) -> WaitTimeout:
    return WaitTimeout(
        f"run {run.run_id} of {run.name} is not over after {timeout_seconds:g} s",
        value=run.run_id,
        hint="the run goes on; wait longer, or cancel it with .cancel()",
    )


def _say_where(run: RunTicket, session: Session, progress: Progress) -> None:
    """Say that the output and state of a run in another namespace come from Prefect alone."""
    if session.platform.sees(run.place):
        return
    namespace = run.place.partition("/")[0]
    progress.notice(
        f"run {run.run_id} is in namespace {namespace!r}, and not where is looked from here: its "
        "state and output come from Prefect alone (KINETIC_NAMESPACE and KINETIC_CLUSTER say where)"
    )


def _look(
    run: RunTicket, session: Session, processes: Processes, before: Observation
) -> Observation:
    """Observe a run; where only Prefect can tell and does not answer, look for its result."""
    try:
        return processes.observe(run.run_id, before.position)
    except PrefectUnreachable as error:
        session.api_availability.failed(error)
        if read_result(session.platform.store, run) is None:
            return before
        return replace(before, phase=Phase.GONE, reason=LEFT)


def _settled(
    run: RunTicket, session: Session, seen: Observation, log_tail: list[str], *, is_launched: bool
) -> ResultEnvelope:
    try:
        with short_retries(session.api_retries(FINAL_STATE_RETRIES)):
            envelope = sync_state(session.platform, session.api, run, is_launched=is_launched)
    except API_AWAY as error:
        session.api_availability.failed(error)
        # The result is the truth about the run; the next session sets its state.
        envelope = read_result(session.platform.store, run)
        if envelope is None and is_launched:
            raise crash_error(seen, run, log_tail) from error
        if envelope is None:
            raise
    else:
        session.api_availability.answered()
    if envelope is not None:
        if envelope.header.status == "cancelled":
            # Its own runner noticed the cancellation, and its Job is nothing to look at.
            with suppress(KineticError):
                processes_of(session.platform, session.api, run).discard(run.run_id)
        return replace(envelope, why=_likely_cause(run, session, envelope.header))
    if session.api.read_run(run.run_id).state_type == "CANCELLED":
        raise RunCancelled(f"run {run.run_id} of {run.name} was cancelled", value=run.run_id)
    raise crash_error(seen, run, log_tail, why=_likely_cause(run, session, None))


def _likely_cause(run: RunTicket, session: Session, header: ResultHeader | None) -> str:
    """Return why a run crashed or took too long, where more is known than its end tells."""
    if header is not None and header.status not in WORTH_EXPLAINING:
        return ""
    from kinetic_flows.runs.insight.ended_why import told_in_error

    with short_retries(session.api_retries(FINAL_STATE_RETRIES)):
        return told_in_error(session.platform, session.api, run)


def _is_yet_to_start(run: RunTicket, session: Session, seen: Observation) -> bool:
    """Whether a run has no process because a client is about to start it."""
    if seen.phase is not Phase.GONE:
        return False
    record = session.api.read_run(run.run_id)
    known = ticket_of(record)
    if known.candidates != run.candidates:
        raise _IsListed(known)
    return is_being_launched(record)


def _pause_seconds(waited_seconds: float) -> float:
    """Return how long to wait before looking again: a short run is noticed at once."""
    return min(max(waited_seconds * POLL_FRACTION, FIRST_POLL_SECONDS), LAST_POLL_SECONDS)


class _Reasons:
    """Shows why a run is Pending, in the terminal and in the run's log, whenever that changes."""

    def __init__(self, run: RunTicket, session: Session, progress: Progress) -> None:
        self._run = run
        self._session = session
        self._progress = progress
        self._reason = ""
        self._phase: Phase | None = None
        self._since = 0.0

    def take(self, seen: Observation) -> None:
        now = time.monotonic()
        if (seen.phase, seen.reason) != (self._phase, self._reason):
            self._show(seen)
        if seen.phase is not self._phase:
            self._phase, self._since = seen.phase, now
        if seen.reason == self._reason:
            return
        self._reason = seen.reason
        if seen.reason:
            waited = now - self._since
            long = f" (for {elapsed(waited, tenths=False)})"
            after = long if waited >= WORTH_SAYING_SECONDS else ""
            self._tell(f"{self._run.name} is {seen.phase.value}{after}: {seen.reason}")

    def end(self, seen: Observation) -> None:
        """Say no more what a run waited for that may have ended since it was seen to wait."""
        self._progress.launched(self._session.api.run_url(self._run.run_id), _on(seen))

    def _show(self, seen: Observation) -> None:
        has_begun = seen.phase.is_final or seen.phase is Phase.RUNNING
        how = _on(seen) if has_begun else seen.phase.value
        why = f"{how}: {seen.reason}" if how and seen.reason else how
        self._progress.launched(self._session.api.run_url(self._run.run_id), why)

    def _tell(self, text: str) -> None:
        self._progress.notice(text)
        with suppress(KineticError):
            self._session.api.log(self._run.run_id, text)


def _on(seen: Observation) -> str:
    """Say of a list what it turned out to run on."""
    return f"on {seen.runs_on}" if seen.runs_on else ""


class ShownOutput:
    """Passes a process's output on as it arrives, and remembers its last lines.

    The traceback with which a function ends is held back: the exception is about to be raised
    here, and shows it, or is caught, as it would be if it had been raised here in the first place.
    What libraries print at the end of its process comes after it, and is shown at once.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._decoder = StreamDecoder()
        self._recent: deque[str] = deque(maxlen=200)
        self._held: list[Piece] = []
        self._debuggers = 0
        self.position = 0
        self.is_debugger_awaited = False
        self.is_storing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            # The wait ends in another way: nobody else shows it.
            self._show_held()

    def take(self, seen: Observation) -> None:
        """Take what was printed since the last observation."""
        self.position = seen.position
        pieces = self._decoder.take(seen.output)
        if seen.phase.is_final:
            pieces += self._decoder.end()
        for piece in pieces:
            if piece.where != "hidden":
                self._recent.append(piece.text)
                self._show(piece, piece.where)

    def _show(self, piece: Piece, stream: Stream) -> None:
        if piece.text.startswith(_DEBUGGER_AWAITED):
            self._debuggers += 1
            # What leads there leads to the next try, too.
            self.is_debugger_awaited = self._debuggers == 1
        self.is_storing = self.is_storing or piece.text.startswith(STORING)
        is_traceback = piece.record is not None and piece.record.logger == TRACEBACK_LOGGER
        is_of_held = bool(self._held) and piece.record is self._held[0].record
        if (is_traceback and not is_of_held) or _CALLED_AGAIN.search(piece.text):
            self._show_held()
        if is_traceback:
            self._held.append(piece)
        else:
            self._progress.output(piece.text, stream)

    def _show_held(self) -> None:
        held, self._held = self._held, []
        for piece in held:
            if piece.where != "hidden":
                self._progress.output(piece.text, piece.where)

    def end(self, envelope: ResultEnvelope) -> None:
        """Take note of how the run has ended."""
        if envelope.header.status != "raised" or is_debugging():
            self._show_held()

    def tail(self) -> list[str]:
        """Return the last lines."""
        return "".join(self._recent).splitlines()[-LOG_TAIL_LINES:]
