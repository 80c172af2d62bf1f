"""Which clusters can mount an image as a volume, and what a run's pod asks of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from kinetic_flows.clients.kubernetes.access import GkeCluster
from kinetic_flows.clients.kubernetes.client import KubernetesRefused
from kinetic_flows.clients.kubernetes.node_pools import gke_node_pools
from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core.accelerators import NodePool, parse_accelerator
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.job_parts import PackagesSpec
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.core.settings.pool_variables import check_job_variables
from kinetic_flows.platforms.gke.image_volumes import (
    keeps_image_volume,
    may_know_image_volumes,
    mounts_images,
    node_obstacle,
    server_obstacle,
)
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.launch_needs import launch_needs
from kinetic_flows.platforms.gke.manifests import base_job_template, trial_job
from kinetic_flows.platforms.gke.pool_preflight import check_nodes
from kinetic_flows.platforms.gke.preflight_request import PreflightRequest

RUN = "11111111-2222-4333-8444-555555555555"
DIGEST = "sha256:" + "0" * 64
PACKAGES = PackagesSpec(image=f"r.example/p/packages@{DIGEST}", identity="abc")


def pod_of(packages: PackagesSpec | None, accelerator: str = "cpu") -> dict[str, Any]:
    variables = job_variables(
        PodRequest(
            run_id=RUN,
            name="train",
            image=f"r.example/base@{DIGEST}",
            accelerator=parse_accelerator(accelerator),
            environment={"KINETIC_JOB": "gs://b/job.json"},
            packages=packages,
        )
    )
    job = render_job(base_job_template(), variables, run_id=RUN, name="train")
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("accelerator", ["cpu", "tpu-v5p-2x2x2"])
def test_every_pod_of_a_run_has_its_packages_mounted_by_digest_and_read_only(
    accelerator: str,
) -> None:
    pod = pod_of(PACKAGES, accelerator)
    assert pod["volumes"][-1] == {
        "name": "kinetic-packages",
        "image": {"reference": PACKAGES.image, "pullPolicy": "IfNotPresent"},
    }
    (container,) = pod["containers"]
    assert container["volumeMounts"][-1] == {
        "name": "kinetic-packages",
        "mountPath": "/opt/kinetic/packages",
        "readOnly": True,
    }
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["KINETIC_PACKAGES"] == "/opt/kinetic/packages"
    assert environment["KINETIC_JOB"] == "gs://b/job.json"


def test_a_pod_that_mounts_no_packages_has_the_volumes_it_had() -> None:
    pod = pod_of(None)
    assert [each["name"] for each in pod["volumes"]] == ["shared-memory", "temporary", "home"]
    assert len(pod["containers"][0]["volumeMounts"]) == 3


@pytest.mark.parametrize(
    ("runtime", "mounts"),
    [
        ("containerd://2.1.0", True),
        ("containerd://2.2.1-gke.3", True),
        ("containerd://10.0.0", True),
        ("containerd://2.0.6", False),
        ("containerd://1.7.27", False),
        ("cri-o://1.35.0", True),
        ("cri-o://1.30.2", False),
        ("docker://28.1.0", False),
        ("containerd://", False),
    ],
)
def test_runtimes_are_known_by_name_and_version(runtime: str, mounts: bool) -> None:
    assert mounts_images(runtime) is mounts


def obstacle(server: str = "v1.35.0", **about: str) -> str:
    return node_obstacle([NodePool(name="default"), NodePool(name="new", **about)], server)  # type: ignore[arg-type]


def test_nodes_are_judged_by_what_they_tell_and_the_sentence_names_the_versions() -> None:
    assert obstacle() == ""
    assert obstacle(kubelet="v1.35.2-gke.100", runtime="containerd://2.1.4") == ""
    assert obstacle(kubelet="v1.34.1", runtime="containerd://2.1.4") == (
        "nodes of the pool new have Kubernetes v1.34.1, and image volumes need 1.35"
    )
    assert obstacle(kubelet="v1.35.0", runtime="containerd://2.0.5") == (
        "nodes of the pool new have containerd 2.0.5, and image volumes need containerd 2.1 or "
        "cri-o 1.31"
    )


def test_an_older_server_that_takes_them_is_believed_to_have_nodes_that_do() -> None:
    assert obstacle("v1.33.4", kubelet="v1.33.4") == ""
    assert "need 1.31" in obstacle("v1.33.4", kubelet="v1.30.9")
    assert obstacle("", kubelet="v1.34.0") == ""


def test_gkes_node_pools_tell_their_version_when_they_have_no_node() -> None:
    (pool,) = gke_node_pools({"nodePools": [{"name": "tpus", "version": "1.33.4-gke.1134000"}]})
    assert node_obstacle([pool], "v1.35.1-gke.7").startswith("nodes of the pool tpus have")


class Nodes:
    """A GKE cluster of which nothing is asked but its nodes."""

    access = GkeCluster(project="my-project", location="us-central1-a", name="tpus")

    def __init__(self, runtime: str | None) -> None:
        self.runtime = runtime
        self.asked: list[str] = []

    async def ask_within(self, _method: str, path: str) -> dict[str, Any]:
        self.asked.append(path)
        if self.runtime is None:
            raise KubernetesRefused(403, "no", "GET")
        info = {"kubeletVersion": "v1.35.1", "containerRuntimeVersion": self.runtime}
        return {"items": [{"metadata": {"labels": {}}, "status": {"nodeInfo": info}}]}


@pytest.mark.parametrize(
    ("runtime", "begins"),
    [("containerd://2.0.6", "nodes of the pool unnamed"), ("containerd://2.1.4", ""), (None, "")],
)
def test_gkes_nodes_are_asked_what_their_pools_do_not_tell(
    runtime: str | None, begins: str
) -> None:
    cluster: Any = Nodes(runtime)
    request = PreflightRequest(
        accelerator=parse_accelerator("cpu"), packages="auto", server="v1.35.1-gke.7"
    )
    found = asyncio.run(check_nodes(cluster, request))
    assert (found.no_image_volumes or "").startswith(begins)
    assert bool(found.no_image_volumes) is bool(begins)
    assert cluster.asked == ["/api/v1/nodes"]
    asyncio.run(check_nodes(cluster, replace(request, packages="install")))
    assert len(cluster.asked) == 1


def test_what_a_server_makes_of_a_trial_tells_whether_it_takes_them() -> None:
    tried = trial_job("default", None, {}, mounts_image=True)
    assert keeps_image_volume(tried)
    pod = tried["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "kinetic-packages", "emptyDir": {}}]
    assert not keeps_image_volume(tried)
    assert not keeps_image_volume(trial_job("default", None, {}))
    assert "Kubernetes v1.33.4" in server_obstacle("v1.33.4")
    assert [may_know_image_volumes(each) for each in ("", "v1.31.0", "v1.30.9")] == [
        True,
        True,
        False,
    ]


def needs(mode: Any, template: dict[str, Any], **environ: str) -> tuple[str, str]:
    cloud = resolve_cloud(arguments={"project": "my-project"}, environ=environ, profile=None)
    found = launch_needs(parse_accelerator("cpu"), mode, {}, template, None, cloud.prebuilt)
    return found.packages, found.no_packages_volume


def test_only_a_prebuilt_run_needs_to_know_and_an_older_template_has_no_place() -> None:
    template = base_job_template()
    assert needs("prebuilt", template) == ("auto", "")
    assert needs("bundled", template)[0] == "install"
    assert needs("prebuilt", template, KINETIC_PREBUILT="Install")[0] == "install"
    del template["variables"]["properties"]["packages_volume"]
    del template["variables"]["properties"]["packages_mount"]
    way, why = needs("prebuilt", template, KINETIC_PREBUILT="volume")
    assert way == "volume"
    assert why == (
        "the work pool's template has no variable packages_mount and packages_volume; "
        "`kinetic pool create` brings it up to date"
    )


def test_nobody_sets_the_volume_by_hand() -> None:
    with pytest.raises(ConfigurationError, match="decided elsewhere") as caught:
        check_job_variables({"packages_volume": {}}, "job_variables")
    assert "KINETIC_PREBUILT" in str(caught.value.hint)
    assert RunOptions(job_variables={}).job_variables == {}
