"""Runs on nodes that are had by flex-start, of a reservation, of a compute class, in a zone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_runs import a_launcher, a_request, launch

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.launcher import LaunchNeeds, Phase
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher
from kinetic_flows.platforms.gke.placement import Placement, node_request
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup, Reservation, node_group

SLICE = "tpu-v6e-4x4:flex"
DONE = "print('done')"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        running.capacity.serve_provisioning_requests()
        yield running


@pytest.fixture
def launcher(cluster: LoopbackCluster) -> Iterator[KubernetesLauncher]:
    with a_launcher(cluster) as made:
        yield made


@pytest.fixture
def client(cluster: LoopbackCluster) -> Iterator[KubernetesClient]:
    made = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    yield made
    made.close()


def objects(client: KubernetesClient, path: str) -> list[dict[str, Any]]:
    return client.ask("GET", path)["items"]


def until_gone(client: KubernetesClient, path: str) -> None:
    deadline = time.monotonic() + 20
    while objects(client, path):
        assert time.monotonic() < deadline
        time.sleep(0.02)


REQUESTS = "/apis/autoscaling.x-k8s.io/v1/namespaces/default/provisioningrequests"
TEMPLATES = "/api/v1/namespaces/default/podtemplates"
JOBS = "/apis/batch/v1/namespaces/default/jobs"


def test_a_slice_of_flex_start_waits_until_all_its_nodes_are_given(cluster, launcher, client):
    cluster.add_nodes(node_group(SLICE, "slices", queued=True))
    options = {"placement": Placement(max_run_seconds=7200.0)}
    run = launch(launcher, a_request(DONE, accelerator=SLICE, **options))
    waiting = run.until(Phase.PENDING, reason="as soon as the zone has them")
    assert waiting.reason == (
        "flex-start has the request: the 4 nodes come together as soon as the zone has them "
        "(Waiting for resources. Currently there are not enough resources available to fulfill "
        "the request.)"
    )
    assert waiting.cause == "scaling_up"
    (request,) = objects(client, REQUESTS)
    assert request["spec"]["parameters"] == {"maxRunDurationSeconds": "7200"}
    assert request["spec"]["podSets"][0]["count"] == 4
    assert request["metadata"]["ownerReferences"][0]["name"] == request["metadata"]["name"]
    cluster.capacity.give("slices")
    assert run.end().phase is Phase.SUCCEEDED
    launcher.discard(run.run_id)
    for path in (JOBS, REQUESTS, TEMPLATES):
        until_gone(client, path)


def test_what_flex_start_does_not_give_is_said_at_once(cluster, launcher):
    cluster.add_nodes(node_group(SLICE, "slices", queued=True, failure="GCE quota exceeded"))
    run = launch(launcher, a_request(DONE, accelerator=SLICE))
    seen = run.until(Phase.PENDING, reason="flex-start does not give the 4 nodes")
    assert (seen.cause, seen.is_lasting) == ("cloud_quota", True)
    launcher.stop(run.run_id, 0)


def test_who_may_not_ask_for_nodes_leaves_no_job_behind(cluster, launcher, client):
    cluster.access.denials.append(Denial(resource="provisioningrequests", verb="create"))
    needs = LaunchNeeds(accelerator=parse_accelerator(SLICE))
    assert "you may not create provisioningrequests" in str(launcher.preflight(needs).problems)
    with pytest.raises(LaunchError, match="provisioningrequests"):
        launcher.start(a_request(DONE, accelerator=SLICE))
    until_gone(client, JOBS)


def test_who_may_not_ask_leaves_alone_what_another_client_has_asked_for(cluster, launcher, client):
    request = a_request(DONE, accelerator=SLICE)
    launcher.start(request)
    cluster.access.denials.append(Denial(resource="provisioningrequests", verb="create"))
    launcher.start(request)
    assert len(objects(client, JOBS)) == 1
    launcher.stop(request.run_id, 0)


def test_a_single_node_of_flex_start_needs_no_request(cluster, launcher, client):
    cluster.add_nodes(node_group("l4:flex", "flex"))
    run = launch(launcher, a_request(DONE, accelerator="l4:flex"))
    run.until(Phase.PENDING, reason="flex-start has been asked for a node, which comes as soon")
    assert objects(client, REQUESTS) == []
    cluster.capacity.give("flex")
    assert run.end().phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("fields", "placement"),
    [
        ({"reservation": "ours"}, {"reservation": "ours"}),
        ({"reservation": "any"}, {"reservation": "any"}),
        ({"compute_class": "gpus"}, {"compute_class": "gpus"}),
        ({"zones": ("us-central1-f",)}, {"zones": ("us-central1-b", "us-central1-f")}),
        ({}, {"node_pool": "wanted"}),
    ],
    ids=["a reservation", "any reservation", "a compute class", "zones", "a node pool"],
)
def test_a_run_is_on_the_nodes_that_it_asks_for(cluster, launcher, client, fields, placement):
    cluster.capacity.reserve(Reservation(name="ours", count=1))
    cluster.add_nodes(node_group("l4", "other", nodes=1))
    cluster.add_nodes(node_group("l4", "wanted", **fields))
    run = launch(launcher, a_request(DONE, accelerator="l4", placement=Placement(**placement)))
    assert run.end().phase is Phase.SUCCEEDED
    (pod,) = objects(client, "/api/v1/namespaces/default/pods")
    assert pod["spec"]["nodeName"].startswith("gke-wanted-")


def test_a_compute_class_that_is_not_there_is_a_problem(cluster, launcher):
    cluster.capacity.compute_class("gpus")
    wanted = parse_accelerator("cpu")
    nodes = node_request(wanted, Placement(compute_class="tpus"), {})
    assert launcher.preflight(LaunchNeeds(accelerator=wanted, nodes=nodes)).problems == (
        "the cluster has no compute class 'tpus'; it has: gpus",
    )


def needs_of(accelerator: str, **placement: Any) -> LaunchNeeds:
    wanted = parse_accelerator(accelerator)
    return LaunchNeeds(accelerator=wanted, nodes=node_request(wanted, Placement(**placement), {}))


def test_what_autopilot_does_not_take_is_told_before_anything_is_built(cluster, launcher):
    cluster.capacity.be_autopilot()
    (told,) = launcher.preflight(needs_of("l4", node_pool="l4-pool")).problems
    assert "warden-validating" in told
    assert "cloud.google.com/gke-nodepool" in told
    assert launcher.preflight(needs_of("l4:flex", zones=("us-central1-a",))).problems == ()


def test_what_kubernetes_does_not_take_of_the_nodes_is_told_before_anything_is_built(
    cluster, launcher
):
    def refuse(plural: str, item: Any) -> str | None:
        pod = item["spec"]["template"]["spec"] if plural == "jobs" else {}
        bad = pod.get("affinity") and "spec.template.spec.affinity.nodeAffinity: Required value"
        return bad or None

    cluster.admission.webhooks.append(refuse)
    (told,) = launcher.preflight(needs_of("cpu", zones=("us-central1-a",))).problems
    assert "spec.template.spec.affinity.nodeAffinity: Required value" in told
    assert launcher.preflight(needs_of("cpu")).problems == ()
