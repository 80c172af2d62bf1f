"""Runs that nobody watches, settled: by whoever looks next, or by the flow kinetic-reconcile."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes_runs import IMAGE, a_launcher
from prefect_workers import eventually

from kinetic_flows.clients.prefect.api import NewRun, PrefectApi
from kinetic_flows.clients.prefect.artifacts import RunArtifacts
from kinetic_flows.clients.prefect.flow_names import PARENT_FLOW, RUN_ARTIFACT
from kinetic_flows.clients.prefect.labels import DISPATCH_LABEL, RUN_TAG, STORE_LABEL
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.job import RUN_KEY_VARIABLE, RunTicket
from kinetic_flows.core.launcher import LaunchRequest, Processes
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.reconcile import crash_abandoned_parents, reconcile
from kinetic_flows.runs.settle import store_label, sync_state
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from runner_jobs import BOOTSTRAP, RUN_KEY, Job

UNREACHABLE = "http://127.0.0.1:9/api"
SLEEPY = "import time\ndef main():\n    print('asleep', flush=True)\n    time.sleep(600)\n"


@dataclass(frozen=True, kw_only=True)
class ClusterPlatform:
    """A platform of a loopback cluster and a store on disk, to launch on without building."""

    store: LocalStore
    launcher: KubernetesLauncher
    name: str = "gke"
    may_see_processes: bool = True
    place: str = ""

    def sees(self, place: str) -> bool:
        return not place

    @property
    def worker_processes(self) -> Processes:
        return self.launcher


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path / "cluster-files") as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        yield running


@pytest.fixture
def platform(tmp_path: Path, cluster: LoopbackCluster) -> Iterator[Any]:
    with a_launcher(cluster) as launcher:
        yield ClusterPlatform(store=LocalStore(tmp_path / "store"), launcher=launcher)


@pytest.fixture(autouse=True)
def _directories(tmp_path: Path) -> None:
    (tmp_path / "cluster-files").mkdir()


@dataclass(frozen=True, kw_only=True)
class Unwatched:
    """A run whose client is gone."""

    platform: Any
    api: PrefectApi
    id: str

    @property
    def state(self) -> tuple[str, str]:
        """Its state's type and message."""
        record = self.api.read_run(self.id)
        return record.state_type, record.message

    def reconcile(self, **options: Any) -> bool:
        """Look after runs; return whether that has ended this one."""
        return self.id in reconcile(self.platform, self.api, **options).ended


def launch(
    platform: Any,
    api: PrefectApi,
    source: str,
    *,
    prefect_url: str | None = None,
    dispatch: str = "client",
    accelerator: str = "cpu",
    **pod: Any,
) -> Unwatched:
    """Launch a run as a client that goes away at once, or a worker, does."""
    run_id = api.create_run(
        NewRun(
            flow="main",
            name="main",
            parent_flow_run_id=None,
            parameters={},
            tags=(RUN_TAG,),
            labels={STORE_LABEL: store_label(platform), DISPATCH_LABEL: dispatch},
            job_variables={"env": {RUN_KEY_VARIABLE: RUN_KEY}},
        )
    )
    told = {"api_url": prefect_url or api.url, "flow_run_id": "", "parameters": False}
    root = Path(platform.store.uri.removeprefix("file://"))
    changes = {"run_id": "", "result": "", "output_dir": str(root / "outputs"), "prefect": told}
    job = Job(root, source, changes=changes)
    request = PodRequest(
        run_id=run_id,
        name="main",
        image=IMAGE.reference,
        accelerator=parse_accelerator(accelerator),
        arguments=(str(BOOTSTRAP),),
        **pod,
    )
    platform.launcher.start(
        LaunchRequest(
            run_id=run_id,
            name="main",
            image=IMAGE,
            environment={
                **job.write(),
                "PREFECT__FLOW_RUN_ID": run_id,
                # As a launch gives it to runs that may reach the server of this machine.
                "PREFECT_API_AUTH_STRING": os.environ["PREFECT_API_AUTH_STRING"],
            },
            job_variables=job_variables(request),
        )
    )
    return Unwatched(platform=platform, api=api, id=run_id)


