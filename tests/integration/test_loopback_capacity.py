"""The loopback Kubernetes has node pools as GKE has them: what they give, refuse and take back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.platforms.gke.waiting import explain_waiting
from loopback.kubernetes.autoscaler import QUOTA
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.gke import CONSUMES, CONSUMES_OF_CLASS
from loopback.kubernetes.idle import IdleRuntime
from loopback.kubernetes.node_groups import NodeGroup, Reservation, node_group

Result = TypeVar("Result")
POOL, ZONE = "cloud.google.com/gke-nodepool", "topology.kubernetes.io/zone"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path, runtime=IdleRuntime()) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        yield running


def ask(cluster: LoopbackCluster, act: Callable[[client.ApiClient], Awaitable[Result]]) -> Result:
    async def asked() -> Result:
        settings = client.Configuration()
        await config.load_kube_config(str(cluster.kubeconfig()), client_configuration=settings)
        async with client.ApiClient(settings) as api:
            return await act(api)

    return asyncio.run(asked())


def a_job(accelerator: str, name: str = "train", **pod: Any) -> dict[str, Any]:
    row = parse_accelerator(accelerator)
    annotations = pod.pop("annotations", {})
    spec = pod.pop("job", {})
    container = {"name": "main", "image": "r/i@sha256:1", "resources": {}}
    if row.resources:
        container["resources"] = {"limits": row.resources, "requests": row.resources}
    return {
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "completions": row.hosts,
            "parallelism": row.hosts,
            **spec,
            "template": {
                "metadata": {"annotations": annotations, "labels": {"run": name}},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [container],
                    **pod,
                    "nodeSelector": {**row.node_selector, **pod.get("nodeSelector", {})},
                },
            },
        },
    }


def create(cluster: LoopbackCluster, *jobs: dict[str, Any]) -> None:
    async def post(api: client.ApiClient) -> None:
        for job in jobs:
            await client.BatchV1Api(api).create_namespaced_job("default", job)

    ask(cluster, post)


def event(cluster: LoopbackCluster, reason: str, words: str = "") -> str:
    """Wait for an event, and return what it says."""
    found = cluster.wait_for(
        "events", lambda item: item["reason"] == reason and words in item["message"]
    )
    return str(found["message"])


def running(cluster: LoopbackCluster, count: int = 1) -> set[str]:
    """Wait until so many pods run, and return the node pools that they run on."""
    cluster.wait_for("pods", lambda _: len(started(cluster)) == count)
    nodes = {node["metadata"]["name"]: node["metadata"]["labels"] for node in nodes_of(cluster)}
    return {nodes[pod["spec"]["nodeName"]][POOL] for pod in started(cluster)}


def started(cluster: LoopbackCluster) -> list[dict[str, Any]]:
    pods = cluster.store.list("pods")
    return [pod for pod in pods if pod["status"].get("phase") == "Running"]


def nodes_of(cluster: LoopbackCluster, pool: str = "") -> list[dict[str, Any]]:
    nodes = cluster.list("nodes")
    return [node for node in nodes if pool in ("", node["metadata"]["labels"][POOL])]


def why(cluster: LoopbackCluster) -> str:
    """Return what the product makes of what the cluster says of the only Job."""
    (job,) = cluster.list("jobs")
    return str(explain_waiting(job, cluster.list("pods"), cluster.list("events")))


def test_a_stock_out_is_told_once_it_is_met_and_ends_with_more_stock(cluster):
    cluster.add_nodes(node_group("tpu-v6e-8", "v6e"))
    cluster.capacity.stock_out("v6e")
    create(cluster, a_job("tpu-v6e-8"))
    assert event(cluster, "FailedScaleUp") == (
        "Node scale up in zones us-central1-a associated with this pod failed: "
        "GCE out of resources. Pod is at risk of not being scheduled."
    )
    assert "in backoff after failed scale-up" in event(cluster, "NotTriggerScaleUp")
    assert "the zone has none to give at the moment" in why(cluster)
    cluster.capacity.restock("v6e")
    assert running(cluster) == {"v6e"}


def test_a_try_that_fails_again_is_told_again(cluster):
    cluster.add_nodes(node_group("l4", "l4"))
    cluster.capacity.fail("l4", QUOTA)
    create(cluster, a_job("l4"))
    event(cluster, "NotTriggerScaleUp")
    cluster.capacity.retry("l4")
    cluster.wait_for("events", lambda _: said(cluster).count("FailedScaleUp") == 2)
    assert "quota is used up" in why(cluster)


def said(cluster: LoopbackCluster) -> list[str]:
    return [each["reason"] for each in cluster.store.list("events")]


def test_one_zone_without_stock_leaves_the_others(cluster):
    cluster.add_nodes(node_group("l4", "l4", zones=("us-central1-a", "us-central1-b")))
    cluster.capacity.stock_out("l4", "us-central1-a")
    create(cluster, a_job("l4"))
    assert running(cluster) == {"l4"}
    (node,) = nodes_of(cluster, "l4")
    assert node["metadata"]["labels"][ZONE] == "us-central1-b"


def test_a_pod_that_wants_a_zone_without_stock_waits(cluster):
    cluster.add_nodes(node_group("l4", "l4", zones=("us-central1-a", "us-central1-b")))
    cluster.capacity.stock_out("l4", "us-central1-a")
    create(cluster, a_job("l4", nodeSelector={ZONE: "us-central1-a"}))
    assert "us-central1-a" in event(cluster, "FailedScaleUp")


def test_flex_start_waits_until_it_is_given_nodes(cluster):
    cluster.add_nodes(node_group("l4:flex", "flex"))
    create(cluster, a_job("l4:flex"))
    assert event(cluster, "TriggeredScaleUp") == "pod triggered scale-up: [{flex 0->1 (max: 1)}]"
    assert cluster.capacity.waiting("flex") == 1
    cluster.capacity.give("flex")
    assert running(cluster) == {"flex"}


def test_what_is_waited_for_may_turn_out_not_to_be_had(cluster):
    cluster.add_nodes(node_group("l4:flex", "flex"))
    create(cluster, a_job("l4:flex"))
    event(cluster, "TriggeredScaleUp")
    cluster.capacity.stock_out("flex")
    event(cluster, "FailedScaleUp")
    assert cluster.capacity.waiting("flex") == 0


def test_nodes_are_no_longer_asked_for_when_nobody_waits_for_them(cluster):
    cluster.add_nodes(node_group("l4:flex", "flex"))
    create(cluster, a_job("l4:flex"))
    event(cluster, "TriggeredScaleUp")
    cluster.remove("jobs", "train")
    (pod,) = cluster.list("pods")
    cluster.remove("pods", pod["metadata"]["name"])
    assert cluster.capacity.waiting("flex") == 0


def test_nodes_are_given_one_by_one(cluster):
    cluster.add_nodes(node_group("l4:flex", "flex", max_nodes=2))
    create(cluster, a_job("l4:flex", job={"completions": 2, "parallelism": 2}))
    event(cluster, "TriggeredScaleUp", "1->2")
    cluster.capacity.give("flex", nodes=1)
    assert running(cluster) == {"flex"}
    assert cluster.capacity.waiting("flex") == 1
    cluster.capacity.give("flex", nodes=1)
    assert running(cluster, 2) == {"flex"}


def test_a_slice_comes_in_one_piece(cluster):
    cluster.add_nodes(node_group("v5p-2x2x2", "slice"))
    create(cluster, a_job("v5p-2x2x2"))
    assert "0->2" in event(cluster, "TriggeredScaleUp")
    assert running(cluster, 2) == {"slice"}
    assert len(nodes_of(cluster, "slice")) == 2
    assert said(cluster).count("TriggeredScaleUp") == 1


def test_spot_vms_are_taken_away_with_what_runs_on_them(cluster):
    cluster.add_nodes(node_group("l4:spot", "spots"))
    create(cluster, a_job("l4:spot"))
    running(cluster)
    cluster.capacity.take_away("spots")
    cluster.wait_for("jobs", lambda job: "Failed" in json.dumps(job["status"]))
    assert nodes_of(cluster, "spots") == []


def test_a_reservation_is_used_up(cluster):
    cluster.add_nodes(node_group("l4", "kept", reservation="mine", max_nodes=5))
    create(cluster, a_job("l4"))
    assert "Reservation not found" in event(cluster, "FailedScaleUp")
    cluster.capacity.reserve(Reservation(name="mine", count=2, in_use=2))
    cluster.capacity.retry("kept")
    assert "Reservation capacity exceeded" in event(cluster, "FailedScaleUp", "exceeded")
    cluster.capacity.reserve(Reservation(name="mine", count=2, in_use=1))
    cluster.capacity.retry("kept")
    assert running(cluster) == {"kept"}
    (node,) = nodes_of(cluster, "kept")
    assert node["metadata"]["labels"]["cloud.google.com/reservation-name"] == "mine"


def test_a_compute_class_is_for_those_who_select_it(cluster):
    cluster.add_nodes(node_group("l4", "class", compute_class="gpus"))
    create(cluster, a_job("l4"))
    assert "compute-class: gpus" in event(cluster, "NotTriggerScaleUp")
    selector = {"cloud.google.com/compute-class": "gpus"}
    create(cluster, a_job("l4", "chosen", nodeSelector=selector))
    assert running(cluster) == {"class"}


def test_pods_of_a_slice_keep_together_and_apart_from_others(cluster):
    for pool in ("one", "two"):
        cluster.add_nodes(node_group("v5p-2x2x2", pool))

    def alone(name: str) -> dict[str, Any]:
        term = {"topologyKey": POOL, "labelSelector": {"matchLabels": {"run": name}}}
        others = {"key": "run", "operator": "NotIn", "values": [name]}
        apart = {"topologyKey": POOL, "labelSelector": {"matchExpressions": [others]}}
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        return {"podAffinity": {required: [term]}, "podAntiAffinity": {required: [apart]}}

    create(cluster, *(a_job("v5p-2x2x2", name, affinity=alone(name)) for name in ("a", "b")))
    assert running(cluster, 4) == {"one", "two"}
    pools: dict[str, set[str]] = {"a": set(), "b": set()}
    named = {node["metadata"]["name"]: node["metadata"]["labels"] for node in nodes_of(cluster)}
    for pod in started(cluster):
        pools[pod["metadata"]["labels"]["run"]].add(named[pod["spec"]["nodeName"]][POOL])
    assert sorted(map(sorted, pools.values())) == [["one"], ["two"]]


def provisioning_request(cluster: LoopbackCluster, accelerator: str, count: int) -> None:
    template = {"metadata": {"name": "two"}, "template": a_job(accelerator)["spec"]["template"]}
    request = {
        "apiVersion": "autoscaling.x-k8s.io/v1",
        "kind": "ProvisioningRequest",
        "metadata": {"name": "two"},
        "spec": {
            "provisioningClassName": "queued-provisioning.gke.io",
            "podSets": [{"count": count, "podTemplateRef": {"name": "two"}}],
        },
    }

    async def post(api: client.ApiClient) -> None:
        await client.CoreV1Api(api).create_namespaced_pod_template("default", template)
        custom = client.CustomObjectsApi(api)
        await custom.create_namespaced_custom_object(
            "autoscaling.x-k8s.io", "v1", "default", "provisioningrequests", request
        )

    ask(cluster, post)


def condition(cluster: LoopbackCluster, kind: str, holds: str = "True", words: str = "") -> str:
    def found(item: dict[str, Any]) -> str | None:
        for each in item.get("status", {}).get("conditions", ()):
            if each["type"] == kind and each["status"] == holds and words in each["message"]:
                return str(each["message"])
        return None

    return found(cluster.wait_for("provisioningrequests", found)) or ""


def test_a_provisioning_request_waits_and_gets_all_nodes_at_once(cluster):
    cluster.capacity.serve_provisioning_requests()
    cluster.add_nodes(node_group("l4:flex", "queue", queued=True, max_nodes=4))
    consumed = {CONSUMES: "two", CONSUMES_OF_CLASS: "queued-provisioning.gke.io"}
    both = {"completions": 2, "parallelism": 2}
    create(cluster, a_job("l4:flex", annotations=consumed, job=both))
    provisioning_request(cluster, "l4:flex", 2)
    condition(cluster, "Accepted")
    assert condition(cluster, "Provisioned", "False", "Waiting").startswith("Waiting for resources")
    assert nodes_of(cluster, "queue") == []
    cluster.capacity.give("queue")
    condition(cluster, "Provisioned")
    assert running(cluster, 2) == {"queue"}
    assert not {"TriggeredScaleUp", "NotTriggerScaleUp"} & set(said(cluster))
    cluster.capacity.take_away("queue")
    assert "no longer available" in condition(cluster, "CapacityRevoked")


def test_a_provisioning_request_that_no_node_pool_serves_fails(cluster):
    cluster.capacity.serve_provisioning_requests()
    cluster.add_nodes(node_group("l4:flex", "queue", queued=True))
    provisioning_request(cluster, "a100:flex", 1)
    assert condition(cluster, "Failed").endswith("affected nodepools: queue")


def test_queued_nodes_are_for_those_who_consume_a_request(cluster):
    cluster.add_nodes(node_group("l4:flex", "queue", queued=True))
    create(cluster, a_job("l4:flex"))
    assert "cloud.google.com/gke-queued: true" in event(cluster, "NotTriggerScaleUp")


def test_autopilot_refuses_what_it_does_not_allow(cluster):
    cluster.capacity.be_autopilot()
    with pytest.raises(ApiException) as refused:
        create(cluster, a_job("l4", nodeSelector={POOL: "mine"}))
    assert "Key 'cloud.google.com/gke-nodepool' is not allowed" in refused.value.body
    job = a_job("cpu", tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}])
    with pytest.raises(ApiException) as refused:
        create(cluster, job)
    assert "autogke-gpu-limitation" in refused.value.body
    job = a_job("cpu")
    resources = {"requests": {"ephemeral-storage": "20Gi"}}
    job["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    with pytest.raises(ApiException) as refused:
        create(cluster, job)
    assert "higher than the Autopilot maximum of '10Gi'" in refused.value.body


def test_autopilot_makes_nodes_for_pods_and_fills_in_their_requests(cluster):
    cluster.capacity.be_autopilot()
    create(cluster, a_job("tpu-v6e-8:spot"))
    assert running(cluster) == {"nap-tpu-v6e-slice-2x4-true-8"}
    (pod,) = started(cluster)
    requests = pod["spec"]["containers"][0]["resources"]["requests"]
    assert {**requests, "google.com/tpu": 0} == {
        "cpu": "500m",
        "memory": "2Gi",
        "ephemeral-storage": "1Gi",
        "google.com/tpu": 0,
    }


def test_autopilot_has_only_what_google_has(cluster):
    cluster.capacity.be_autopilot()
    create(cluster, a_job("l4", nodeSelector={"cloud.google.com/gke-accelerator": "nvidia-l5"}))
    event(cluster, "NotTriggerScaleUp")
    assert "TriggeredScaleUp" not in said(cluster)
