"""Reading a run's lines from Prefect and from its process, each line once."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from types import SimpleNamespace
from typing import Any

from kinetic_flows.clients.prefect.labels import CLIENT_LOGGER, STEPS_LOGGER
from kinetic_flows.clients.prefect.records import LogLine, RunRecord
from kinetic_flows.core.errors import PrefectUnreachable
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.runs.following import followed_lines
from kinetic_flows.runs.logs import LogReader

NOW = datetime.now(UTC)
RUNNING = RunRecord(
    id="run-1", name="train", state_type="RUNNING", state_name="Running", message="", created=NOW
)


@dataclass
class Prefect:
    """The API, as far as a reader asks it."""

    record: RunRecord = RUNNING
    is_away: bool = False
    lines: list[LogLine] = field(default_factory=list)

    def add(self, *texts: str, logger: str = "kinetic") -> None:
        for number, text in zip(count(len(self.lines)), texts, strict=False):
            line = LogLine(id=str(number), logger=logger, timestamp=NOW, level=20, message=text)
            self.lines.append(replace(line, timestamp=NOW + timedelta(microseconds=number)))

    def add_again(self, start: int) -> None:
        """Add lines again, as a sender does that was not told that they had arrived."""
        again = [replace(line, id=f"{line.id} again") for line in self.lines[start:]]
        self.lines = sorted([*self.lines, *again], key=lambda line: line.timestamp)

    def logs(self, _run_id: str, offset: int = 0) -> list[LogLine]:
        if self.is_away:
            raise PrefectUnreachable("it is away", hint="wait")
        return self.lines[offset:]

    def read_run(self, _run_id: str) -> RunRecord:
        if self.is_away:
            raise PrefectUnreachable("it is away", hint="wait")
        return self.record


@dataclass
class Platform:
    """A place with one process, which has printed something."""

    output: bytes = b""
    phase: Phase = Phase.RUNNING
    may_see_processes = True

    @property
    def launcher(self) -> Platform:
        return self

    def sees(self, _place: str) -> bool:
        return True

    def observe(self, _run_id: str, position: int) -> Observation:
        new = self.output[position:]
        return Observation(phase=self.phase, output=new, position=position + len(new))


@dataclass
class Session:
    """A session of the two."""

    api: Prefect = field(default_factory=Prefect)
    platform: Platform = field(default_factory=Platform)


def test_lines_that_the_process_has_told_are_not_repeated_when_prefect_has_them() -> None:
    session: Any = Session()
    session.api.add("locking", logger=STEPS_LOGGER)
    session.api.add("one")
    reader = LogReader(RunTicket(run_id="run-1", name="train", run_key=""), session)
    assert reader.available() == ["one"]
    followed = reader.follow()
    session.api.is_away = True
    session.platform.output = b"one\ntwo\nthr"
    assert next(followed) == ["two"]
    session.api.is_away = False
    session.api.add("two", "three")
    session.api.record = replace(RUNNING, state_type="COMPLETED", state_name="Completed")
    assert next(followed) == ["three"]
    assert list(followed) == []


def test_a_line_that_reaches_prefect_late_neither_repeats_nor_hides_another() -> None:
    session: Any = Session()
    session.api.add("two", "three")
    reader = LogReader(RunTicket(run_id="run-1", name="train", run_key=""), session)
    assert reader.available() == ["two", "three"]
    session.api.add("one", "four")
    session.api.lines.insert(0, session.api.lines.pop(2))
    assert reader.available() == ["one", "four"]
    assert reader.available() == []


def test_lines_that_were_sent_twice_are_told_once() -> None:
    session: Any = Session()
    session.api.add("same", "same", *map(str, range(200)))
    session.api.add_again(100)
    reader = LogReader(RunTicket(run_id="run-1", name="train", run_key=""), session)
    assert reader.available() == ["same", "same", *map(str, range(200))]
    session.api.add_again(len(session.api.lines) - 190)
    session.api.add("last")
    assert reader.available() == ["last"]
    assert reader.available() == []


def test_what_clients_say_of_a_run_is_no_line_of_its_process() -> None:
    session: Any = Session()
    session.api.add("train is Pending: no node", logger=CLIENT_LOGGER)
    session.api.add("one")
    reader = LogReader(RunTicket(run_id="run-1", name="train", run_key=""), session)
    assert reader.available() == ["train is Pending: no node", "one"]
    session.platform.output = b"one\ntwo\n"
    assert reader.available() == ["two"]
    session.api.add("train is Running again", logger=CLIENT_LOGGER)
    session.api.add("two", "three")
    assert reader.available() == ["train is Running again", "three"]


def test_a_last_line_that_nothing_ends_is_told_once() -> None:
    session: Any = Session()
    session.api.record = replace(RUNNING, state_type="COMPLETED", state_name="Completed")
    session.platform.output, session.platform.phase = b"one\ntwo", Phase.SUCCEEDED
    reader = LogReader(RunTicket(run_id="run-1", name="train", run_key=""), session)
    assert reader.available() == ["one", "two"]
    assert list(islice(reader.follow(), 2)) == []


def test_a_line_that_prefect_never_gets_hides_no_other() -> None:
    session: Any = Session()
    session.platform.output = b"one\ntwo\nthree\n"
    session.api.add("one")
    reader = LogReader(RunTicket(run_id="run-1", name="train", run_key=""), session)
    assert reader.available() == ["one", "two", "three"]
    session.api.add("three", "four")
    assert reader.available() == ["four"]


def test_who_stops_following_leaves_no_thread_behind() -> None:
    session: Any = Session()
    session.api.add("one")
    sessions: Any = SimpleNamespace(session=lambda: nullcontext(session))
    before = set(threading.enumerate())
    lines = followed_lines(RunTicket(run_id="run-1", name="train", run_key=""), sessions, None)
    assert next(lines) == "one"
    (reader,) = set(threading.enumerate()) - before
    lines.close()
    reader.join(20)
    assert not reader.is_alive()
