"""Following a namespace: what a watch may do, and what is made of it."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.clients.kubernetes.client import (
    KubernetesRefused,
    KubernetesUnreachable,
    StreamBroken,
)
from kinetic_flows.clients.kubernetes.watch import Follower
from kinetic_flows.core.launcher import Phase
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL
from kinetic_flows.platforms.gke.phase import evaluate
from kinetic_flows.platforms.gke.state import KindSink, NamespaceState, RunView

RUN = "11111111-2222-4333-8444-555555555555"


def job(version: int = 1, uid: str = "j1", **status: Any) -> dict[str, Any]:
    metadata = {
        "name": f"train-{RUN}",
        "uid": uid,
        "labels": {RUN_ID_POD_LABEL: RUN},
        "resourceVersion": str(version),
    }
    return {"metadata": metadata, "spec": {"backoffLimit": 3}, "status": status}


def pod(uid: str = "p1", version: int = 1, phase: str = "Running") -> dict[str, Any]:
    metadata = {
        "name": f"train-{RUN}-{uid}",
        "uid": uid,
        "labels": {RUN_ID_POD_LABEL: RUN},
        "resourceVersion": str(version),
    }
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "prefect-job", "env": ["bulk"]}]},
        "status": {"phase": phase},
    }


def change(kind: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


@dataclass
class ScriptedCluster:
    """Stands in for a client: answers lists and watches from a script, then wants no more.

    Args:
        lists: What each list answers: objects, or an error.
        watches: What each watch answers: chunks, ended by an error where one stands.
    """

    lists: list[Any]
    watches: list[Any]
    queries: list[dict[str, Any]] = field(default_factory=list)

    def wanted(self) -> bool:
        return bool(self.lists or self.watches)

    async def ask_within(self, method: str, path: str, *, query: Any) -> dict[str, Any]:
        found = self.lists.pop(0)
        if isinstance(found, Exception):
            raise found
        return {"metadata": {"resourceVersion": "10"}, "items": found}

    @asynccontextmanager
    async def open_stream(
        self, path: str, query: dict[str, Any], *, silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.queries.append(query)
        script = self.watches.pop(0)
        if isinstance(script, Exception):
            raise script
        yield self._play(script)

    async def _play(self, script: list[Any]) -> AsyncIterator[bytes]:
        for each in script:
            if isinstance(each, Exception):
                raise each
            yield each


def follow(cluster: ScriptedCluster, kind: str = "jobs") -> NamespaceState:
    state = NamespaceState()
    client: Any = cluster
    follower = Follower(
        client=client,
        path="/jobs",
        selector=RUN_ID_POD_LABEL,
        sink=KindSink(state=state, kind=kind),
        wanted=cluster.wanted,
    )
    asyncio.run(follower.follow())
    return state


def test_a_change_cut_in_two_by_the_network_is_put_together():
    line = change("ADDED", job(12))
    cluster = ScriptedCluster(lists=[[]], watches=[[line[:7], line[7:]]])
    assert follow(cluster).view(RUN).job is not None


def test_a_watch_that_breaks_off_goes_on_where_it_was_without_a_new_list():
    cluster = ScriptedCluster(
        lists=[[job(5)]],
        watches=[[change("MODIFIED", job(12)), StreamBroken("reset")], [], []],
    )
    follow(cluster)
    assert [query["resourceVersion"] for query in cluster.queries] == ["10", "12", "12"]


def test_a_bookmark_moves_the_place_to_go_on_from():
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}}
    cluster = ScriptedCluster(lists=[[]], watches=[[json.dumps(bookmark).encode() + b"\n"], []])
    follow(cluster)
    assert [query["resourceVersion"] for query in cluster.queries] == ["10", "77"]


def test_an_expired_version_is_listed_anew_and_what_is_gone_is_forgotten():
    expired = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
    cluster = ScriptedCluster(
        lists=[[job(5)], []], watches=[[json.dumps(expired).encode() + b"\n"], []]
    )
    assert follow(cluster).view(RUN).job is None


def test_a_watch_refused_with_410_is_listed_anew():
    cluster = ScriptedCluster(
        lists=[[job(5)], [job(6)]], watches=[KubernetesRefused(410, "{}", "GET /jobs"), []]
    )
    assert follow(cluster).view(RUN).job is not None
    assert len(cluster.queries) == 2


def test_a_cluster_out_of_reach_leaves_what_was_known_and_says_so():
    cluster = ScriptedCluster(lists=[[job(5)]], watches=[KubernetesUnreachable("no route")])
    state = follow(cluster)
    assert state.view(RUN).job is not None
    trouble = state.trouble(("jobs",))
    assert trouble is not None
    assert trouble.message == "no route"


def test_trouble_is_over_with_the_next_answer():
    cluster = ScriptedCluster(lists=[KubernetesUnreachable("no route"), [job(5)]], watches=[[]])
    assert follow(cluster).trouble(("jobs",)) is None


def test_trouble_is_over_when_a_watch_opens_again_though_nothing_happens_in_it():
    cluster = ScriptedCluster(lists=[[job(5)]], watches=[KubernetesUnreachable("no route"), []])
    assert follow(cluster).trouble(("jobs",)) is None


def test_a_deleted_job_is_gone_and_its_last_pods_with_it():
    state = NamespaceState()
    state.put("jobs", job())
    state.put("pods", pod())
    state.remove("pods", pod(phase="Failed"))
    assert state.view(RUN).departed[0]["status"]["phase"] == "Failed"
    state.remove("jobs", job())
    assert state.view(RUN).departed == ()
    assert evaluate(state.view(RUN)).phase is Phase.GONE


def test_a_job_just_made_survives_a_list_that_began_before_it():
    state = NamespaceState()
    began = time.monotonic()
    state.made(job(20))
    state.replace("jobs", [], began)
    assert state.view(RUN).job is not None
    state.replace("jobs", [], time.monotonic() + 1)
    assert state.view(RUN).job is None


def test_the_answer_to_a_creation_does_not_hide_what_the_watch_told_since():
    state = NamespaceState()
    state.put("jobs", job(21, active=1))
    state.made(job(20))
    assert state.view(RUN).job == {**job(21, active=1)}


def test_another_job_of_the_same_run_takes_the_first_ones_place():
    state = NamespaceState()
    state.put("jobs", job(30, uid="old"))
    state.put("jobs", job(4, uid="new"))
    state.remove("jobs", job(31, uid="old"))
    assert (state.view(RUN).job or {})["metadata"]["uid"] == "new"


def test_what_nobody_reads_of_an_object_is_not_kept():
    state = NamespaceState()
    state.put("pods", pod())
    assert "bulk" not in json.dumps(state.view(RUN).pods)


def ended_job(version: int) -> dict[str, Any]:
    return job(version, conditions=[{"type": "Complete", "status": "True"}])


def test_a_run_that_has_ended_is_known_as_before_and_takes_a_fraction_of_the_room():
    def kilobytes_for_each(*, ended: bool) -> float:
        state = NamespaceState()
        tracemalloc.start()
        for number in range(200):
            # As they come from the network: nothing in one is shared with another.
            run = f"11111111-2222-4333-8444-{number:012}"
            told = [pod(phase="Succeeded"), ended_job(2) if ended else job(2, active=1)]
            texts = [json.dumps(item).replace(RUN, run) for item in told]
            state.put("pods", json.loads(texts[0]))
            state.put("jobs", json.loads(texts[1]))
        taken = tracemalloc.get_traced_memory()[0] / 200 / 1000
        tracemalloc.stop()
        assert evaluate(state.view(run)).phase is (Phase.SUCCEEDED if ended else Phase.RUNNING)
        return taken

    assert kilobytes_for_each(ended=True) < kilobytes_for_each(ended=False) / 3


def test_a_run_that_has_ended_still_takes_in_what_happens_to_it():
    state = NamespaceState()
    state.put("jobs", ended_job(2))
    state.put("pods", pod(phase="Failed"))
    state.remove("pods", pod(phase="Failed"))
    assert len(state.view(RUN).departed) == 1
    state.replace("jobs", [ended_job(3)], time.monotonic() + 1)
    assert evaluate(state.view(RUN)).phase is Phase.SUCCEEDED
    state.replace("jobs", [], time.monotonic() + 1)
    assert state.view(RUN) == RunView()


def test_events_are_kept_for_the_run_whose_pod_they_name_and_not_without_bound():
    state = NamespaceState()
    for number in range(100):
        about = {"name": f"train-{RUN}-abcde"}
        event = {"metadata": {"uid": str(number)}, "involvedObject": about, "reason": str(number)}
        state.put("events", event)
    state.put("events", {"metadata": {"uid": "x"}, "involvedObject": {"name": "other"}})
    reasons = [event["reason"] for event in state.view(RUN).events]
    assert reasons == [str(number) for number in range(60, 100)]
