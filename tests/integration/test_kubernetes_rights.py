"""The table of rights against what the library is seen to ask of a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kubernetes_runs import a_launcher, a_request, launch

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.accelerators.node_pools import COMPUTE_CLASS_LABEL
from kinetic_flows.core.accelerators.node_requests import NodeRequest
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.launcher import LaunchNeeds, Phase
from kinetic_flows.core.secret_sources import parse_secrets
from kinetic_flows.core.volumes import parse_volumes
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher
from kinetic_flows.platforms.gke.rights import HELPFUL, INSTALLING, NEEDED, OPTIONAL
from kinetic_flows.platforms.gke.work_pool import ensure_headless_service, has_headless_service
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup

HARD_TO_END = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
"""Its pod is still there when its Job is deleted, and has to be ended."""

CLAIM = "pvc:datasets"
SLICE = parse_accelerator("tpu-v5p-2x2x2")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        yield running


def do_everything(cluster: LoopbackCluster, launcher: KubernetesLauncher) -> None:
    """Do whatever the library does to a cluster, once."""
    assert launcher.may_launch()
    cluster.add_claim("datasets", "ReadWriteMany", phase="Pending")
    volumes = parse_volumes("volumes", {"/a": Data("gs://corpus", mode="mount"), "/b": CLAIM})
    secrets = parse_secrets("secrets", {"HF_TOKEN": "k8s:hub/token"})
    cluster.capacity.compute_class("gpus")
    needs = LaunchNeeds(
        accelerator=SLICE,
        volumes=tuple(volumes.values()),
        secrets=tuple(secrets.values()),
        nodes=NodeRequest(labels={COMPUTE_CLASS_LABEL: ("gpus",)}),
    )
    launcher.preflight(needs)
    launcher.node_pools()
    launcher.place()
    request = a_request("print('up')")
    run = launch(launcher, request)
    launcher.start(request)
    assert run.end().phase is Phase.SUCCEEDED
    make_room_for_one(cluster, launcher)
    live = launch(launcher, a_request(HARD_TO_END))
    while b"up" not in live.output:
        live.until(Phase.RUNNING)
    launcher.stop(live.run_id, 1)
    launcher.discard(run.run_id)


def make_room_for_one(cluster: LoopbackCluster, launcher: KubernetesLauncher) -> None:
    """Launch where a finished Job has to give way, and where nothing does."""
    cluster.add_quota("one", {"count/jobs.batch": "1"}, {})
    with pytest.raises(LaunchError):
        launcher.start(a_request("pass"))
    long_ago = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    (job,) = cluster.list("jobs")
    change = lambda item: item["status"].update(completionTime=long_ago)  # noqa: E731
    cluster.change("jobs", job["metadata"]["name"], change)
    assert launch(launcher, a_request("pass")).end().phase is Phase.SUCCEEDED
    cluster.change("resourcequotas", "one", lambda item: item["spec"]["hard"].clear())


def install(cluster: LoopbackCluster) -> None:
    client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    try:
        assert not has_headless_service(client, "default")
        assert ensure_headless_service(client, "default")
    finally:
        client.close()


def test_the_table_is_what_is_asked_of_a_cluster_and_nothing_else(cluster):
    table = {
        (each.verb, "/".join(filter(None, (each.resource, each.subresource))))
        for each in (*NEEDED, *HELPFUL, *OPTIONAL, *INSTALLING)
    }
    install(cluster)
    with a_launcher(cluster) as launcher:
        do_everything(cluster, launcher)
        deadline = time.monotonic() + 20
        # What is watched is begun to be watched a moment after it was listed.
        while table - cluster.access.asked and time.monotonic() < deadline:
            time.sleep(0.05)
    assert cluster.access.asked == table
