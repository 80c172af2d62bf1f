"""Runs on several nodes and TPU slices, the real runner in pods of the loopback cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes_runs import IMAGE, Launched, a_launcher

from kinetic_flows.core.accelerators import Accelerator, parse_accelerator
from kinetic_flows.core.candidates import Launch
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.launcher import LaunchNeeds, LaunchRequest, Phase
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NODE_POOL_LABEL, NodeGroup
from runner_jobs import BOOTSTRAP, RUN_ID, Job, wait_until

SLICE = parse_accelerator("tpu-v5p-2x2x2")
L4 = parse_accelerator("l4")

TELLS = """
    import os
    from pathlib import Path

    NAMES = (
        "KINETIC_HOST", "KINETIC_HOSTS", "KINETIC_SLICE", "JOB_COMPLETION_INDEX",
        "MEGASCALE_SLICE_ID", "MEGASCALE_NUM_SLICES", "MEGASCALE_COORDINATOR_ADDRESS",
        "TPU_WORKER_ID", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT",
        "JAX_COORDINATOR_ADDRESS", "KINETIC_COORDINATOR_ADDRESS", "KINETIC_HOSTNAMES",
    )

    def main(marks):
        told = {name: os.environ.get(name, "") for name in NAMES}
        Path(marks, told["KINETIC_HOST"]).write_text("\\n".join(told.values()))
        print("this is host", told["KINETIC_HOST"])
        return told
    """
WAITS = """
    import os, time
    from pathlib import Path

    def main(marks):
        host, count = os.environ["KINETIC_HOST"], os.environ["KINETIC_RESTART_COUNT"]
        Path(marks, f"{host}-{count}").touch()
        while (host == "3" or count == "1") and not Path(marks, "go").exists():
            time.sleep(0.02)
        if host == "3" and count == "0":
            raise RuntimeError("chip 3 is bad")
        if count == "0":
            time.sleep(600)
        return host, count
    """


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        running.add_nodes(a_pool("l4", L4, 2))
        # Of the first as many fit as both slices have hosts: nothing but their affinity parts them.
        running.add_nodes(a_pool("slice-a", SLICE, 4))
        running.add_nodes(a_pool("slice-b", SLICE, 4))
        yield running


def a_pool(name: str, accelerator: Accelerator, nodes: int) -> NodeGroup:
    kind = "tpu" if accelerator.category == "tpu" else "gpu"
    resource = {"tpu": "google.com/tpu", "gpu": "nvidia.com/gpu"}[kind]
    return NodeGroup(
        name=name,
        labels=accelerator.node_selector,
        capacity={resource: accelerator.count_per_host},
        max_nodes=nodes,
    )


@pytest.fixture
def launcher(cluster: LoopbackCluster) -> Iterator[KubernetesLauncher]:
    with a_launcher(cluster) as made:
        yield made


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where functions leave on which hosts they were called."""
    directory = tmp_path / "marks"
    directory.mkdir()
    return directory


def launch(
    launcher: KubernetesLauncher,
    job: Job,
    accelerator: Accelerator,
    max_preemptions: int = 0,
    of_list: Launch | None = None,
) -> Launched:
    """Start a job's runner on every host of an accelerator, which may be one of several."""
    job.changes |= {"hosts": accelerator.hosts, "max_preemptions": max_preemptions}
    pod = PodRequest(
        run_id="" if of_list else RUN_ID,
        name=job.function,
        image=IMAGE.reference,
        accelerator=accelerator,
        arguments=(str(BOOTSTRAP),),
        environment={"KINETIC_DEVICE_CHECK": "0"},
        max_preemptions=max_preemptions,
        variables={"termination_grace_seconds": 5},
    )
    request = LaunchRequest(
        run_id=RUN_ID,
        name=job.function,
        image=IMAGE,
        environment={**job.write(), **({"KINETIC_LAUNCH": str(of_list)} if of_list else {})},
        job_variables=job_variables(pod),
        launch=of_list,
    )
    launcher.start(request)
    return Launched(launcher=launcher, run_id=request.key)


def wait_for(run: Launched, marks: Path, *names: str) -> None:
    """Look at a run until its hosts have left these marks."""
    deadline = time.monotonic() + 60
    while not all((marks / name).exists() for name in names):
        run.look()
        assert time.monotonic() < deadline, (run.seen[-1].reason, sorted(marks.iterdir()))
        time.sleep(0.02)


