"""Which runs a client tells Prefect of, and from when on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from kinetic_flows.runner_image.runner.marks import Marker, Record

from kinetic_flows.clients.prefect.records import LogLine, RunRecord
from kinetic_flows.core.errors import PrefectServerError, PrefectUnreachable
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.streams import LogEntry
from kinetic_flows.runs import relay as relaying
from kinetic_flows.runs.relay import relay_for

RUN = RunTicket(run_id="run-1", name="train", run_key="")
PENDING = RunRecord(
    id="run-1",
    name="train",
    state_type="PENDING",
    state_name="Pending",
    message="",
    created=datetime.now(UTC),
)


@dataclass
class Prefect:
    """The API, as far as a relay asks it."""

    record: RunRecord = PENDING
    told: list[str] = field(default_factory=list)
    entries: list[LogEntry] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    failure: PrefectServerError | None = None

    def read_run(self, _run_id: str) -> RunRecord:
        if self.failure:
            raise self.failure
        return self.record

    def set_state(self, _run_id: str, state_type: str) -> bool:
        if self.failure:
            raise self.failure
        self.told.append(state_type)
        return True

    def log(self, _run_id: str, *entries: LogEntry, at: datetime) -> None:
        self.times.append(at)
        if self.failure:
            raise self.failure
        self.told += [entry.text for entry in entries]
        self.entries += entries

    def logs(self, _run_id: str) -> list[LogLine]:
        return self.lines


@dataclass
class Session:
    """A session whose runs report, or not, or perhaps."""

    runs_report: bool | None = None
    api: Prefect = field(default_factory=Prefect)


def running(output: bytes = b"") -> Observation:
    return Observation(phase=Phase.RUNNING, output=output)


@pytest.mark.parametrize(
    ("reports", "told"), [(True, []), (False, ["RUNNING", "one"]), (None, ["RUNNING", "one"])]
)
def test_only_runs_that_may_not_report_are_told_of(reports: bool | None, told: list[str]) -> None:
    session: Any = Session(runs_report=reports)
    for run, expected in ((replace(RUN, dispatch="worker"), []), (RUN, told)):
        relay = relay_for(run, session)
        relay.take(running(b"one"))
        relay.finish()
        assert session.api.told == expected


def test_a_run_that_surely_cannot_report_is_told_of_at_once() -> None:
    session: Any = Session(runs_report=False)
    relay_for(RUN, session).take(running())
    assert session.api.told == ["RUNNING"]


def test_a_run_that_says_nothing_for_a_while_is_told_of_from_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session: Any = Session()
    relay = relay_for(RUN, session)
    relay.take(running(b"one\n"))
    assert session.api.told == [], "it is left to the run at first"
    monkeypatch.setattr(relaying, "REPORTING_SECONDS", 0)
    monkeypatch.setattr(relaying, "SEND_SECONDS", 0)
    relay.take(running(b"two\n"))
    relay.take(running(b"three"))
    relay.finish()
    assert session.api.told == ["RUNNING", "one", "two", "three"]


def test_a_run_that_ends_before_it_could_be_missed_is_told_of_at_its_end() -> None:
    session: Any = Session()
    relay = relay_for(RUN, session)
    relay.take(running(b"all\n"))
    relay.finish()
    assert session.api.told == ["RUNNING", "all"]


def test_a_run_that_reports_is_left_to_do_so(monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = Session(api=Prefect(record=replace(PENDING, state_type="RUNNING")))
    monkeypatch.setattr(relaying, "REPORTING_SECONDS", 0)
    relay = relay_for(RUN, session)
    relay.take(running(b"one\n"))
    relay.take(running(b"two\n"))
    relay.finish()
    assert session.api.told == []


def test_what_was_logged_keeps_its_level_and_its_logger() -> None:
    session: Any = Session(runs_report=False)
    relay = relay_for(RUN, session)
    marker = Marker()
    record = Record("stderr", 40, 10, "my.app", "ERROR:app:diverged\nat 3\n")
    relay.take(running(marker.stdout(b"out\n") + marker.stderr(b"err\n") + marker.record(record)))
    relay.finish()
    assert session.api.entries == [
        LogEntry(text="out"),
        LogEntry(text="err", logger="kinetic.stderr"),
        LogEntry(text="diverged\nat 3", level=40, logger="my.app"),
    ]


def test_what_is_too_long_for_prefect_is_sent_in_pieces() -> None:
    session: Any = Session(runs_report=False)
    relay = relay_for(RUN, session)
    relay.take(running(b"x" * 50_000 + b"\n"))
    relay.finish()
    told = session.api.told[1:]
    assert "".join(told) == "x" * 50_000
    assert max(map(len, told)) <= relaying.LONGEST_LINE_CHARACTERS


def test_a_run_whose_lines_have_arrived_tells_of_itself_though_it_is_pending_still() -> None:
    session: Any = Session()
    line = LogLine(id="1", logger="kinetic", timestamp=PENDING.created, level=20, message="all")
    session.api.lines = [replace(line, logger="kinetic.client", message="no node"), line]
    relay = relay_for(RUN, session)
    relay.take(running(b"all\n"))
    relay.finish()
    assert session.api.told == []


def test_what_prefect_could_not_take_is_sent_when_it_is_back_with_the_times_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relaying, "SEND_SECONDS", 0)
    monkeypatch.setattr(relaying, "AWAY_SECONDS", 0)
    session: Any = Session(runs_report=False)
    relay = relay_for(RUN, session)
    session.api.failure = PrefectUnreachable("it is away", hint="wait")
    relay.take(running(b"one\n"))
    session.api.failure = None
    relay.take(running())
    assert session.api.told == ["RUNNING", "one"]
    session.api.failure = PrefectUnreachable("it is away", hint="wait")
    relay.take(running(b"two\n"))
    session.api.failure = None
    relay.take(running(b"three\n"))
    assert session.api.told == ["RUNNING", "one", "two", "three"]
    _, unheard, again, _ = session.api.times
    assert unheard == again


def test_what_prefect_refuses_keeps_nothing_else_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "SEND_SECONDS", 0)
    session: Any = Session(runs_report=False)
    relay = relay_for(RUN, session)
    relay.take(running())
    session.api.failure = PrefectServerError("it is too long", hint="shorten it")
    relay.take(running(b"one\n"))
    session.api.failure = None
    relay.take(running(b"two\n"))
    assert session.api.told == ["RUNNING", "two"]


def test_the_oldest_lines_are_given_up_when_prefect_stays_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relaying, "SEND_SECONDS", 0)
    monkeypatch.setattr(relaying, "AWAY_SECONDS", 0)
    monkeypatch.setattr(relaying, "MAX_WAITING_ENTRIES", 2)
    session: Any = Session(runs_report=False)
    relay = relay_for(RUN, session)
    session.api.failure = PrefectUnreachable("it is away", hint="wait")
    for line in (b"one\n", b"two\n", b"three\n"):
        relay.take(running(line))
    session.api.failure = None
    relay.finish()
    assert session.api.told == ["RUNNING", "two", "three"]


def test_a_run_is_given_its_time_anew_where_the_api_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(relaying, "time", SimpleNamespace(monotonic=lambda: now))
    session: Any = Session()
    relay = relay_for(RUN, session)
    relay.take(running(b"one\n"))
    now, session.api.failure = 10.0, PrefectUnreachable("it is away", hint="wait")
    relay.take(running())
    now, session.api.failure = 11.0, None
    relay.take(running())
    assert relay.is_needed is None
    now = 20.0
    relay.take(running())
    assert session.api.told == ["RUNNING", "one"]
