"""A run's Job as it is created, beside the one that Prefect's own worker would create."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.job_parts import PackagesSpec
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.manifests import base_job_template

RUN = "11111111-2222-4333-8444-555555555555"


PACKAGES = PackagesSpec(image="registry/packages@sha256:" + "1" * 64, identity="abc")


def variables(accelerator: str, packages: PackagesSpec | None = None) -> dict[str, Any]:
    return job_variables(
        PodRequest(
            run_id=RUN,
            name="train",
            image="registry/image@sha256:" + "0" * 64,
            accelerator=parse_accelerator(accelerator),
            environment={"KINETIC_JOB": "gs://bucket/job.json"},
            packages=packages,
        )
    )


def rendered_by_prefect(accelerator: str, packages: PackagesSpec | None = None) -> dict[str, Any]:
    async def render() -> dict[str, Any]:
        # Without a client it would start a server; this one is never asked anything.
        client = PrefectClient("http://127.0.0.1:9/api")
        configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
            base_job_template(), variables(accelerator, packages), client=client
        )
        configuration.prepare_for_flow_run(FlowRun(id=UUID(RUN), flow_id=UUID(RUN), name="train"))
        manifest: dict[str, Any] = configuration.job_manifest
        return manifest

    return asyncio.run(render())


@pytest.mark.parametrize("accelerator", ["cpu", "l4", "tpu-v6e-8:spot", "tpu-v5p-2x2x2"])
def test_a_run_gets_the_job_that_a_worker_would_make_but_for_the_workers_own_settings(
    accelerator,
):
    ours = render_job(base_job_template(), variables(accelerator), run_id=RUN, name="train")
    theirs = rendered_by_prefect(accelerator)
    del theirs["metadata"]["generateName"]
    pod = theirs["spec"]["template"]["spec"]
    del pod["parallelism"], pod["completions"]
    environment = pod["containers"][0].pop("env")
    own = ours["spec"]["template"]["spec"]["containers"][0].pop("env")
    assert ours == theirs
    assert {"name": "PREFECT__FLOW_RUN_ID", "value": RUN} in environment
    assert not [each for each in own if each["name"].startswith("PREFECT")]
    assert all(each in environment for each in own)


def test_a_worker_mounts_the_packages_that_we_mount():
    ours = render_job(base_job_template(), variables("cpu", PACKAGES), run_id=RUN, name="train")
    pods = [
        each["spec"]["template"]["spec"] for each in (ours, rendered_by_prefect("cpu", PACKAGES))
    ]
    own, theirs = pods
    assert own["volumes"] == theirs["volumes"]
    assert own["volumes"][-1]["image"]["reference"] == PACKAGES.image
    mounts = [each["containers"][0]["volumeMounts"] for each in pods]
    assert mounts[0] == mounts[1]


def test_a_template_that_cannot_be_filled_is_an_error_that_names_the_command():
    template = base_job_template()
    del template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    with pytest.raises(LaunchError, match="job template cannot be filled") as caught:
        render_job(template, variables("cpu"), run_id=RUN, name="train")
    assert "kinetic pool create" in (caught.value.hint or "")


def test_rendering_works_where_an_event_loop_runs_already():
    async def within_a_loop() -> dict[str, Any]:
        return render_job(base_job_template(), variables("cpu"), run_id=RUN, name="train")

    assert asyncio.run(within_a_loop())["kind"] == "Job"