def pools_of(cluster: LoopbackCluster) -> dict[str, set[str]]:
    """Return the node pools in which the pods of each Job are."""
    of_node = {
        node["metadata"]["name"]: node["metadata"]["labels"].get(NODE_POOL_LABEL)
        for node in cluster.list("nodes")
    }
    found: dict[str, set[str]] = {}
    for pod in cluster.list("pods"):
        job = pod["metadata"]["labels"]["job-name"]
        found.setdefault(job, set()).add(of_node[pod["spec"]["nodeName"]])
    return found


def is_running(cluster: LoopbackCluster) -> bool:
    return any(pod["status"]["phase"] == "Running" for pod in cluster.list("pods"))


def test_nodes_with_gpus_find_one_another(cluster, launcher, tmp_path, marks):
    job = Job(tmp_path / "store", TELLS, args=(str(marks),))
    run = launch(launcher, job, L4.times(hosts=2))
    assert run.end(60).phase is Phase.SUCCEEDED
    assert run.output.endswith(b"this is host 0\n")
    first = f"main-{RUN_ID}-0.kinetic-hosts"
    told = job.value()
    assert (told["RANK"], told["NODE_RANK"], told["WORLD_SIZE"]) == ("0", "0", "2")
    assert (told["MASTER_ADDR"], told["MASTER_PORT"]) == (first, "29500")
    assert told["JAX_COORDINATOR_ADDRESS"] == told["KINETIC_COORDINATOR_ADDRESS"] == f"{first}:8476"
    assert "1\n2\n" in (marks / "1").read_text()
    assert len({pod["spec"]["nodeName"] for pod in cluster.list("pods")}) == 2


def test_slices_have_a_job_and_a_node_pool_each(cluster, launcher, tmp_path, marks):
    job = Job(tmp_path / "store", TELLS, args=(str(marks),))
    run = launch(launcher, job, SLICE.times(slices=2))
    assert run.end(60).phase is Phase.SUCCEEDED
    told = [(marks / host).read_text().split("\n") for host in "0123"]
    # Host, hosts, slice, index in its Job; and what libtpu is told.
    assert [each[:6] for each in told] == [
        ["0", "4", "0", "0", "0", "2"],
        ["1", "4", "0", "1", "0", "2"],
        ["2", "4", "1", "0", "1", "2"],
        ["3", "4", "1", "1", "1", "2"],
    ]
    first = f"main-{RUN_ID}-s0-0.kinetic-hosts"
    assert {each[6] for each in told} == {first}
    assert {each[7] for each in told} == {"0", "1"}, "GKE counts within a slice"
    assert job.value()["KINETIC_HOSTNAMES"].split(",")[2] == f"main-{RUN_ID}-s1-0.kinetic-hosts"
    assert b"this is host 0" in run.output
    assert b"this is host 2" not in run.output
    pools = pools_of(cluster)
    assert pools.keys() == {f"main-{RUN_ID}-s0", f"main-{RUN_ID}-s1"}
    assert sorted(pools.values(), key=min) == [{"slice-a"}, {"slice-b"}]


def test_a_failing_host_of_one_slice_stops_the_other_slice(cluster, launcher, tmp_path, marks):
    job = Job(tmp_path / "store", WAITS, args=(str(marks),))
    run = launch(launcher, job, SLICE.times(slices=2))
    wait_for(run, marks, "0-0", "1-0", "2-0", "3-0")
    (marks / "go").touch()
    ended = run.end(60)
    assert (ended.phase, ended.exit_code) == (Phase.FAILED, 1)
    # Of the slice that has failed, or of the other one, which has ended as that did.
    assert ended.reason.endswith("ended with exit code 1: the function raised")
    assert job.envelope().header.message == "host 3: chip 3 is bad"
    deadline = time.monotonic() + 30
    while is_running(cluster):
        run.look()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_slices_start_again_together(cluster, launcher, tmp_path, marks):
    job = Job(tmp_path / "store", WAITS, args=(str(marks),))
    run = launch(launcher, job, SLICE.times(slices=2), max_preemptions=1)
    wait_for(run, marks, "0-0", "1-0", "2-0", "3-0")
    pods = [pod["metadata"]["name"] for pod in cluster.list("pods")]
    cluster.preempt(next(name for name in pods if f"{RUN_ID}-s1-0-" in name))
    wait_for(run, marks, "0-1", "1-1", "2-1", "3-1")
    (marks / "go").touch()
    assert run.end(60).phase is Phase.SUCCEEDED
    assert job.value() == ("0", "1")
    assert b"host 2 was stopped by its node: every host of the slice starts again" in run.output


