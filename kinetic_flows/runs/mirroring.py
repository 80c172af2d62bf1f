"""Telling Prefect of a run whose own process cannot reach the API.

That is how it is for most people on their first day: the cluster is Google's, and the Prefect
server a background process of their own machine. Their client then sets the run's state and
sends what it prints, for as long as it waits for it.
"""

from __future__ import annotations

import codecs
import time
from contextlib import suppress

from kinetic_flows.core.errors import PrefectServerError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.protocols import Observation, Phase
from kinetic_flows.runs.session import Session

SEND_SECONDS = 1.0
REPORTING_SECONDS = 10.0
"""How long a run that runs is left to say so itself, where it may be able to."""

LONGEST_LINE_CHARACTERS = 20_000


class Mirror:
    """Tells Prefect that a run runs, and what it prints.

    Args:
        run: The run.
        session: Where it runs and reports.
    """

    def __init__(self, run: RunTicket, session: Session) -> None:
        self._run = run
        self._session = session
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""
        self._is_running = False
        self._sent = time.monotonic()

    def take(self, seen: Observation) -> None:
        """Take note of what was seen of the run, and tell of it now and then."""
        self._text += self._decoder.decode(seen.output)
        if seen.phase is Phase.RUNNING and not self._is_running:
            self._is_running = True
            with suppress(PrefectServerError):
                self._session.api.set_state(self._run.run_id, "RUNNING")
        if time.monotonic() - self._sent >= SEND_SECONDS:
            self._send()

    def finish(self) -> None:
        """Tell of the rest."""
        self._text += self._decoder.decode(b"", final=True)
        self._text += "\n" if self._text and not self._text.endswith("\n") else ""
        self._send()

    def _send(self) -> None:
        self._sent = time.monotonic()
        whole, newline, self._text = self._text.rpartition("\n")
        if not newline:
            return
        lines = [line[:LONGEST_LINE_CHARACTERS] for line in whole.split("\n")]
        # What is monitored goes on without: its output is on the terminal, its result in the store.
        with suppress(PrefectServerError):
            self._session.api.log(self._run.run_id, *lines)


class LateMirror:
    """Tells Prefect of a run from its start on once it is plain that the run does not itself.

    Args:
        run: The run.
        session: Where it runs and reports.
    """

    def __init__(self, run: RunTicket, session: Session) -> None:
        self._run = run
        self._session = session
        self._mirror: Mirror | None = None
        self._is_told = False
        self._output = b""
        self._since: float | None = None

    def take(self, seen: Observation) -> None:
        """Take note of what was seen of the run, and tell of it where nobody else does."""
        if self._mirror:
            self._mirror.take(seen)
        elif not self._is_told:
            self._output += seen.output
            if self._since is None and seen.phase is Phase.RUNNING:
                self._since = time.monotonic()
            if self._since is not None and time.monotonic() - self._since >= REPORTING_SECONDS:
                self._decide()

    def finish(self) -> None:
        """Tell of the rest."""
        if self._mirror is None and not self._is_told:
            self._decide()
        if self._mirror:
            self._mirror.finish()

    def _decide(self) -> None:
        """Find out whether the run has told of itself."""
        try:
            self._is_told = self._session.api.read_run(self._run.run_id).state_type != "PENDING"
        except PrefectServerError:
            return
        if not self._is_told:
            self._mirror = Mirror(self._run, self._session)
            self._mirror.take(Observation(phase=Phase.RUNNING, output=self._output))
        self._output = b""


def mirror_of(run: RunTicket, session: Session) -> Mirror | LateMirror | None:
    """Return what tells Prefect of a run; None for a run that surely does so itself.

    Args:
        run: The run.
        session: Where it runs and reports.
    """
    # A worker names an API to the runs it starts that they can reach.
    if run.dispatch == "worker" or session.runs_report:
        return None
    return Mirror(run, session) if session.runs_report is False else LateMirror(run, session)
