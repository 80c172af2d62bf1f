"""A run's job variables, and the Jobs that Prefect's own worker makes of them."""

from __future__ import annotations

import asyncio
import copy
import shlex
import uuid
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from kinetic_flows.core.accelerators import list_accelerators, parse_accelerator
from kinetic_flows.core.settings.pool_variables import check_job_variables
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.manifests import (
    base_job_template,
    headless_service,
    owned_by_job,
    run_secret,
)
from kinetic_flows.platforms.gke.names import kubernetes_job_name

RUN_ID = "0f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f"
IMAGE = "us-docker.pkg.dev/p/kinetic/tpu@sha256:" + "1" * 64
VERSIONS = ("1.31", kubernetes_validate.latest_version())


def request(accelerator: str, **changes: Any) -> PodRequest:
    given: dict[str, Any] = {
        "run_id": RUN_ID,
        "name": "train",
        "image": IMAGE,
        "accelerator": parse_accelerator(accelerator),
        "environment": {"KINETIC_JOB": "gs://b/runs/r/job.json"},
    }
    return PodRequest(**{**given, **changes})


def rendered(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the Job that Prefect's worker would create."""
    configuration = asyncio.run(_configuration(variables))
    flow_run = FlowRun(id=uuid.UUID(RUN_ID), name="train", flow_id=uuid.uuid4())
    configuration.prepare_for_flow_run(flow_run)
    return configuration.job_manifest


async def _configuration(variables: dict[str, Any]) -> KubernetesWorkerJobConfiguration:
    # A client of its own keeps Prefect from starting a server; nothing is asked of it.
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        return await KubernetesWorkerJobConfiguration.from_template_and_values(
            base_job_template(), variables, client=client
        )


def validated(job: dict[str, Any]) -> dict[str, Any]:
    """Check a Job strictly, but for two fields that Prefect's worker wants in the pod spec."""
    checked = copy.deepcopy(job)
    del checked["spec"]["template"]["spec"]["parallelism"]
    del checked["spec"]["template"]["spec"]["completions"]
    for version in VERSIONS:
        kubernetes_validate.validate(checked, version, strict=True)
    return job


def container(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]["containers"][0]


COMMON = {
    "job_name": f"train-{RUN_ID}",
    "image": IMAGE,
    "entrypoint": ["python3", "-u"],
    "command": "/app/remote_runner.py",
    "env": {"KINETIC_JOB": "gs://b/runs/r/job.json"},
    "namespace": "default",
}


def test_a_cpu_run_asks_for_no_particular_node():
    assert job_variables(request("cpu")) == {
        **COMMON,
        "hosts": 1,
        "backoff_limit": 0,
        "cpu": "250m",
        "memory_request": "1Gi",
        "tolerations": [],
    }


def with_devices(devices: str, **more: str) -> dict[str, str]:
    return {**COMMON["env"], "KINETIC_DEVICES": devices, **more}  # type: ignore[dict-item]


def test_a_gpu_run_asks_for_its_model_and_number():
    assert job_variables(request("a100x4")) == {
        **COMMON,
        "env": with_devices("gpu:4"),
        "hosts": 1,
        "backoff_limit": 0,
        "gpu_accelerator": "nvidia-tesla-a100",
        "gpu_count": 4,
        "cpu": "35",
        "memory_request": "240Gi",
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }


def test_a_single_host_tpu_run_is_a_plain_job():
    assert job_variables(request("tpu-v6e-8")) == {
        **COMMON,
        "env": with_devices("tpu:8"),
        "hosts": 1,
        "backoff_limit": 0,
        "tpu_accelerator": "tpu-v6e-slice",
        "tpu_topology": "2x4",
        "tpu_chips": 8,
        "cpu": "134",
        "memory_request": "1036Gi",
        "tolerations": [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}],
    }


