"""Jobs of runs whose ids only the Prefect worker that starts them will know."""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.core.job import JOB_VARIABLE, JobSpec, PrefectSpec
from kinetic_flows.platforms.base import Platform


def unidentified(
    job: JobSpec, *, payload_name: str, outputs: str, parameters: bool = False
) -> JobSpec:
    """Return a job whose runner is told by a Prefect worker which run it is, and by whom.

    The runner reports where its worker does, with the worker's credentials: those of whoever
    launches the run never leave this machine.

    Args:
        job: The job without a run.
        payload_name: Where its payload is.
        outputs: Where runs keep their outputs.
        parameters: Whether the function is called with the flow run's parameters.
    """
    return replace(
        job,
        payload=replace(job.payload, name=payload_name),
        output_dir=outputs,
        prefect=PrefectSpec(
            api_url="",
            flow_run_id="",
            parameters=parameters,
            engine=bool(job.prefect and job.prefect.engine),
        ),
    )


def worker_environment(platform: Platform, job_name: str, digest: str) -> dict[str, str]:
    """Return the variables by which the process of a worker's run finds its job."""
    store_uri = platform.store.uri
    return {
        JOB_VARIABLE: f"{store_uri}/{job_name}",
        "KINETIC_JOB_SHA256": digest,
        "KINETIC_STORE": store_uri,
        **platform.runner_environment(),
    }
