"""Events that a client tells Prefect of runs, as they are sent, and what keeps them from being."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import prefect_api, reporter
from kinetic_flows.runner_image.runner.calling import Calls, Surroundings
from kinetic_flows.runner_image.runner.endings import state_of

from kinetic_flows.clients.prefect.api import PrefectApi, connect
from kinetic_flows.clients.prefect.events import event_id, tell_event
from kinetic_flows.core.envelope import ResultHeader
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.platforms.gke.diagnosis import Cause
from kinetic_flows.runs import wait_events
from kinetic_flows.runs.settle import EVENT_OF_CAUSE, _sync_with_result, _sync_without_result
from kinetic_flows.runs.wait_events import WaitEvents
from kinetic_flows.runs.worker_runs import NO_WORKER
from prefect_wire import FLOW_ID, PrefectWire, serve

RUN_ID = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e"
RUN = RunTicket(run_id=RUN_ID, name="train", run_key="")
QUEUED = Observation(phase=Phase.PENDING, reason="it waits in queue `gpus`", cause="queue")


@pytest.fixture
def prefect() -> Iterator[PrefectWire]:
    with serve() as wire:
        wire.labels = {"kinetic.function": "train", "kinetic.accelerator": "l4:spot"}
        yield wire


@pytest.fixture
def api(prefect: PrefectWire) -> Iterator[PrefectApi]:
    with connect(prefect.url) as connection:
        yield connection


@pytest.fixture
def waiting(api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> WaitEvents:
    monkeypatch.setattr(wait_events, "LASTING_SECONDS", 0.0)
    session: Any = SimpleNamespace(api=api)
    return WaitEvents(RUN, session)


def names(prefect: PrefectWire) -> list[str]:
    return [event["event"] for event in prefect.events]


def test_an_event_names_its_run_its_flow_and_its_tags(
    api: PrefectApi, prefect: PrefectWire
) -> None:
    tell_event(api, RUN_ID, "built", reason="numpy is new", packages=3)
    [event] = prefect.events
    assert event["id"] == event_id(RUN_ID, "built", "")
    assert event["event"] == "kinetic.run.built"
    assert event["resource"] == {
        "prefect.resource.id": f"prefect.flow-run.{RUN_ID}",
        "prefect.resource.name": "train()",
        "kinetic.function": "train",
        "kinetic.accelerator": "l4:spot",
    }
    assert event["related"] == [
        {
            "prefect.resource.id": f"prefect.flow.{FLOW_ID}",
            "prefect.resource.role": "flow",
            "prefect.resource.name": "train",
        },
        {"prefect.resource.id": "prefect.tag.cpu", "prefect.resource.role": "tag"},
        {"prefect.resource.id": "prefect.tag.kinetic", "prefect.resource.role": "tag"},
    ]
    assert event["payload"] == {"reason": "numpy is new", "packages": 3}


@pytest.mark.parametrize("code", [404, 422])
def test_an_event_that_is_refused_is_nobodys_trouble(
    api: PrefectApi, prefect: PrefectWire, code: int
) -> None:
    for path in ("/api/events/filter", "/api/flow_runs/", "/api/events"):
        prefect.failures = {path: [code]}
        tell_event(api, RUN_ID, "built")
        assert (prefect.events, prefect.failures) == ([], {path: []})


def test_each_cause_of_a_wait_is_told_once(waiting: WaitEvents, prefect: PrefectWire) -> None:
    scaling_up = replace(QUEUED, reason="scaling up", cause="scaling_up")
    for seen in (QUEUED, QUEUED, scaling_up, QUEUED):
        waiting.take(seen, is_relayed=False)
    assert names(prefect) == ["kinetic.run.pending"] * 2
    payloads = [event["payload"] for event in prefect.events]
    assert payloads == [
        {"reason": "it waits in queue `gpus`", "cause": "queue"},
        {"reason": "scaling up", "cause": "scaling_up"},
    ]


def test_of_a_wait_that_passes_nothing_is_asked_or_told(
    waiting: WaitEvents, prefect: PrefectWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting.take(replace(QUEUED, cause=Cause.STARTING), is_relayed=False)
    # A worker that is there takes it soon.
    waiting.take(replace(QUEUED, cause=NO_WORKER), is_relayed=False)
    waiting.take(Observation(phase=Phase.PENDING), is_relayed=True)
    waiting.take(Observation(phase=Phase.RUNNING, cause="queue"), is_relayed=True)
    monkeypatch.setattr(wait_events, "LASTING_SECONDS", 3600.0)
    waiting.take(QUEUED, is_relayed=False)
    assert prefect.requests == []
    monkeypatch.setattr(wait_events, "NO_WORKER_SECONDS", 0.0)
    waiting.take(replace(QUEUED, cause=NO_WORKER), is_relayed=False)
    assert [event["payload"]["cause"] for event in prefect.events] == [NO_WORKER]


def test_a_client_tells_of_preemptions_where_the_run_cannot(
    waiting: WaitEvents, prefect: PrefectWire
) -> None:
    again = Observation(phase=Phase.RUNNING, reason="Google took its Spot VM", restarts=1)
    waiting.take(again, is_relayed=False)
    assert prefect.events == []
    for seen in (again, again, replace(again, restarts=2)):
        waiting.take(seen, is_relayed=True)
    assert names(prefect) == ["kinetic.run.preempted"] * 2
    told = [event["id"] for event in prefect.events]
    assert told == [event_id(RUN_ID, "preempted", number) for number in ("1", "2")]


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (Cause.OUT_OF_MEMORY, ["kinetic.run.oom"]),
        (Cause.PREEMPTED, ["kinetic.run.preempted"]),
        (Cause.NODE_LOST, ["kinetic.run.preempted"]),
        (Cause.DELETED, []),
        (Cause.FAILED, []),
    ],
)
def test_what_a_process_could_not_tell_is_told_when_its_run_is_crashed(
    api: PrefectApi, prefect: PrefectWire, cause: Cause, told: list[str]
) -> None:
    seen = Observation(phase=Phase.FAILED, reason="the pod is gone", cause=cause)
    for _ in range(2):
        _sync_without_result(api, RUN, seen, is_launched=True)
    assert names(prefect) == told
    assert prefect.state_names == ["Crashed"]


def test_every_cause_that_is_told_is_one() -> None:
    assert set(EVENT_OF_CAUSE) <= set(Cause)


def test_want_of_memory_is_told_by_the_runner_and_else_by_whoever_finds_its_result(
    api: PrefectApi, prefect: PrefectWire
) -> None:
    told = reporter.Reporter(
        prefect_api.PrefectApi(prefect.url, RUN_ID, {}), lambda: None, lambda _: None
    )
    job = {"grace_seconds": 1, "retry_delay_seconds": 0, "retries": 0, "hosts": 1}
    around: Any = Surroundings(None, "", {}, {}, None, told, None, None)  # type: ignore[arg-type]
    calls = Calls({**job, "timeout_seconds": None}, {"debug": None}, around)
    calls._kills = -1  # One more was killed since.
    ending = calls._crashed(-9, [])
    header = {"status": "crashed", **ending.fields}
    told.start()
    told.finish(state_of(header))
    assert names(prefect) == ["kinetic.run.oom"]
    paths = [path for method, path, _ in prefect.requests if method == "POST"]
    assert paths == ["/api/events", f"/api/flow_runs/{RUN_ID}/set_state"]
    left = ResultHeader(run_id=RUN_ID, status="crashed", message=ending.fields["message"])
    _sync_with_result(api, RUN_ID, left)
    assert len(prefect.events) == 1, "it is Crashed already, and told"
    prefect.current_type = "RUNNING"
    _sync_with_result(api, RUN_ID, left)
    assert len(prefect.events) == 1, "only the state was missing"
    prefect.current_type = "RUNNING"
    [first] = prefect.events
    prefect.events.clear()
    _sync_with_result(api, RUN_ID, left)
    [second] = prefect.events
    assert (first["id"], first["event"]) == (second["id"], second["event"])
