"""How long the phases of a run took is read from its flow run."""

from __future__ import annotations

import contextvars
import threading
from datetime import UTC, datetime, timedelta

import pytest

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.clients.prefect.timings import (
    PHASES,
    seconds_labels,
    timings_of,
    without_seconds,
)
from kinetic_flows.flows.step_times import timed, timed_steps

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def run(**fields: object) -> RunRecord:
    told = {"state_type": "COMPLETED", "state_name": "Completed", "message": "", **fields}
    return RunRecord(id="1", name="train()", created=NOW, **told)  # type: ignore[arg-type]


def test_the_phases_of_a_run_are_told_in_their_order() -> None:
    labels = seconds_labels({"run": 1.0, "install": 30, "plan": 0.25, "fetch": 2.0, "build": 90.0})
    labels.pop("kinetic.seconds.run")
    record = run(
        labels={**labels, "kinetic.function": "train"},
        started=NOW + timedelta(seconds=5),
        ended=NOW + timedelta(seconds=65),
    )
    assert timings_of(record) == {
        "plan": 0.25,
        "build": 90.0,
        "wait": 5.0,
        "fetch": 2.0,
        "install": 30.0,
        "run": 28.0,
    }
    assert list(timings_of(record)) == [phase for phase in PHASES if phase in timings_of(record)]
    assert without_seconds(record.labels) == {"kinetic.function": "train"}


def test_a_scheduled_run_waits_from_when_it_was_to_begin() -> None:
    begun = NOW + timedelta(hours=24)
    record = run(expected=begun, started=begun + timedelta(seconds=3), ended=None)
    assert timings_of(record) == {"wait": 3.0}


def test_a_run_waits_from_its_launch_and_not_while_it_is_prepared() -> None:
    launched = NOW + timedelta(seconds=90)
    record = run(
        labels={"kinetic.launched": launched.isoformat()}, started=launched + timedelta(seconds=4)
    )
    assert timings_of(record) == {"wait": 4.0}


def test_a_run_of_an_earlier_client_or_one_that_waits_has_what_is_known() -> None:
    assert timings_of(run()) == {}
    assert timings_of(run(labels={"kinetic.seconds.build": "soon"})) == {}


def test_steps_are_timed_by_their_phases_in_threads_too() -> None:
    def upload(release: threading.Event) -> None:
        with timed("upload-code"):
            release.wait(10)

    with timed_steps() as times:
        with timed("lock-dependencies"), timed("await-run"):
            pass
        locked = times["lock"]
        with timed("resolve-image"):
            pass
        release = threading.Event()
        thread = threading.Thread(target=contextvars.copy_context().run, args=(upload, release))
        thread.start()
        release.set()
        thread.join()
        with pytest.raises(ValueError, match="no"), timed("build-image"):
            raise ValueError("no")
    assert times.keys() == {"lock", "upload"}
    assert times["lock"] >= locked
    with timed("build-image"):
        pass
    assert "build" not in times
