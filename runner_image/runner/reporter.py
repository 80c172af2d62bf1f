"""Reporting to Prefect from a thread of its own, which never holds the function up."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .endings import State
from .marks import RUNNER_LOGGER
from .naming import is_made_up
from .prefect_api import TIMEOUT_SECONDS, ApiError, LogEntry, PrefectApi

BATCH_SECONDS = 1.0
BATCH_LINES = 200
BATCH_CHARACTERS = 1_000_000
MAX_MESSAGE_BYTES = 24_000
"""Prefect Cloud refuses log entries over 25,000 bytes, their JSON frame included."""
MAX_WAITING_LINES = 20_000
MAX_WAITING_CHARACTERS = 20_000_000
STEP_SECONDS = 2e-6
"""Between the times of lines that come at once: a float of today's seconds cannot keep one
microsecond apart from the next, and Prefect orders lines by microseconds."""
POLL_SECONDS = 3.0
FIRST_BACKOFF_SECONDS = 0.05
"""Short at first: a server on SQLite answers 503 when two transactions collide."""
LAST_BACKOFF_SECONDS = 10.0
_PATIENCE_SECONDS = {True: 10.0, None: 5.0, False: 0.5}
"""How long a run that has ended waits for its last lines and its state to be taken, by whether
the API has answered: it has, it has not been asked yet or has not answered yet, it has not.
"""

WARNING = 30
"""As `logging` has it."""

UPDATE_SECONDS = 2.0
"""How long a name or labels may take to be told."""

CANCELLED_TYPES = ("CANCELLING", "CANCELLED")


class SilentReporter:
    """Reports to nobody, for jobs that name no Prefect API."""

    def start(self) -> None:
        """Do nothing."""

    def set_state(self, state: State) -> None:
        """Do nothing."""

    def rename(self, before: str, name: str) -> None:
        """Do nothing."""

    def label(self, labels: Mapping[str, float | str]) -> None:
        """Do nothing."""

    def tell(self, kind: str, which: str, payload: Mapping[str, Any]) -> None:
        """Do nothing."""

    def entry(self, text: str, level: int, logger: str) -> None:
        """Do nothing."""

    def is_cancelling(self) -> bool:
        """Nobody can ask for a cancellation."""
        return False

    def finish(self, state: State | None) -> None:
        """Do nothing."""


class Reporter:
    """Sends states and log lines, and looks for a cancellation.

    Args:
        api: Where to.
        on_cancel: Called once, in the reporter's thread, when the run is to be cancelled.
        warn: Called with a line to print when the API cannot be used; once per run.
    """

    def __init__(
        self, api: PrefectApi, on_cancel: Callable[[], None], warn: Callable[[str], None]
    ) -> None:
        self._api = api
        self._on_cancel = on_cancel
        self._warn = warn
        self._changed = threading.Condition()
        self._states: deque[State] = deque()
        self._final: State | None = None
        self._updates: deque[Callable[[float], None]] = deque()
        self._lines = _WaitingLines()
        self._deadline: float | None = None
        self._is_cancelling = False
        self._has_warned = False
        self._is_reachable: bool | None = None
        self._backoff_seconds = 0.0
        self._next_poll = 0.0
        self._thread = threading.Thread(target=self._work, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def set_state(self, state: State) -> None:
        """Ask for a state to be set."""
        with self._changed:
            self._states.append(state)
            self._changed.notify()

    def rename(self, before: str, name: str) -> None:
        """Ask for a name for the flow run, unless it has one that somebody has given it."""
        if is_made_up(before):
            self._update(lambda timeout: self._api.rename(name, timeout))

    def label(self, labels: Mapping[str, float | str]) -> None:
        """Ask for labels to be added to the flow run's."""
        if labels:
            self._update(lambda timeout: self._api.label(labels, timeout))

    def tell(self, kind: str, which: str, payload: Mapping[str, Any]) -> None:
        """Ask for an event that tells what happened to the run; see `events.event_of`."""
        occurred = time.time()
        self._update(lambda timeout: self._api.tell(kind, which, payload, occurred, timeout))

    def _update(self, update: Callable[[float], None]) -> None:
        with self._changed:
            self._updates.append(update)
            self._changed.notify()

    def entry(self, text: str, level: int, logger: str) -> None:
        """Ask for a line that was printed, or a record, to be logged.

        Args:
            text: The text.
            level: Its level, as `logging` has it.
            logger: The logger's name.
        """
        pieces = fitting_pieces(text.replace("\0", "\ufffd"))
        with self._changed:
            self._lines.add(pieces, level, logger)
            self._changed.notify()

    def is_cancelling(self) -> bool:
        """Ask whether the run is to be cancelled; False when nobody answers in time."""
        if not self._is_cancelling and self._is_reachable is not False:
            self._attempt(self._poll, timeout_seconds=2.0)
        return self._is_cancelling

    def finish(self, state: State | None) -> None:
        """Send what is left and then a last state, for as long as that may take.

        Args:
            state: The run's final state; None to leave that to others.
        """
        with self._changed:
            self._final = state
            patience = _PATIENCE_SECONDS[self._is_reachable]
            self._deadline = time.monotonic() + patience
            self._changed.notify()
        self._thread.join(patience)

    def _work(self) -> None:
        while not self._is_over():
            with self._changed:
                while not self._is_due():
                    self._changed.wait(self._seconds_to_wait())
                batch = self._lines.take() if self._lines_are_due() else []
                state = self._next_state(batch)
                is_done = bool(self._deadline) and not batch and not state
            if is_done:
                return
            self._attempt_update()
            if batch:
                self._attempt_batch(batch)
            if state:
                self._attempt_state(state)
            if not self._deadline and time.monotonic() >= self._next_poll:
                self._attempt(self._poll)
            self._pause()

    def _next_state(self, batch: list[LogEntry]) -> State | None:
        """Return the state to send now; the final one follows the last line."""
        if self._states:
            return self._states[0]
        return self._final if self._deadline and not batch and not self._lines else None

    def _is_due(self) -> bool:
        return bool(
            self._states
            or self._updates
            or self._deadline
            or self._lines_are_due()
            or time.monotonic() >= self._next_poll
        )

    def _lines_are_due(self) -> bool:
        waiting = self._lines
        is_old = waiting.seconds_waited() >= BATCH_SECONDS
        return bool(waiting) and (is_old or len(waiting) >= BATCH_LINES or bool(self._deadline))

    def _seconds_to_wait(self) -> float:
        seconds = self._next_poll - time.monotonic()
        if self._lines:
            seconds = min(seconds, BATCH_SECONDS - self._lines.seconds_waited())
        return max(seconds, 0.0)

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _pause(self) -> None:
        """After a failure, wait before the next request; the end of the run cuts it short."""
        if not self._backoff_seconds:
            return
        with self._changed:
            if self._deadline:
                self._changed.wait(min(self._backoff_seconds, 0.5))
            else:
                self._changed.wait_for(lambda: self._deadline, self._backoff_seconds)

    def _attempt_batch(self, batch: list[LogEntry]) -> None:
        sent = self._attempt(lambda timeout: self._api.send_logs(batch, timeout))
        if not sent:
            with self._changed:
                self._lines.give_back(batch)

    def _attempt_state(self, state: State) -> None:
        def send(timeout_seconds: float) -> None:
            answer = self._api.set_state(*state, timeout_seconds)
            found = (answer.get("state") or {}).get("type")
            if answer.get("status") != "ACCEPT" and found in CANCELLED_TYPES:
                self._cancel()
            # The answer tells of a cancellation as well as a poll does.
            self._next_poll = time.monotonic() + POLL_SECONDS

        if self._attempt(send):
            with self._changed:
                if self._states:
                    self._states.popleft()
                else:
                    self._final = None

    def _attempt_update(self) -> None:
        """Tell what a person would like to know of the run; nothing else waits for it long."""
        if not self._updates or self._states:
            return
        if self._deadline and self._is_reachable is False:
            self._updates.clear()
            return
        try:
            self._updates[0](UPDATE_SECONDS)
        except ApiError as error:
            if not error.is_final and not self._deadline:
                self._backoff_seconds = max(self._backoff_seconds, LAST_BACKOFF_SECONDS / 2)
                return
        self._updates.popleft()

    def _poll(self, timeout_seconds: float) -> None:
        self._next_poll = time.monotonic() + POLL_SECONDS
        if self._api.read_state(timeout_seconds) in CANCELLED_TYPES:
            self._cancel()

    def _cancel(self) -> None:
        if not self._is_cancelling:
            self._is_cancelling = True
            self._on_cancel()

    def _attempt(
        self, request: Callable[[float], None], timeout_seconds: float = TIMEOUT_SECONDS
    ) -> bool:
        """Make a request; return whether it is done with, for better or worse."""
        if self._deadline:
            timeout_seconds = max(self._deadline - time.monotonic(), 0.1)
        try:
            request(timeout_seconds)
        except ApiError as error:
            if self._is_reachable is None:
                self._is_reachable = False
            if not self._has_warned:
                self._has_warned = True
                self._warn(f"the Prefect API cannot be used, the run goes on without: {error}")
            doubled = max(2 * self._backoff_seconds, FIRST_BACKOFF_SECONDS)
            self._backoff_seconds = 0.0 if error.is_final else min(doubled, LAST_BACKOFF_SECONDS)
            return error.is_final
        self._is_reachable = True
        self._backoff_seconds = 0.0
        return True


