"""What is removed of runs that Prefect does not know, nor therefore where their processes are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.object_names import job_object, result_object
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.cleanup import find_expired

RUN = "0f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f"


@dataclass(frozen=True)
class Launcher:
    """What sees the processes of one place."""

    where: str
    phase: Phase

    def place(self) -> str:
        return self.where

    def kept(self) -> dict[str, datetime]:
        return {}

    def observe(self, _run_id: str, _position: int | None) -> Observation:
        return Observation(phase=self.phase)


@dataclass
class Prefect:
    """An API that knows nothing of the run: it is in another one, or its record was deleted."""

    asked: list[Any] = field(default_factory=list)

    def find_runs(self, query: Any, limit: int | None = None) -> list[Any]:
        self.asked.append((query, limit))
        return []


def expired(store: LocalStore, launcher: Launcher | None) -> list[str]:
    platform = SimpleNamespace(
        store=store, launcher=launcher, may_see_processes=launcher is not None
    )
    session: Any = SimpleNamespace(platform=platform, api=Prefect())
    later = datetime.now(UTC) + timedelta(days=60)
    return [each.run_id for each in find_expired(session, older_than=timedelta(days=30), now=later)]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    made = LocalStore(tmp_path)
    made.put_if_absent(job_object(RUN), b"{}")
    return made


@pytest.mark.parametrize("where", ["default", "default/uid"])
def test_that_a_cluster_has_no_job_of_an_unknown_run_here_removes_nothing(store, where):
    """It may be alive in another namespace, whose runs share the bucket."""
    assert expired(store, Launcher(where, Phase.GONE)) == []
    assert expired(store, None) == []


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
def test_an_unknown_run_whose_end_is_seen_is_over(store, phase):
    assert expired(store, Launcher("default/uid", phase)) == [RUN]


def test_on_this_machine_an_unknown_run_without_a_process_is_over(store):
    assert expired(store, Launcher("", Phase.GONE)) == [RUN]
    assert expired(store, Launcher("", Phase.RUNNING)) == []


def test_an_unknown_run_that_has_left_its_result_is_over_wherever_it_was(store):
    store.put_if_absent(result_object(RUN), b"anything")
    assert expired(store, Launcher("default/uid", Phase.GONE)) == [RUN]
    assert expired(store, None) == [RUN]
