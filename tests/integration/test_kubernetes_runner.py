"""The real runner in pods of the loopback cluster: values, restarts and cancellation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_runs import IMAGE, Launched, a_launcher

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.launcher import LaunchRequest, Phase
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from runner_jobs import BOOTSTRAP, RUN_ID, Job

SLICE = parse_accelerator("tpu-v5p-2x2x2")
SPOT = parse_accelerator("tpu-v6e-8:spot")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        for accelerator, nodes in ((SLICE, 2), (SPOT, 3)):
            capacity = {"google.com/tpu": accelerator.count_per_host}
            labels = accelerator.node_selector
            group = NodeGroup(
                name=accelerator.name, labels=labels, capacity=capacity, max_nodes=nodes
            )
            running.add_nodes(group)
        yield running


@pytest.fixture
def launcher(cluster: LoopbackCluster) -> Iterator[KubernetesLauncher]:
    with a_launcher(cluster) as made:
        yield made


def launch(
    launcher: KubernetesLauncher,
    job: Job,
    accelerator: str = "cpu",
    max_preemptions: int | None = None,
) -> Launched:
    """Start a job's runner as a pod that gets the job's variables and no others."""
    pod = PodRequest(
        run_id=RUN_ID,
        name=job.function,
        image=IMAGE.reference,
        accelerator=parse_accelerator(accelerator),
        arguments=(str(BOOTSTRAP),),
        max_preemptions=max_preemptions,
        variables={"termination_grace_seconds": 10},
    )
    launcher.start(
        LaunchRequest(
            run_id=RUN_ID,
            name=job.function,
            image=IMAGE,
            environment=job.write(),
            job_variables=job_variables(pod),
        )
    )
    return Launched(launcher=launcher, run_id=RUN_ID)


def test_a_function_returns_its_value_from_a_pod(launcher, tmp_path):
    source = """
        from importlib.metadata import version
        def main(a, b):
            print('adding')
            return a + b, version("paint")
    """
    job = Job(tmp_path / "store", source, args=(40, 2))
    info = {"METADATA": "Metadata-Version: 2.1\nName: paint\nVersion: 1.5\n"}
    job.code_changes = {"distributions": {"paint-1.5.dist-info": info}}
    run = launch(launcher, job)
    assert run.end(60).phase is Phase.SUCCEEDED
    assert job.value() == (42, "1.5")
    assert b"adding\n" in run.output


def test_an_exception_comes_back_and_the_pod_says_who_failed(launcher, tmp_path):
    job = Job(tmp_path / "store", "def main():\n    raise KeyError('no such row')\n")
    run = launch(launcher, job)
    ended = run.end(60)
    assert (ended.phase, ended.exit_code) == (Phase.FAILED, 1)
    assert ended.reason == "the pod ended with exit code 1: the function raised"
    assert repr(job.value()) == "KeyError('no such row')"
    assert b"no such row" in run.output


def test_a_preempted_function_runs_again_with_its_output_directory_and_its_count(
    cluster, launcher, tmp_path
):
    source = """
        import os, time
        from pathlib import Path

        def main():
            checkpoint = Path(os.environ["KINETIC_OUTPUT_DIR"], "step")
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            if checkpoint.exists():
                return checkpoint.read_text(), os.environ["KINETIC_RESTART_COUNT"]
            checkpoint.write_text("step 7")
            print("saved", flush=True)
            time.sleep(600)
        """
    job = Job(tmp_path / "store", source)
    run = launch(launcher, job, str(SPOT))
    while b"saved" not in run.output:
        run.until(Phase.PENDING, Phase.RUNNING, seconds=60)
    pod = cluster.wait_for("pods", lambda item: item["status"].get("phase") == "Running")
    cluster.preempt(pod["metadata"]["name"])
    assert run.end(60).phase is Phase.SUCCEEDED
    assert job.value() == ("step 7", "1")


def test_a_cancelled_function_cleans_up_and_is_gone_within_15_seconds(cluster, launcher, tmp_path):
    source = """
        import time

        def main():
            print("working", flush=True)
            try:
                time.sleep(600)
            finally:
                print("cleaned up", flush=True)
        """
    job = Job(tmp_path / "store", source)
    run = launch(launcher, job)
    while b"working" not in run.output:
        run.until(Phase.PENDING, Phase.RUNNING, seconds=60)
    begun = time.monotonic()
    launcher.stop(RUN_ID, 15)
    ended = run.look()
    assert time.monotonic() - begun < 15
    assert ended.phase is Phase.GONE
    assert b"cleaned up" in run.output
    assert not cluster.list("pods")


def test_every_host_of_a_slice_runs_and_the_first_one_returns(cluster, launcher, tmp_path):
    source = """
        import os

        def main():
            names = os.environ["KINETIC_HOSTNAMES"]
            assert names == os.environ["TPU_WORKER_HOSTNAMES"], "what GKE says"
            assert os.environ["TPU_WORKER_ID"] == os.environ["JOB_COMPLETION_INDEX"]
            return int(os.environ["TPU_WORKER_ID"]), len(names.split(","))
        """
    job = Job(tmp_path / "store", source, changes={"hosts": 2})
    run = launch(launcher, job, str(SLICE))
    assert run.end(60).phase is Phase.SUCCEEDED
    assert job.value() == (0, 2)
    assert cluster.list("jobs")[0]["status"]["succeeded"] == 2


def test_a_failing_hosts_exception_is_the_runs_and_the_other_host_is_stopped(
    cluster, launcher, tmp_path
):
    source = """
        import os, time

        def main():
            if os.environ["JOB_COMPLETION_INDEX"] == "1":
                raise RuntimeError("chip 3 is bad")
            time.sleep(600)
        """
    job = Job(tmp_path / "store", source, changes={"hosts": 2})
    run = launch(launcher, job, str(SLICE))
    ended = run.end(60)
    assert (ended.phase, ended.exit_code) == (Phase.FAILED, 1)
    assert ended.reason == "host 1 ended with exit code 1: the function raised"
    assert job.envelope().header.message == "host 1: chip 3 is bad"
    assert not [pod for pod in cluster.list("pods") if pod["status"]["phase"] == "Running"]


def test_a_slice_starts_again_as_a_whole_when_one_host_is_preempted(cluster, launcher, tmp_path):
    source = """
        import os, time

        def main():
            index, count = os.environ["TPU_WORKER_ID"], os.environ["KINETIC_RESTART_COUNT"]
            print(f"host {index} in start {count}", flush=True)
            if count == "0":
                time.sleep(600)
            return index, count
        """
    changes = {"hosts": 2, "max_preemptions": 1}
    job = Job(tmp_path / "store", source, changes=changes)
    run = launch(launcher, job, str(SLICE), max_preemptions=1)
    while b"host 0 in start 0" not in run.output:
        run.until(Phase.PENDING, Phase.RUNNING, seconds=60)
    second = cluster.wait_for("pods", lambda item: started_as(item, "1"))["metadata"]["name"]
    # A host that has not begun before it is preempted is not missed by the others.
    while b"host 1 in start 0" not in cluster.output(second):
        run.until(Phase.RUNNING)
    cluster.preempt(second)
    assert run.end(60).phase is Phase.SUCCEEDED
    assert job.value() == ("0", "1")
    assert b"every host of the slice starts again" in run.output
    assert b"host 0 in start 1" in run.output
    pods = [pod["metadata"]["name"].rsplit("-", 2)[1] for pod in cluster.list("pods")]
    assert sorted(pods) == ["0", "1", "1"], "only the preempted host has another pod"


def started_as(pod: dict[str, Any], index: str) -> bool:
    annotations = pod["metadata"].get("annotations") or {}
    is_it = annotations.get("batch.kubernetes.io/job-completion-index") == index
    return is_it and pod["status"].get("phase") == "Running"