def completed(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def test_a_pod_that_cannot_reach_prefect_is_settled_by_its_result(platform, cluster, api):
    run = launch(platform, api, "def main():\n    return 7\n", prefect_url=UNREACHABLE)
    cluster.wait_for("jobs", completed, timeout_seconds=60)
    assert run.state[0] == "PENDING", "nobody has told Prefect anything"
    assert eventually(run.reconcile)
    assert run.state == ("COMPLETED", "returned int: 7")
    assert not run.reconcile(), "what is over is left alone"


def test_a_run_that_is_being_launched_is_left_to_its_client(platform, api):
    new = NewRun(
        flow="main",
        name="main",
        parent_flow_run_id=None,
        parameters={},
        tags=(RUN_TAG,),
        labels={STORE_LABEL: store_label(platform)},
        job_variables={},
    )
    run = Unwatched(platform=platform, api=api, id=api.create_run(new))
    assert not run.reconcile()
    assert run.state[0] == "PENDING"
    api.set_state(run.id, "CANCELLED", message="the test is over")


def test_a_run_that_waits_too_long_for_its_pod_is_given_up(platform, cluster, api):
    run = launch(platform, api, SLEEPY, accelerator="tpu-v6e-8", schedule_timeout_seconds=1)
    assert eventually(run.reconcile)
    state, message = run.state
    assert state == "CRASHED"
    assert "tpu-v6e-slice" in message
    eventually(lambda: not cluster.list("jobs"))


@pytest.mark.parametrize("accelerator", ["cpu", "tpu-v6e-8"])
def test_a_cancellation_that_nobody_acts_on_is_carried_out(platform, cluster, api, accelerator):
    """Its pod cannot reach Prefect, or is not there yet, so it does not see that it is to end."""
    run = launch(platform, api, SLEEPY, prefect_url=UNREACHABLE, accelerator=accelerator)
    if accelerator == "cpu":
        cluster.wait_for("pods", lambda pod: pod["status"].get("phase") == "Running")
    api.set_state(run.id, "CANCELLING")
    assert not run.reconcile(), "at first the run is left to end by itself"
    assert run.reconcile(cancel_patience_seconds=0)
    assert run.state[0] == "CANCELLED"
    assert not cluster.list("jobs")


@pytest.mark.parametrize("dispatch", ["client", "worker"])
def test_a_pod_that_died_without_a_word_is_told_of(platform, cluster, api, dispatch):
    """The worker that started it, and would have seen it, was restarted meanwhile."""
    run = launch(platform, api, SLEEPY, dispatch=dispatch)
    api.publish_markdown(run.id, RUN_ARTIFACT, "## What ran\n\nmain\n\n## Details\n\nnone")
    eventually(lambda: run.state[0] == "RUNNING")
    assert not run.reconcile()
    (pod,) = cluster.list("pods")
    said = "Memory cgroup out of memory: Killed process 7 (python3)"
    cluster.trouble.say(pod["spec"]["nodeName"], "OOMKilling", said)
    cluster.run_out_of_memory(pod["metadata"]["name"])
    assert eventually(run.reconcile)
    state, message = run.state
    assert state == "CRASHED"
    assert "memory" in message
    page = RunArtifacts(api).read_markdown(run.id, RUN_ARTIFACT)
    assert page is not None
    assert page.text.startswith("## What ran\n\nmain\n\n## How it went\n\n")
    assert page.text.endswith("\n\n## Details\n\nnone")
    assert re.search(r"ended \| \*\*Crashed\*\*: its process .*memory", page.text)
    why = page.text.partition("## Why it ended\n\n")[2]
    assert re.match(r"The run \(\S+ on node \S+\) ran out of memory: it was killed for using", why)
    assert said in why


def test_what_a_workers_observer_guessed_makes_way_for_what_is_known(platform, cluster, api):
    run = launch(platform, api, SLEEPY)
    eventually(lambda: run.state[0] == "RUNNING")
    (pod,) = cluster.list("pods")
    cluster.run_out_of_memory(pod["metadata"]["name"])
    # As an observer does, which sees the Job fail as soon as anybody.
    assert api.set_state(run.id, "CRASHED", message="No active or succeeded pods found for any job")
    cluster.wait_for("jobs", lambda job: job["status"].get("failed"))
    assert not api.set_state(run.id, "RUNNING"), "it is over all the same"

    def settled() -> bool:
        sync_state(platform, api, RunTicket(run_id=run.id, name="main", run_key=RUN_KEY))
        return "memory" in run.state[1]

    assert eventually(settled)
    assert run.state[0] == "CRASHED"
    assert not api.set_state(run.id, "CRASHED", message="something else")


def test_a_client_that_is_gone_leaves_no_flow_run_running(platform, api):
    from prefect import Flow
    from prefect.states import Completed, Running

    parent = api.client.create_flow_run(Flow(lambda: None, name=PARENT_FLOW), state=Running())
    run_id = api.create_run(
        NewRun(
            flow="main",
            name="main",
            parent_flow_run_id=str(parent.id),
            parameters={},
            tags=(RUN_TAG,),
            labels={STORE_LABEL: store_label(platform)},
            job_variables={},
        )
    )
    assert str(parent.id) not in crash_abandoned_parents(platform, api, after_seconds=0)
    api.client.set_flow_run_state(run_id, Completed(), force=True)
    assert str(parent.id) not in crash_abandoned_parents(platform, api)
    assert str(parent.id) in crash_abandoned_parents(platform, api, after_seconds=0)
    assert "client that drove this run is gone" in api.read_run(str(parent.id)).message