def test_nodes_with_gpus_are_an_indexed_job_with_the_gpus_of_one_node_each():
    names = [f"train-{RUN_ID}-{index}.kinetic-hosts" for index in range(3)]
    asked = replace(
        request("a100x4", max_preemptions=2), accelerator=parse_accelerator("a100x4").times(hosts=3)
    )
    assert job_variables(asked) == {
        **COMMON,
        "env": with_devices(
            "gpu:4",
            KINETIC_HOSTS="3",
            KINETIC_HOSTNAMES=",".join(names),
            KINETIC_COORDINATOR_ADDRESS=f"{names[0]}:8476",
        ),
        "hosts": 3,
        "completion_mode": "Indexed",
        "subdomain": "kinetic-hosts",
        "backoff_limit": 6,
        "gpu_accelerator": "nvidia-tesla-a100",
        "gpu_count": 4,
        "cpu": "35",
        "memory_request": "240Gi",
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }


def test_a_multi_host_tpu_run_is_an_indexed_job_whose_hosts_know_one_another():
    names = [f"train-{RUN_ID}-{index}.kinetic-hosts" for index in range(2)]
    assert job_variables(request("tpu-v5p-2x2x2", max_preemptions=2)) == {
        **COMMON,
        "env": with_devices(
            "tpu:4",
            KINETIC_HOSTS="2",
            KINETIC_HOSTNAMES=",".join(names),
            KINETIC_COORDINATOR_ADDRESS=f"{names[0]}:8476",
        ),
        "hosts": 2,
        "completion_mode": "Indexed",
        "subdomain": "kinetic-hosts",
        "backoff_limit": 4,
        "tpu_accelerator": "tpu-v5p-slice",
        "tpu_topology": "2x2x2",
        "tpu_chips": 4,
        "cpu": "155",
        "memory_request": "318Gi",
        "tolerations": [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}],
    }


def test_an_images_own_variables_stay_and_what_it_lacks_for_its_accelerator_is_set():
    def environment(accelerator: str, image: dict[str, str]) -> dict[str, str]:
        variables = job_variables(request(accelerator, image_environment=image, environment={}))
        return variables["env"]

    assert environment("cpu", {}) == {}
    assert environment("l4", {"PATH": "/bin"}) == {
        "JAX_PLATFORMS": "cuda,cpu",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
        "PATH": "/bin:/usr/local/nvidia/bin",
        "KINETIC_DEVICES": "gpu:1",
    }
    own = {"JAX_PLATFORMS": "tpu"}
    assert environment("v5e-4", own) == {"KINETIC_DEVICES": "tpu:4"}


def test_a_spot_run_survives_three_preemptions():
    variables = job_variables(request("l4:spot"))
    assert variables["backoff_limit"] == 3
    assert variables["spot"] == "true"
    assert {
        "key": "cloud.google.com/gke-spot",
        "operator": "Equal",
        "value": "true",
        "effect": "NoSchedule",
    } in variables["tolerations"]


def test_max_preemptions_of_zero_holds_on_spot():
    assert job_variables(request("l4:spot", max_preemptions=0))["backoff_limit"] == 0


def test_arm_machines_are_tolerated():
    assert {
        "key": "kubernetes.io/arch",
        "operator": "Equal",
        "value": "arm64",
        "effect": "NoSchedule",
    } in job_variables(request("gb200"))["tolerations"]


WISHES: dict[str, Any] = {
    "cpu": "8",
    "memory": "64Gi",
    "ephemeral_storage": "100Gi",
    "shared_memory": "16Gi",
    "service_account_name": "runner",
    "priority_class_name": "high",
    "queue_name": "tpus",
    "labels": {"team": "vision"},
    "annotations": {"example.com/ticket": "42"},
    "tolerations": [{"key": "mine", "operator": "Exists"}],
    "env_from": [{"secretRef": {"name": "train-keys"}}],
    "image_pull_secrets": [{"name": "registry"}],
    "active_deadline_seconds": 7200,
    "finished_job_ttl": 600,
    "termination_grace_seconds": 20,
}


