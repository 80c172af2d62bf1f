"""Volumes in pods of the loopback cluster, mounted for real, and what is said where they lack."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_runs import IMAGE, Launched, a_launcher

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from kinetic_flows.core.launcher import LaunchRequest, Phase
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher
from kinetic_flows.platforms.gke.volumes import Asked, mounted_places
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.runtime import MOUNTS
from runner_jobs import BOOTSTRAP, RUN_ID, Job

SOURCE = """
    import os
    def tries(path):
        try:
            open(os.path.join(path, "new"), "w").close()
        except OSError as error:
            return error.strerror
        return "written"
    def main(*paths):
        return {path: (sorted(os.listdir(path)), tries(path)) for path in paths}
"""
READ_ONLY = "Read-only file system"

CLAIM = VolumeSpec(path="/kinetic-test/d", kind="claim", claim="datasets", read_only=False)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=2))
        running.add_fuse_driver()
        (tmp_path / "corpus" / "c4" / "en").mkdir(parents=True)
        (tmp_path / "corpus" / "c4" / "en" / "0.txt").write_text("text")
        running.buckets.directories["corpus"] = tmp_path / "corpus"
        yield running


@pytest.fixture
def launcher(cluster: LoopbackCluster) -> Iterator[KubernetesLauncher]:
    with a_launcher(cluster) as made:
        yield made


def mounted(path: str = "c4/en") -> DataSpec:
    return DataSpec(
        kind="bucket",
        identity="1" * 64,
        source=f"gs://corpus/{path}",
        name="en",
        mode="mount",
        place={"bucket": "corpus", "path": path},
    )


def launch(launcher: KubernetesLauncher, job: Job, asked: Asked) -> Launched:
    pod = PodRequest(
        run_id=RUN_ID,
        name=job.function,
        image=IMAGE.reference,
        accelerator=parse_accelerator("cpu"),
        arguments=(str(BOOTSTRAP),),
        volumes=asked,
    )
    request = LaunchRequest(
        run_id=RUN_ID,
        name=job.function,
        image=IMAGE,
        environment=job.write(),
        job_variables=job_variables(pod),
    )
    launcher.start(request)
    return Launched(launcher=launcher, run_id=RUN_ID)


def a_job(tmp_path: Path, asked: Asked, *paths: str) -> Job:
    changes: dict[str, Any] = {"data": list(asked.data), "volumes": list(asked.volumes)}
    return Job(tmp_path / "store", SOURCE, args=paths, changes=changes)


@pytest.mark.skipif(
    bool(subprocess.run([sys.executable, MOUNTS, "[]"], capture_output=True).returncode),
    reason="no mount namespaces here",
)
def test_a_pod_finds_its_bucket_its_claim_and_its_scratch_disks(cluster, launcher, tmp_path):
    cluster.add_storage_class("late", "WaitForFirstConsumer")
    cluster.add_claim("datasets", phase="Pending", storage_class="late")
    volumes = (
        VolumeSpec(path="/kinetic-test/c4", kind="data", data=0),
        CLAIM,
        VolumeSpec(path="/kinetic-test/s", kind="scratch", size="1Gi", read_only=False),
        VolumeSpec(path="/kinetic-test/large", kind="scratch", size="1Ti", read_only=False),
    )
    data = mounted_places((mounted(), mounted("c4")), volumes)
    asked = Asked(data=data, volumes=volumes)
    paths = [*(volume.path for volume in volumes), "/kinetic/data/1"]
    job = a_job(tmp_path, asked, *paths)
    run = launch(launcher, job, asked)
    assert run.end(60).phase is Phase.SUCCEEDED, run.output
    assert job.value() == {
        "/kinetic-test/c4": (["0.txt"], READ_ONLY),
        "/kinetic-test/d": ([], "written"),
        "/kinetic-test/s": ([], "written"),
        "/kinetic-test/large": ([], "written"),
        "/kinetic/data/1": (["en"], READ_ONLY),
    }
    (claim,) = cluster.list("persistentvolumeclaims")
    assert claim["status"]["phase"] == "Bound"
    (pod,) = cluster.list("pods")
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["gke-gcsfuse-sidecar"]


def test_a_bucket_that_its_account_may_not_read_is_told_with_what_grants_it(
    cluster, launcher, tmp_path
):
    cluster.buckets.denied.add("corpus")
    asked = Asked(data=mounted_places((mounted(),), ()))
    run = launch(launcher, a_job(tmp_path, asked), asked)
    seen = run.until(Phase.PENDING, reason="gs://corpus")
    assert seen.cause == "volume"
    assert "gs://corpus cannot be mounted at /kinetic/data/0" in seen.reason
    assert "gcloud storage buckets add-iam-policy-binding gs://corpus" in seen.reason
    assert "subject/ns/default/sa/default" in seen.reason


def test_a_claim_that_is_not_there_is_told_while_the_run_waits(cluster, launcher, tmp_path):
    asked = Asked(volumes=(CLAIM,))
    run = launch(launcher, a_job(tmp_path, asked), asked)
    seen = run.until(Phase.PENDING, reason="there is no PersistentVolumeClaim 'datasets'")
    assert seen.cause == "volume"
