"""What the profile of a cluster says, by which runs find what was made for it."""

from __future__ import annotations

from typing import Any

from kinetic_flows.core.settings.cloud import DEFAULT_RETENTION_DAYS
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.names import PODS_URL
from kinetic_flows.platforms.gke.setup.request import SetupRequest


def profile_values(request: SetupRequest) -> dict[str, Any]:
    """Return the fields of the profile; those that are left out are as everywhere.

    The place is always said: another default of another version must not move it.

    Args:
        request: What was made.
    """
    values: dict[str, Any] = {
        "project": request.project,
        "zone": request.location,
        "cluster": request.cluster,
        "namespace": request.namespace,
        "work_pool": request.work_pool,
        "build_service_account": names.account_email(request.project, request.cluster, "builds"),
        "job_variables": {
            "service_account_name": names.PODS,
            **({"queue_name": names.QUEUE} if request.kueue else {}),
        },
    }
    if request.prefect == "cluster":
        values["pods_api_url"] = PODS_URL
    if request.retention_days != DEFAULT_RETENTION_DAYS:
        values["retention_days"] = request.retention_days
    return values
