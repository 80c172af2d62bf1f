"""What is free on node pools, who waits for them, and what a run would find there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinetic_flows.cli.pool_rooms import print_rooms
from kinetic_flows.core.accelerators import NodePool, parse_accelerator
from kinetic_flows.core.pool_rooms import FailedScaleUp, PoolRoom, WaitingRun
from kinetic_flows.platforms.gke.pool_rooms import ClusterObjects, rooms_of

V6E = parse_accelerator("tpu-v6e-8")
SLICE = parse_accelerator("tpu-v6e-4x4")
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
RUN, OTHER = "0f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f", "1f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f"
STOCKOUT = (
    "Node scale up in zones us-central1-a associated with this pod failed: GCE out of resources. "
    "Pod is at risk of not being scheduled."
)


def tpu_pool(name: str = "v6e", **fields: Any) -> NodePool:
    return NodePool(name=name, accelerator=V6E.label, count_per_host=8, topology="2x4", **fields)


def node(name: str, pool: str = "v6e", **allocatable: str) -> dict[str, Any]:
    amounts = allocatable or {"google.com/tpu": "8"}
    labels = {**V6E.node_selector, "cloud.google.com/gke-nodepool": pool}
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": amounts}}


def pod(
    node_name: str | None = None,
    *,
    run: str | None = None,
    uid: str = "u",
    accelerator: str = "tpu-v6e-8",
    created: str = "2026-05-01T11:00:00Z",
    **more: str,
) -> dict[str, Any]:
    row = parse_accelerator(accelerator)
    container = {"resources": {"requests": {**row.resources, **more}, "limits": row.resources}}
    owner = [{"kind": "Job", "name": f"train-{run}"}] if run else []
    return {
        "metadata": {
            "name": "p",
            "uid": uid,
            "labels": {"prefect.io/flow-run-id": run} if run else {},
            "ownerReferences": owner,
            "creationTimestamp": created,
        },
        "spec": {
            "containers": [container],
            "nodeSelector": row.node_selector,
            **({"nodeName": node_name} if node_name else {}),
        },
    }


def event(reason: str, message: str, uid: str = "u", at: str = "2026-05-01T11:48:00Z"):
    return {
        "reason": reason,
        "message": message,
        "involvedObject": {"uid": uid},
        "lastTimestamp": at,
    }


def test_chips_that_no_pod_asks_for_are_free():
    pods = [pod("a"), pod(), pod("gone")]
    shown = ClusterObjects(nodes=[node("a"), node("b")], pods=pods)
    full, empty = rooms_of([NodePool(name="zero"), tpu_pool()], shown)
    assert [str(full), str(empty)] == ["v6e: 2 nodes, 8 of 16 chips free", "zero: no node now"]
    assert (full.used_chips, full.runs_that_fit(V6E)) == (8, 1)


def test_what_may_not_be_listed_is_not_known():
    (unseen,) = rooms_of([tpu_pool()], ClusterObjects(nodes=[node("a"), node("b")]))
    assert str(unseen) == "v6e: 2 nodes, 16 chips"
    assert (unseen.used_chips, unseen.waiting, unseen.runs_that_fit(V6E)) == (None, None, None)
    (unlisted,) = rooms_of([tpu_pool()], ClusterObjects())
    assert unlisted.outlook(V6E, NOW) == "v6e: its nodes may not be listed"


def test_a_slice_needs_nodes_that_are_free_as_a_whole():
    pool = NodePool(name="big", accelerator=V6E.label, count_per_host=4, topology="4x4")
    nodes = [node(name, "big", **{"google.com/tpu": "4"}) for name in "abcd"]
    (free,) = rooms_of([pool], ClusterObjects(nodes=nodes, pods=[]))
    assert free.runs_that_fit(SLICE) == 1
    taken = pod("b", accelerator="tpu-v6e-4x4")
    (three,) = rooms_of([pool], ClusterObjects(nodes=nodes, pods=[taken]))
    assert three.runs_that_fit(SLICE) == 0
    assert three.outlook(SLICE, NOW) == (
        "big: 4 nodes, 12 of 16 chips free now; the run would wait for others to end"
    )


def test_cpus_are_free_where_there_are_no_chips():
    nodes = [node("a", "cpus", cpu="3920m", memory="13Gi")]
    nodes[0]["metadata"]["labels"] = {"cloud.google.com/gke-nodepool": "cpus"}
    busy = pod("a", accelerator="cpu", cpu="500m")
    (room,) = rooms_of([NodePool(name="cpus")], ClusterObjects(nodes=nodes, pods=[busy]))
    assert room.outlook(parse_accelerator("cpu"), NOW) == ("cpus: 1 node, 3.4 of 3.9 CPUs free now")


def test_runs_that_have_no_node_wait_and_one_that_has_some_does_not():
    waits, goes = pod(run=RUN), [pod("a", run=OTHER), pod(run=OTHER)]
    other_kind = pod(run=OTHER, accelerator="h100x8")
    shown = ClusterObjects(nodes=[node("a")], pods=[waits, *goes, other_kind, pod()])
    (room,) = rooms_of([tpu_pool()], shown)
    assert room.waiting == (
        WaitingRun(run_id=RUN, name="train", since=datetime(2026, 5, 1, 11, tzinfo=UTC)),
    )
    assert str(room.waiting[0]) == "train (0f0e6d3a)"


def test_what_a_queue_holds_back_waits_too():
    template = {"spec": pod()["spec"]}
    job = {
        "metadata": {
            "name": f"eval-{RUN}-r0c1",
            "labels": {"prefect.io/flow-run-id": RUN},
            "creationTimestamp": "2026-05-01T11:00:00Z",
        },
        "spec": {"suspend": True, "template": template},
    }
    admitted = {**job, "spec": {"template": template}}
    shown = ClusterObjects(nodes=[], pods=[], jobs=[job, admitted])
    (room,) = rooms_of([tpu_pool()], shown)
    assert [str(each) for each in room.waiting or ()] == ["eval (0f0e6d3a)"]


def test_a_run_without_chips_waits_for_nodes_without_them():
    shown = ClusterObjects(nodes=[], pods=[pod(run=RUN, accelerator="cpu")])
    cpus, tpus = rooms_of([NodePool(name="cpus"), tpu_pool()], shown)
    assert ([each.run_id for each in cpus.waiting or ()], tpus.waiting) == ([RUN], ())


def test_the_last_failure_to_add_a_node_is_the_pools_whose_pod_it_was_about():
    failed = [
        event("FailedScaleUp", "quota", at="2026-05-01T10:00:00Z"),
        event("FailedScaleUp", STOCKOUT),
        event("FailedScaleUp", "quota", uid="another pod's", at="2026-05-01T11:59:00Z"),
    ]
    shown = ClusterObjects(nodes=[], pods=[pod(run=RUN)], events=failed)
    cpus, tpus = rooms_of([NodePool(name="cpus"), tpu_pool()], shown)
    assert cpus.failure is None
    assert tpus.failure is not None
    assert tpus.failure.told(NOW) == (
        "the autoscaler cannot add a node: the zone has none to give at the moment (12m ago)"
    )


@pytest.mark.parametrize(
    "group",
    [
        "pod triggered scale-up: [{v6e 0->1 (max: 4)}]",
        (
            "pod triggered scale-up: [{https://www.googleapis.com/compute/v1/projects/p/zones/z/"
            "instanceGroups/gke-training-v6e-1a2b3c4d-grp 0->1 (max: 4)}]"
        ),
    ],
)
def test_a_failure_of_a_pod_that_is_gone_is_the_pools_that_was_tried(group: str):
    said = [event("TriggeredScaleUp", group), event("FailedScaleUp", STOCKOUT)]
    shown = ClusterObjects(nodes=[], pods=[], events=said)
    other, tried = rooms_of([tpu_pool("training"), tpu_pool()], shown)
    assert other.failure is None
    assert tried.failure is not None


def room(nodes: int, free: tuple[int, ...] = (), **fields: Any) -> PoolRoom:
    bounds = {name: fields.pop(name) for name in ("least", "most") if name in fields}
    return PoolRoom(
        pool=tpu_pool(**bounds),
        nodes=nodes,
        chips=8 * nodes,
        free_chips=sum(free),
        free_by_node=free,
        **fields,
    )


WAITS = (WaitingRun(run_id=RUN, name="train"), WaitingRun(run_id=OTHER, name="eval"))
FAILED = FailedScaleUp(message="the zone has none", at=NOW - timedelta(minutes=12))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (room(2, (8, 0), most=4), "v6e: 2 nodes, 8 of 16 chips free now"),
        (
            room(1, (0,), least=0, most=4),
            "v6e: 1 node, 0 of 8 chips free now; the autoscaler would add a node (at most 4)",
        ),
        (
            room(0, least=0, most=4, failure=FAILED),
            (
                "v6e: no node now; the autoscaler would add a node (at most 4); the zone has none "
                "(12m ago)"
            ),
        ),
        (
            room(1, (0,), least=0, most=1, waiting=WAITS),
            (
                "v6e: 1 node, 0 of 8 chips free now; it is at its maximum of 1 node; 2 runs wait "
                "before it"
            ),
        ),
        (
            room(1, (0,), waiting=WAITS[:1]),
            (
                "v6e: 1 node, 0 of 8 chips free now; the run would wait for others to end; "
                "1 run waits before it"
            ),
        ),
        (room(1, (8,), failure=FAILED), "v6e: 1 node, 8 of 8 chips free now"),
    ],
)
def test_a_plan_says_what_a_run_would_find(found: PoolRoom, told: str):
    assert found.outlook(V6E, NOW) == told


def test_a_slice_gets_all_of_its_nodes():
    pool = NodePool(
        name="big", accelerator=V6E.label, count_per_host=4, topology="4x4", least=0, most=4
    )
    found = PoolRoom(pool=pool, nodes=0, free_chips=0)
    assert found.outlook(SLICE, NOW) == (
        "big: no node now; the autoscaler would add 4 nodes (at most 4)"
    )


@pytest.mark.parametrize(
    ("hosts", "told"),
    [
        (2, "the autoscaler would add a node (at most 4)"),
        (4, "the autoscaler would add 2 nodes (at most 4), and the run lacks 3"),
    ],
)
def test_nodes_that_are_free_need_not_be_added(hosts: int, told: str):
    gpus = parse_accelerator("l4").times(hosts=hosts)
    pool = NodePool(name="l4", accelerator=gpus.label, count_per_host=1, most=4)
    found = PoolRoom(pool=pool, nodes=2, chips=2, free_chips=1, free_by_node=(1, 0))
    assert found.outlook(gpus, NOW) == f"l4: 2 nodes, 1 of 2 chips free now; {told}"


def test_each_of_several_slices_is_on_a_node_pool_of_its_own():
    pool = NodePool(
        name="big", accelerator=V6E.label, count_per_host=4, topology="4x4", least=0, most=4
    )
    found = PoolRoom(pool=pool, nodes=4, chips=16, free_chips=16, free_by_node=(4,) * 4)
    assert found.outlook(SLICE.times(slices=2), NOW) == "big: 4 nodes, 16 of 16 chips free now"


def test_machines_read_all_of_it():
    told = room(1, (0,), least=0, most=4, waiting=WAITS, failure=FAILED).to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["last_failure"] == {
        "message": "the zone has none",
        "at": "2026-05-01T11:48:00+00:00",
    }
    names = ("nodes", "min_nodes", "max_nodes", "chips", "used_chips", "free_chips", "waiting")
    assert [told[name] for name in names] == [1, 0, 4, 8, 8, 0, [RUN, OTHER]]


def test_people_read_a_line_for_each_pool_and_what_holds_it_up(capsys):
    spot = PoolRoom(
        pool=tpu_pool("v6e-spot", spot=True, machine_type="ct6e-standard-8t", least=0, most=2),
        nodes=0,
        free_chips=0,
        waiting=(*WAITS, *WAITS),
        failure=FailedScaleUp(message="the zone has none"),
    )
    print_rooms([room(2, (8, 0), waiting=()), spot])
    shown = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()] for line in shown] == [
        [
            *("node pool", "accelerator", "machine type", "nodes", "autoscaled", "free now"),
            *("in use", "waiting", "how"),
        ],
        ["v6e", "tpu-v6e-8", "2", "8 of 16 chips", "8 chips"],
        ["v6e-spot", "tpu-v6e-8", "ct6e-standard-8t", "0", "0 to 2", "4 runs", "spot"],
        [],
        ["4 runs wait for v6e-spot: train (0f0e6d3a), eval (1f0e6d3a), train (0f0e6d3a), 1 more"],
        ["v6e-spot: the zone has none"],
    ]


def test_nothing_is_said_of_no_pools(capsys):
    print_rooms([])
    assert capsys.readouterr().out == "the cluster has no node pool for any of them\n"