def test_a_run_that_is_stopped_leaves_no_slice(cluster, launcher, tmp_path, marks):
    job = Job(tmp_path / "store", WAITS, args=(str(marks),))
    run = launch(launcher, job, SLICE.times(slices=2))
    wait_for(run, marks, "0-0", "1-0", "2-0", "3-0")
    launcher.stop(RUN_ID, 5)
    assert run.look().phase is Phase.GONE
    assert not cluster.list("jobs")
    assert not cluster.list("pods")


def test_hosts_of_an_accelerator_of_a_list_are_one_launch(cluster, launcher, tmp_path, marks):
    asked = SLICE.times(slices=2)
    candidate = {"number": 1, "accelerator": str(asked), "moves_on": False}
    job = Job(tmp_path / "store", TELLS, args=(str(marks),), changes={"candidate": candidate})
    run = launch(launcher, job, asked, of_list=Launch(round=0, candidate=1))
    assert run.end(60).phase is Phase.SUCCEEDED
    told = job.value()
    assert told["KINETIC_HOST"] == "0"
    assert len(set(told["KINETIC_HOSTNAMES"].split(","))) == len(list(marks.iterdir()))
    assert told["KINETIC_HOSTNAMES"].startswith(f"main-{RUN_ID}-r0c1-")
    claim = job.root / "runs" / RUN_ID / "rounds" / "0" / "claim.json"
    assert json.loads(claim.read_bytes())["candidate"] == 1
    assert launcher.launches(RUN_ID) == (f"{RUN_ID}-r0c1",)
    launcher.discard(f"{RUN_ID}-r0c1")
    wait_until(lambda: not cluster.list("jobs"), 30)


def test_what_is_refused_of_one_slice_is_left_of_none(cluster, launcher, tmp_path, marks):
    cluster.add_quota("jobs", {"count/jobs.batch": "1"}, {})
    job = Job(tmp_path / "store", WAITS, args=(str(marks),))
    with pytest.raises(LaunchError, match="quota"):
        launch(launcher, job, SLICE.times(slices=2))
    wait_until(lambda: not cluster.list("jobs") and not cluster.list("secrets"), 30)


def test_another_client_whose_start_is_refused_leaves_the_slices_there_are(
    cluster, launcher, tmp_path, marks
):
    job = Job(tmp_path / "store", WAITS, args=(str(marks),))
    launch(launcher, job, SLICE.times(slices=2))
    cluster.admission.webhooks.append(
        lambda plural, item: (
            'admission webhook "policy.example" denied the request: not now'
            if plural == "jobs" and item["metadata"]["name"].endswith("-s1")
            else None
        )
    )
    with pytest.raises(LaunchError, match=r"policy\.example"):
        launch(launcher, job, SLICE.times(slices=2))
    assert not any("deletionTimestamp" in each["metadata"] for each in cluster.list("jobs"))
    assert len(cluster.list("jobs")) == 2


def test_slices_need_as_many_node_pools(cluster, launcher):
    for name in ("slice-c", "slice-d"):
        cluster.add_nodes(replace(a_pool(name, SLICE, 2), nodes=2))
    found = launcher.preflight(LaunchNeeds(accelerator=SLICE.times(slices=2)))
    assert "need as many node pools" not in "".join((*found.problems, *found.warnings))
    found = launcher.preflight(LaunchNeeds(accelerator=SLICE.times(slices=3)))
    told = "\n".join((*found.problems, *found.warnings))
    assert "3 slices of tpu-v5p-2x2x2 need as many node pools of it, and there are 2: " in told
    assert "slice-c" in told
    assert "`kinetic nodepools add tpu-v5p-2x2x2` makes one more" in told
