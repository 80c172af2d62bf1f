"""Values of Kubernetes Secrets in pods, and keys of what is sealed, in the cluster's objects."""

from __future__ import annotations

import copy
import json
from typing import Any

import kubernetes_validate
import pytest

from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import (
    COMPILE_CACHE_KEY_VARIABLE,
    RUN_KEY_VARIABLE,
    SEAL_KEY_VARIABLE,
)
from kinetic_flows.core.job_parts import SecretSpec
from kinetic_flows.core.launcher import LaunchRequest
from kinetic_flows.core.options import RunOptions
from kinetic_flows.platforms.gke.handover import launch_variables, secret_values
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.secret_references import (
    secret_obstacle,
    secret_variables,
    secrets_of_pod,
)

RUN = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e"
OF_CLUSTER = SecretSpec(variable="WANDB_API_KEY", kind="k8s", name="wandb", key="key")
OTHERS = (
    SecretSpec(variable="HF_TOKEN", kind="secret-manager", name="hf-token", project="p"),
    SecretSpec(variable="TOKEN", kind="sealed"),
)
REFERENCE = {
    "name": "KINETIC_VALUE_OF_WANDB_API_KEY",
    "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "key"}},
}


def _variables(*secrets: SecretSpec) -> dict[str, Any]:
    return job_variables(
        PodRequest(
            run_id=RUN,
            name="train",
            image="reg/app@sha256:1",
            accelerator=parse_accelerator("cpu"),
            environment={"HOME": "/home/kinetic"},
            secrets=secrets,
        )
    )


def _container(*secrets: SecretSpec) -> dict[str, Any]:
    job = render_job(base_job_template(), _variables(*secrets), run_id=RUN, name="train")
    kubernetes_validate.validate(job, "1.31", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def test_a_pod_gets_a_value_by_reference_beside_its_other_variables() -> None:
    plain, with_secret = _container(), _container(OF_CLUSTER, *OTHERS)
    assert with_secret["env"] == [*plain["env"], REFERENCE]
    assert {"name": "HOME", "value": "/home/kinetic"} in plain["env"]


def test_only_secrets_of_the_cluster_are_in_its_job() -> None:
    assert secret_variables(OTHERS) == {}
    assert "secret_env" not in _variables(*OTHERS)
    assert "hf-token" not in json.dumps(_container(*OTHERS))


def test_options_tell_which_keys_pods_are_to_have() -> None:
    options = RunOptions().updated({"secrets": {"A": "k8s:s/k", "B": "env:B"}})
    assert [source.variable for source in secrets_of_pod(options)] == ["A"]
    assert secrets_of_pod(RunOptions()) == ()


def test_a_template_of_an_earlier_version_is_named_where_it_matters() -> None:
    template = copy.deepcopy(base_job_template())
    del template["variables"]["properties"]["secret_env"]
    wanted = secrets_of_pod(RunOptions().updated({"secrets": {"A": "k8s:s/k"}}))
    assert secret_obstacle(wanted, base_job_template()) == ""
    assert secret_obstacle((), template) == ""
    told = secret_obstacle(wanted, template)
    assert told.startswith("the work pool's template has no variable secret_env, by which pods get")
    assert "`kinetic pool create`" in told


@pytest.mark.parametrize("name", [RUN_KEY_VARIABLE, SEAL_KEY_VARIABLE, COMPILE_CACHE_KEY_VARIABLE])
def test_keys_are_handed_over_in_the_runs_secret_and_not_in_its_job(name: str) -> None:
    request = LaunchRequest(
        run_id=RUN,
        name="train",
        image=ResolvedImage(reference="reg/app@sha256:1", digest="sha256:1", labels={}),
        environment={name: "ab" * 32, "KINETIC_JOB": "gs://b/runs/1/job.json"},
        job_variables=_variables(OF_CLUSTER),
    )
    variables = launch_variables(request, "train-1", "default")
    assert "ab" * 32 not in json.dumps(variables)
    assert secret_values(request.environment) == {name: "ab" * 32}
    assert variables["secret_env"] == [REFERENCE]
