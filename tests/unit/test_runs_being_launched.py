"""Runs before their launch, and runs whose result is that of another one."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinetic_flows.clients.prefect.labels import (
    CACHED_FROM_LABEL,
    CACHED_KEY_LABEL,
    LAUNCHED_LABEL,
    PREPARING,
    STORE_LABEL,
)
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.job import RUN_KEY_VARIABLE
from kinetic_flows.core.run_keys import masked_key
from kinetic_flows.runs.settle import is_being_launched, is_preparing, ticket_of

KEY, OWN = secrets.token_hex(32), secrets.token_hex(32)


def record(**changes: Any) -> RunRecord:
    made = RunRecord(
        id="1" * 32,
        name="train(rate=0.1)",
        state_type="PENDING",
        state_name="Pending",
        message="",
        created=datetime.now(UTC) - timedelta(hours=1),
        job_variables={"env": {RUN_KEY_VARIABLE: OWN}},
    )
    return replace(made, **changes)


def test_a_key_comes_back_by_the_key_that_masked_it_and_by_no_other() -> None:
    masked = masked_key(KEY, OWN)
    assert KEY not in masked
    assert masked_key(masked, OWN) == KEY
    assert masked_key(masked, secrets.token_hex(32)) != KEY


@pytest.mark.parametrize(
    "text", ["", "ab", KEY + "00", "no key"], ids=["nothing", "short", "long", "no hex"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        masked_key(text, OWN)


def test_a_cached_run_is_followed_with_the_key_of_the_run_it_leads_to() -> None:
    labels = {CACHED_FROM_LABEL: "2" * 32, CACHED_KEY_LABEL: masked_key(KEY, OWN)}
    ticket = ticket_of(record(labels=labels))
    assert (ticket.run_key, ticket.result_run_id) == (KEY, "2" * 32)
    older = ticket_of(record(labels={CACHED_FROM_LABEL: "2" * 32}))
    assert older.run_key == OWN, "older clients gave a cached run the other one's key itself"


def test_a_run_that_is_prepared_for_hours_is_left_to_its_client() -> None:
    assert is_preparing(record(state_name=PREPARING))
    assert is_being_launched(record(state_name=PREPARING))


def test_a_run_is_being_launched_for_minutes_from_its_launch_on_not_from_its_creation() -> None:
    now = datetime.now(UTC)
    just = {STORE_LABEL: "s", LAUNCHED_LABEL: now.isoformat()}
    long_ago = {STORE_LABEL: "s", LAUNCHED_LABEL: (now - timedelta(hours=1)).isoformat()}
    assert is_being_launched(record(state_name=PREPARING, labels=just))
    assert not is_being_launched(record(state_name=PREPARING, labels=long_ago))
    assert not is_being_launched(record(labels={STORE_LABEL: "s"})), "as older clients made it"
    assert is_being_launched(record(created=now, labels={STORE_LABEL: "s"}))
