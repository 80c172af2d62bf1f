"""States that are set from what runs left behind, and which of them end an input of a group."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.envelope import ResultHeader, ResultStatus
from kinetic_flows.runs.group import is_retried
from kinetic_flows.runs.settle import _sync_with_result

ENDED = RunRecord(
    id="run-1",
    name="train",
    state_type="FAILED",
    state_name="Failed",
    message="",
    created=datetime.now(UTC),
)


@dataclass
class Prefect:
    """The API, as far as states are set."""

    states: list[tuple[str, str | None]] = field(default_factory=list)

    def set_state(
        self, _run_id: str, state_type: str, *, name: str | None = None, message: str = ""
    ) -> bool:
        assert message
        self.states.append((state_type, name))
        return True


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("timed_out", ("FAILED", "TimedOut")),
        ("raised", ("FAILED", None)),
        ("crashed", ("CRASHED", None)),
        ("cancelled", ("CANCELLED", None)),
    ],
)
def test_a_state_set_from_a_result_is_the_one_that_the_run_would_have_set(
    status: ResultStatus, state: tuple[str, str | None]
) -> None:
    api: Any = Prefect()
    header = ResultHeader(run_id="run-1", status=status, message="too long")
    _sync_with_result(api, "run-1", header)
    assert api.states == [state]


def test_only_what_failed_is_launched_once_more_and_only_so_often() -> None:
    assert is_retried(ENDED, 1, 1)
    assert is_retried(replace(ENDED, state_type="CRASHED"), 1, 1)
    assert not is_retried(ENDED, 2, 1)
    for state in ("CANCELLED", "COMPLETED", "RUNNING"):
        assert not is_retried(replace(ENDED, state_type=state), 1, 5)
