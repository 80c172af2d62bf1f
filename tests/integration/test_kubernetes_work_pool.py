"""The kinetic-gke work pool on a real Prefect server, with Prefect's own Kubernetes worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending, Scheduled
from prefect_kubernetes.worker import KubernetesWorker

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.manifests import WORK_POOL_TYPE, base_job_template
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup

REPORT_COMPLETED = """
import base64, json, os, urllib.request
api = os.environ["PREFECT_API_URL"]
url = f"{api}/flow_runs/{os.environ['PREFECT__FLOW_RUN_ID']}/set_state"
password = base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
headers = {"Content-Type": "application/json", "Authorization": "Basic " + password}
client = os.urandom(8).hex()
asked = urllib.request.Request(f"{api}/csrf-token?client={client}", headers=headers)
headers["Prefect-Csrf-Client"] = client
headers["Prefect-Csrf-Token"] = json.load(urllib.request.urlopen(asked))["token"]
for state in ("RUNNING", "COMPLETED"):
    body = json.dumps({"state": {"type": state, "name": state.title()}}).encode()
    urllib.request.urlopen(urllib.request.Request(url, body, headers)).read()
print("host", os.environ.get("JOB_COMPLETION_INDEX", "alone"))
"""
V6E_8 = parse_accelerator("tpu-v6e-8")


@flow(name="train")
def train() -> None:
    """Stand in for a run's flow; its body runs nowhere."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        running.add_nodes(
            NodeGroup(
                name="v6e",
                labels=V6E_8.node_selector,
                capacity={"google.com/tpu": 8},
                taints=({"key": "google.com/tpu", "value": "present", "effect": "NoSchedule"},),
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig()))
        monkeypatch.setenv("PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_ENABLED", "false")
        yield running


@pytest.fixture
def api(prefect_api_url: str) -> Iterator[str]:
    with temporary_settings(updates={PREFECT_API_URL: prefect_api_url}):
        yield prefect_api_url


async def make_run(client: PrefectClient, state: Any, accelerator: str) -> tuple[str, FlowRun]:
    """Make the work pool and a run on it that reports its own completion."""
    pool = f"kinetic-gke-{uuid.uuid4().hex[:6]}"
    await client.create_work_pool(
        WorkPoolCreate(name=pool, type=WORK_POOL_TYPE, base_job_template=base_job_template())
    )
    # An ad hoc run's job variables are fixed at its creation, so they cannot hold its own id.
    request = PodRequest(
        run_id=str(uuid.uuid4()),
        name="train",
        image="registry/image@sha256:" + "0" * 64,
        accelerator=parse_accelerator(accelerator),
        arguments=("-c", REPORT_COMPLETED),
        environment={"PREFECT_API_URL": str(client.api_url).rstrip("/")},
        variables={"termination_grace_seconds": 1},
    )
    flow_run = await client.create_flow_run(
        train, work_pool_name=pool, job_variables=job_variables(request), state=state
    )
    return pool, flow_run


async def submit(cluster: LoopbackCluster, accelerator: str) -> FlowRun:
    """Hand a run to an in-process worker and return the run."""
    # The client library reads KUBECONFIG once, when it is imported.
    kubeconfig = json.loads(cluster.kubeconfig().read_text())
    credentials = {"config": kubeconfig, "context_name": kubeconfig["current-context"]}
    async with get_client() as client:
        pool, flow_run = await make_run(client, Pending(), accelerator)
        async with KubernetesWorker(work_pool_name=pool) as worker:
            configuration = await worker.job_configuration.from_template_and_values(
                base_job_template(),
                {**(flow_run.job_variables or {}), "cluster_config": credentials},
                client=client,
            )
            configuration.prepare_for_flow_run(flow_run)
            result = await worker.run(flow_run, configuration)
        assert result.identifier.startswith("default:train-")
        return flow_run


def states_of(flow_run: FlowRun) -> set[str]:
    """Return all states of a run: of a quick one, the worker may say last that it is pending."""

    async def read() -> set[str]:
        async with get_client() as client:
            return {state.name or "" for state in await client.read_flow_run_states(flow_run.id)}

    return asyncio.run(read())


def state_of(flow_run: FlowRun) -> str:
    async def read() -> str:
        async with get_client() as client:
            return str((await client.read_flow_run(flow_run.id)).state_name)

    return asyncio.run(read())


def completed(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def test_an_in_process_worker_runs_a_tpu_job_to_its_end(cluster, api):
    flow_run = asyncio.run(submit(cluster, "tpu-v6e-8"))
    job = cluster.wait_for("jobs", completed)
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == V6E_8.node_selector
    assert pod["containers"][0]["resources"]["limits"]["google.com/tpu"] == 8
    assert job["metadata"]["labels"]["prefect.io/flow-run-id"] == str(flow_run.id)
    assert state_of(flow_run) == "Completed"
    assert "TriggeredScaleUp" in cluster.event_reasons()


def test_an_in_process_worker_runs_every_host_of_a_slice(cluster, api):
    slice_of_two = parse_accelerator("tpu-v5p-2x2x2")
    cluster.add_nodes(
        NodeGroup(
            name="v5p",
            labels=slice_of_two.node_selector,
            capacity={"google.com/tpu": 4},
            max_nodes=2,
        )
    )
    asyncio.run(submit(cluster, "tpu-v5p-2x2x2"))
    job = cluster.wait_for("jobs", completed)
    assert job["status"]["succeeded"] == 2
    assert {pod["spec"]["subdomain"] for pod in cluster.list("pods")} == {"kinetic-hosts"}


def test_a_stock_worker_picks_a_scheduled_run_up(cluster, api, tmp_path):
    async def schedule() -> tuple[str, FlowRun]:
        async with get_client() as client:
            return await make_run(client, Scheduled(), "cpu")

    pool, flow_run = asyncio.run(schedule())
    # Unlike the in-process workers above, this one keeps its observer of pods and Jobs.
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_ENABLED": "true",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [*command, "--type", "kubernetes"], env=environment, stdout=output, stderr=output
        )
    try:
        cluster.wait_for("jobs", completed, timeout_seconds=90)
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(30)
    assert "Completed" in states_of(flow_run), log.read_text()
