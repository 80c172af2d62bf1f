"""Reading a run's output: log lines from Prefect, newer lines from its pod or process.

Prefect has a line a second or so after it was printed and keeps it when the pod is gone; while
the API cannot be reached, or takes no lines, the process itself is read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from kinetic_flows.clients.prefect.labels import CLIENT_LOGGER, STEPS_LOGGER
from kinetic_flows.core.errors import KineticError, PrefectServerError
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.streams import RESULT_LOGGER, EntryReader, LogEntry, PrintedLine
from kinetic_flows.runs.prefect_lines import PrefectLines
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import sync_state
from kinetic_flows.runs.worker_runs import processes_of

POLL_SECONDS = 0.5
QUIET_SECONDS = 2.0
"""How long Prefect may have nothing new before a living run's process is asked."""

_HOST_PREFIX = "[host "
"""How lines of a slice of several hosts begin in Prefect; of its pods one alone is read."""


class LogReader:
    """Reads a run's lines one after the other, each once.

    Args:
        run: The run.
        session: Where it runs and reports.
    """

    def __init__(self, run: RunTicket, session: Session) -> None:
        self._run = run
        self._session = session
        self._process = _ProcessLines(run, session)
        self._prefect = PrefectLines()
        self._given = 0
        self._ahead: Counter[str] = Counter()
        self._quiet_since = time.monotonic()
        self._has_hosts = False

    def available(self, *, is_settled: bool = False) -> list[PrintedLine]:
        """Return every further line there is now.

        Args:
            is_settled: Whether the run has ended so long ago that Prefect has all of its lines, or
                none: only in the second case is its process asked.
        """
        entries = self._from_prefect()
        if is_settled and entries:
            return _lines(entries)
        return _lines(entries + self._from_process())

    def follow(self) -> Iterator[list[PrintedLine]]:
        """Yield further lines as they come, until the run is over; an outage is waited for."""
        while True:
            is_over = self._is_over()
            lines = self._from_prefect(patiently=True)
            if not lines and (is_over or self._is_quiet()):
                lines = self._from_process()
            if lines:
                self._quiet_since = time.monotonic()
                yield _lines(lines)
            elif is_over:
                return
            else:
                pause(POLL_SECONDS)

    def _is_quiet(self) -> bool:
        return time.monotonic() - self._quiet_since >= QUIET_SECONDS

    def _is_over(self) -> bool:
        """Whether the run has ended; its final state is set where it was not."""
        session = self._session
        try:
            if session.api.read_run(self._run.run_id).is_final:
                return True
            sync_state(session.platform, session.api, self._run)
        except PrefectServerError:
            # From now on new lines come from the process.
            self._quiet_since = 0.0
        except KineticError:
            return False
        return False

    def _from_prefect(self, *, patiently: bool = False) -> list[LogEntry]:
        try:
            found = self._prefect.read(self._session.api, self._run.run_id)
        except PrefectServerError:
            if not patiently:
                raise
            return []
        lines = [
            LogEntry(text=line.message, level=line.level, logger=line.logger)
            for line in found
            if line.logger not in (STEPS_LOGGER, RESULT_LOGGER)
        ]
        has_hosts = any(line.text.startswith(_HOST_PREFIX) for line in lines)
        self._has_hosts = self._has_hosts or has_hosts
        return [line for line in lines if self._is_new(line)]

    def _is_new(self, line: LogEntry) -> bool:
        """Whether a line from Prefect has not been given before, and note that it is now."""
        if line.logger == CLIENT_LOGGER:
            # No process has printed it.
            return True
        if self._ahead[line.text]:
            # What the process has told already arrives here later, if it does at all.
            self._ahead[line.text] -= 1
            return False
        self._given += 1
        return True

    def _from_process(self) -> list[LogEntry]:
        """Return the lines of the process that Prefect does not have."""
        if self._has_hosts:
            return []
        # A cluster out of reach, or a process that is gone, has nothing that is newer.
        with suppress(KineticError):
            lines = self._process.after(self._given)
            self._given += len(lines)
            self._ahead.update(line.text for line in lines)
            return lines
        return []


def _lines(entries: list[LogEntry]) -> list[PrintedLine]:
    return [line for entry in entries for line in entry.lines()]


class _ProcessLines:
    """The lines of a run's process, which Prefect is sent one by one."""

    def __init__(self, run: RunTicket, session: Session) -> None:
        self._run = run
        self._session = session
        self._processes = processes_of(session.platform, session.api, run)
        self._reader = EntryReader()
        self._position = 0
        self._lines: list[LogEntry] = []
        self._first = 0

    def after(self, count: int) -> list[LogEntry]:
        """Return the lines after the first ones, as far as they are complete."""
        # The output of runs that workers start is in Prefect's log alone.
        platform = self._session.platform
        is_here = platform.may_see_processes and platform.sees(self._run.place)
        if self._run.dispatch == "worker" or not is_here:
            return []
        seen = self._processes.observe(self._run.run_id, self._position)
        self._position = seen.position
        self._lines += self._reader.take(seen.output)
        if seen.phase.is_final:
            self._lines += self._reader.end()
        found = self._lines[max(count - self._first, 0) :]
        self._first += len(self._lines)
        self._lines = []
        return found