def test_every_wish_reaches_the_job():
    wishes = check_job_variables(WISHES, "job_variables")
    wanted = request(
        "tpu-v6e-8:spot", namespace="ml", schedule_timeout_seconds=90.0, variables=wishes
    )
    job = validated(rendered(job_variables(wanted)))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert job["metadata"]["namespace"] == "ml"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "tpus"
    assert job["metadata"]["labels"]["team"] == "vision"
    assert spec["template"]["metadata"]["labels"]["team"] == "vision"
    assert spec["template"]["metadata"]["annotations"]["example.com/ticket"] == "42"
    assert (spec["activeDeadlineSeconds"], spec["backoffLimit"]) == (7200, 3)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "2x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("runner", "high")
    assert (pod["terminationGracePeriodSeconds"], spec["ttlSecondsAfterFinished"]) == (20, 600)
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert job["metadata"]["annotations"]["kinetic-flows/schedule-timeout-seconds"] == "90"
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert pod["tolerations"][-1] == {"key": "mine", "operator": "Exists"}
    assert container(job)["envFrom"] == [{"secretRef": {"name": "train-keys"}}]
    # Of the disk, a request that is not said is the limit.
    assert container(job)["resources"] == {
        "requests": {
            "cpu": "8",
            "memory": "64Gi",
            "google.com/tpu": 8,
        },
        "limits": {"memory": "64Gi", "ephemeral-storage": "100Gi", "google.com/tpu": 8},
    }


def test_a_bug_never_starts_again_but_a_preemption_does_and_is_bounded():
    spec = validated(rendered(job_variables(request("l4:spot"))))["spec"]
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]
    assert spec["backoffLimit"] == 3
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_a_multi_host_job_has_a_pod_for_each_host():
    job = validated(rendered(job_variables(request("tpu-v6e-4x4"))))
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (4, 4, "Indexed")
    assert spec["template"]["spec"]["subdomain"] == "kinetic-hosts"
    assert container(job)["resources"]["limits"] == {"google.com/tpu": 4}


def test_the_headless_service_selects_the_pods_of_every_run():
    job = rendered(job_variables(request("tpu-v6e-4x4")))
    labels = job["spec"]["template"]["metadata"]["labels"]
    service = headless_service("default")
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]


def test_the_container_runs_the_entrypoint_and_then_the_arguments():
    source = "import sys; print('it''s', \"$HOME\", sys.argv)\n# \\ done"
    job = validated(rendered(job_variables(request("cpu", arguments=("-c", source)))))
    assert container(job)["command"] == ["python3", "-u"]
    assert container(job)["args"] == ["-c", source]


def test_a_bare_work_pool_still_makes_a_valid_job():
    job = validated(rendered({"image": IMAGE}))
    assert job["metadata"]["generateName"] == "train-"
    assert "name" not in job["metadata"]


def test_what_nobody_sets_is_left_to_the_work_pool():
    job = validated(rendered(job_variables(request("cpu"))))
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600
    assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30
    assert "priorityClassName" not in job["spec"]["template"]["spec"]


@pytest.mark.parametrize("variables", [{}, WISHES], ids=["plain", "with every wish"])
@pytest.mark.parametrize("row", list_accelerators(), ids=str)
def test_every_accelerator_makes_a_job_that_kubernetes_accepts(row, variables):
    job = validated(rendered(job_variables(request(str(row), variables=variables))))
    pod = job["spec"]["template"]["spec"]
    assert pod.get("nodeSelector", {}) == row.node_selector
    limits = container(job)["resources"].get("limits", {})
    devices = {name: str(value) for name, value in limits.items() if "/" in name}
    assert devices == row.resources


def test_every_variable_of_the_template_is_documented_and_used():
    template = base_job_template()
    text = str(template["job_configuration"])
    for name, schema in template["variables"]["properties"].items():
        assert f"{{{{ {name} }}}}" in text
        assert schema["title"]
        assert len(schema["description"]) >= 16


def test_every_variable_we_set_is_one_of_the_template():
    known = set(base_job_template()["variables"]["properties"])
    for text in ("cpu", "gb200:spot", "tpu-v5p-2x2x4:spot"):
        assert set(job_variables(request(text))) <= known


def test_the_service_and_the_secret_are_valid():
    secret = run_secret("keys", "ml", RUN_ID, {"KINETIC_RUN_KEY": "00"})
    job = {"metadata": {"name": "j", "uid": "u-1"}}
    secret["metadata"].update(owned_by_job(job)["metadata"])
    for manifest in (headless_service("ml"), secret):
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


@given(st.text(max_size=80))
def test_job_names_leave_room_for_the_number_of_a_host(name):
    job_name = kubernetes_job_name(name, RUN_ID)
    assert len(f"{job_name}-9999") <= 62
    assert job_name.endswith(RUN_ID)
    assert job_name == shlex.quote(job_name)
    assert not job_name.startswith("-")