def reporter_of(
    api: PrefectApi | None, on_cancel: Callable[[], None], warn: Callable[[str], None]
) -> Reporter | SilentReporter:
    """Return what reports to an API, or to nobody where there is none; see `Reporter`."""
    return SilentReporter() if api is None else Reporter(api, on_cancel, warn)


class _WaitingLines:
    """Lines that wait to be sent: a bounded number, the oldest given up first."""

    def __init__(self) -> None:
        self._lines: deque[LogEntry] = deque()
        self._characters = 0
        self._dropped = 0
        self._last_time = 0.0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._lines)

    def seconds_waited(self) -> float:
        """How long the oldest line has waited."""
        return time.monotonic() - self._since if self._lines else 0.0

    def add(self, pieces: list[str], level: int, logger: str) -> None:
        """Add lines that were printed now; each gets a time of its own, so that order stays."""
        if not self._lines:
            self._since = time.monotonic()
        for text in pieces:
            self._last_time = max(time.time(), self._last_time + STEP_SECONDS)
            self._lines.append(LogEntry(self._last_time, text, level, logger))
            self._characters += len(text)
        self._drop_oldest()

    def take(self) -> list[LogEntry]:
        """Take the oldest lines, as many as one request should carry."""
        batch: list[LogEntry] = []
        if self._dropped:
            text = f"kinetic: {self._dropped} lines are missing here, the Prefect API was too slow"
            at = self._lines[0].seconds - STEP_SECONDS
            batch.append(LogEntry(at, text, WARNING, RUNNER_LOGGER))
            self._dropped = 0
        size = 0
        while self._lines and len(batch) < BATCH_LINES and size < BATCH_CHARACTERS:
            line = self._lines.popleft()
            size += len(line.text)
            batch.append(line)
        self._characters -= size
        self._since = time.monotonic()
        return batch

    def give_back(self, batch: list[LogEntry]) -> None:
        """Put lines back that could not be sent."""
        if not self._lines:
            self._since = time.monotonic()
        self._lines.extendleft(reversed(batch))
        self._characters += sum(len(entry.text) for entry in batch)
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while (
            len(self._lines) > MAX_WAITING_LINES or self._characters > MAX_WAITING_CHARACTERS
        ) and len(self._lines) > 1:
            self._characters -= len(self._lines.popleft().text)
            self._dropped += 1


def fitting_pieces(text: str) -> list[str]:
    """Cut a line into pieces that Prefect accepts, by their size as JSON."""
    if len(json.dumps(text)) <= MAX_MESSAGE_BYTES:
        return [text]
    middle = len(text) // 2
    return [*fitting_pieces(text[:middle]), *fitting_pieces(text[middle:])]
