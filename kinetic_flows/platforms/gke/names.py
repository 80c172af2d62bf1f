"""Names, labels and annotations of a run's objects in the cluster."""

from __future__ import annotations

from kinetic_flows.core.slug import slug

HEADLESS_SERVICE = "kinetic-hosts"
"""Service under which the hosts of a slice find one another; one per namespace."""

RUN_ID_POD_LABEL = "prefect.io/flow-run-id"
"""Label by which Prefect marks a run's Job and pods."""

SCHEDULE_TIMEOUT_ANNOTATION = "kinetic-flows/schedule-timeout-seconds"
"""Annotation of a Job that says how long it may wait for its pods; `none` for ever."""

MAX_JOB_NAME_CHARACTERS = 57
"""Leaves room for `-` and a host's number within the 63 characters of a host name."""


def kubernetes_job_name(name: str, run_id: str) -> str:
    """Name of a run's Job; the run's id in it makes a repeated creation find the first."""
    room = MAX_JOB_NAME_CHARACTERS - len(run_id) - 1
    return f"{slug(name)[:room].rstrip('-') or 'run'}-{run_id}"


def run_secret_name(job_name: str) -> str:
    """Name of the Secret that holds a run's key and API key."""
    return f"{job_name}-keys"
