"""Names of a cluster's buckets, repository and work pool, which follow from its settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from kinetic_flows.core.slug import slug

WORK_POOL = "kinetic-gke"
"""The Kubernetes work pool that runs are launched on."""

MAX_BUCKET_CHARACTERS = 63


def region(zone: str) -> str:
    """Region of a zone, such as `us-central1` of `us-central1-a`; a region is its own."""
    parts = zone.split("-")
    return zone if parts[-1][-1:].isdigit() else "-".join(parts[:-1])


def jobs_bucket(project: str, cluster: str) -> str:
    """Bucket of a cluster's runs: code, payloads, results."""
    return _bucket(project, cluster, "jobs")


def builds_bucket(project: str, cluster: str) -> str:
    """Bucket of a cluster's builds: their sources and logs."""
    return _bucket(project, cluster, "builds")


def cluster_repository(project: str, zone: str, cluster: str) -> str:
    """Artifact Registry repository of a cluster's images.

    An organisation's old project, `example.com:name`, is written there with a slash.
    """
    return f"{region(zone)}-docker.pkg.dev/{project.replace(':', '/')}/kn-{cluster}"


def _bucket(project: str, cluster: str, purpose: str) -> str:
    """Name a bucket: names are shared by all the world, so the project is part of it."""
    name = f"{slug(project)}-kn-{cluster}-{purpose}"
    if len(name) <= MAX_BUCKET_CHARACTERS:
        return name
    digest = hashlib.sha256(f"{project}/{cluster}".encode()).hexdigest()[:8]
    ending = f"-{digest}-{purpose}"
    return name[: MAX_BUCKET_CHARACTERS - len(ending)].rstrip("-") + ending


def api_url(api: str, endpoints: Mapping[str, str]) -> str:
    """Return the URL of a Google API that is asked by REST.

    Args:
        api: First word of its host, such as `container`.
        endpoints: Other endpoints, by that word; see the setting `api_endpoints`.
    """
    address = endpoints.get(api, f"{api}.googleapis.com")
    return address if "://" in address else f"https://{address}"
