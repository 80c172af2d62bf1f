"""Room for another Job where a quota counts the Jobs of a namespace.

A finished Job counts like any other for as long as it is there. One whose run succeeded has left
everything elsewhere, so it gives way to a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused, jobs_path
from kinetic_flows.platforms.gke.diagnosis import COUNTED_JOBS, condition
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL

READ_SECONDS = 60.0
"""How long after its end a Job stays in any case, for those who read its pods' output."""


def is_full(refusal: KubernetesRefused) -> bool:
    """Whether a Job was refused because a quota allows no more of them."""
    return refusal.status == HTTPStatus.FORBIDDEN and COUNTED_JOBS in refusal.body


async def spare_jobs(client: KubernetesClient, namespace: str) -> list[dict[str, Any]]:
    """Return the Jobs of runs that succeeded a while ago, oldest first.

    Args:
        client: The cluster.
        namespace: Where they are.

    Raises:
        LaunchError: The cluster does not tell.
    """
    query = {"labelSelector": RUN_ID_POD_LABEL}
    found = await client.ask_within("GET", jobs_path(namespace), query=query)
    now = datetime.now(UTC)
    ended = [
        job
        for job in found.get("items") or ()
        if (at := _completed(job)) and (now - at).total_seconds() > READ_SECONDS
    ]
    return sorted(ended, key=lambda job: str(job["status"]["completionTime"]))


async def make_room(client: KubernetesClient, namespace: str) -> bool:
    """Delete the oldest Job that nobody needs; return whether there was one.

    Args:
        client: The cluster.
        namespace: Where it is.

    Raises:
        LaunchError: The cluster refuses, or does not answer.
    """
    for job in await spare_jobs(client, namespace):
        options = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": job["metadata"]["uid"]},
        }
        try:
            path = jobs_path(namespace, job["metadata"]["name"])
            await client.ask_within("DELETE", path, body=options)
        except KubernetesRefused as refusal:
            if refusal.status not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                raise
            # Another client was faster; the next one may still be there.
            continue
        return True
    return False


def _completed(job: Mapping[str, Any]) -> datetime | None:
    at = (job.get("status") or {}).get("completionTime")
    return datetime.fromisoformat(at) if at and condition(job, "Complete") else None
