"""What a handle keeps between its questions, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

import kinetic
from kinetic_flows.api.run import _remember_state
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.job import RunTicket
from kinetic_flows.runs.settle import synced_record

ENDED = RunRecord(
    id="run-1",
    name="train",
    state_type="CRASHED",
    state_name="Crashed",
    message="out of memory",
    created=datetime.now(UTC),
)
GUESSED = replace(ENDED, message="No active or succeeded pods found for any job")
TICKET = RunTicket(run_id="run-1", name="train", run_key="00" * 32)


class Asked(Exception):
    """Somebody asked the platform."""


class Platform:
    """Somewhere to run that tells when it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise Asked(name)


def remembered(record: RunRecord) -> str:
    run: kinetic.Run[Any] = kinetic.Run(ticket=TICKET, url="")
    _remember_state(run, record)
    return run._final_state


def test_a_state_that_stays_is_remembered() -> None:
    assert remembered(ENDED) == "Crashed"
    assert remembered(replace(ENDED, state_type="RUNNING", state_name="Running")) == ""


def test_a_workers_guess_is_not_remembered_nor_what_a_person_may_run_again() -> None:
    assert GUESSED.is_guessed
    assert remembered(GUESSED) == ""
    assert remembered(replace(ENDED, deployment_id="d")) == ""


def test_a_workers_guess_is_compared_with_what_happened() -> None:
    platform: Any = Platform()
    api: Any = None
    assert synced_record(ENDED, TICKET, platform, api) is ENDED
    with pytest.raises(Asked):
        synced_record(GUESSED, TICKET, platform, api)
