"""Runs that may cost so much: what is counted, over all starts, and how they end."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from kinetic_flows.runner_image.runner.spending import Spending
from kinetic_flows.runner_image.runner.stores import DirectoryStore

from runner_jobs import RUN_ID, Job, wait

WAITS = """
    import pathlib, time

    def main():
        print("began", flush=True)
        time.sleep(600)
"""
NAME = f"runs/{RUN_ID}/spending.json"


class Clock:
    """Seconds that go on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _spending(root: Path, clock: Clock, *, hourly: float = 36.0, limit: float = 1.0) -> Spending:
    return Spending({"hourly": hourly, "limit": limit}, RUN_ID, DirectoryStore(str(root)), clock)


def test_an_hour_of_all_hosts_is_counted_from_the_first_moment(
    tmp_path: Path, clock: Clock
) -> None:
    spending = _spending(tmp_path, clock)
    assert spending.deadline == 1100.0
    clock.now += 50
    assert (spending.spent, spending.is_over) == (pytest.approx(0.5), False)
    clock.now += 50
    assert (spending.spent, spending.is_over) == (pytest.approx(1.0), True)
    assert "it has cost about $1.00 by the prices that are known" in spending.message
    assert "max_cost is $1.00" in spending.message


def test_a_start_goes_on_counting_where_the_last_one_ended(tmp_path: Path, clock: Clock) -> None:
    first = _spending(tmp_path, clock)
    first.begin(again=False)
    clock.now += 60
    first.end()
    clock.now += 10_000
    second = _spending(tmp_path, clock)
    second.begin(again=True)
    assert second.spent == pytest.approx(0.6)
    assert second.deadline == pytest.approx(clock.now + 40)
    clock.now += 30
    second.end()
    assert json.loads((tmp_path / NAME).read_bytes())["usd"] == pytest.approx(0.9)


def test_a_start_of_its_own_reads_nothing(tmp_path: Path, clock: Clock) -> None:
    left = tmp_path / NAME
    left.parent.mkdir(parents=True)
    left.write_text('{"usd": 5}')
    spending = _spending(tmp_path, clock)
    spending.begin(again=False)
    assert spending.spent == 0.0
    spending.end()


@pytest.mark.parametrize("left", ["", "{", "[]", '{"usd": "x"}', '{"usd": -3}', "null"])
def test_what_is_no_record_counts_nothing(tmp_path: Path, clock: Clock, left: str) -> None:
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_text(left)
    spending = _spending(tmp_path, clock)
    spending.begin(again=True)
    assert spending.spent == 0.0
    spending.end()


def test_what_costs_nothing_never_ends_a_run(tmp_path: Path, clock: Clock) -> None:
    spending = _spending(tmp_path, clock, hourly=0.0)
    clock.now += 1e9
    assert (spending.deadline, spending.is_over) == (None, False)


def test_a_run_that_has_cost_enough_is_ended_as_one_whose_time_is_over(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", WAITS, changes={"cost": {"hourly": 3600.0, "limit": 1.5}})
    ended = job.run()
    header = job.envelope().header
    assert (header.status, ended.exit_code) == ("timed_out", 1)
    assert header.message.startswith("it has cost about $1.5")
    assert header.message.endswith("and max_cost is $1.50")
    assert header.message in ended.output


def test_a_function_that_is_cheap_returns(tmp_path: Path) -> None:
    source = "def main():\n    return 1\n"
    job = Job(tmp_path / "store", source, changes={"cost": {"hourly": 36.0, "limit": 1.0}})
    assert job.run().exit_code == 0
    assert job.value() == 1


def test_what_an_earlier_start_has_cost_counts(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", WAITS, changes={"cost": {"hourly": 3600.0, "limit": 100.0}})
    began = time.monotonic()
    running = job.start()
    while b"began" not in running.stdout.readline():  # type: ignore[union-attr]
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    assert wait(running).exit_code == 143
    told = json.loads((tmp_path / "store" / NAME).read_bytes())["usd"]
    assert 0 < told <= time.monotonic() - began
    (tmp_path / "store" / NAME).write_text('{"usd": 99.9}')
    assert job.again().exit_code == 1
    header = job.envelope().header
    assert (header.status, header.attempt) == ("timed_out", 1)
