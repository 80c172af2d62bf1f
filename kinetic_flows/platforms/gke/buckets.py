"""The cluster's buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.settings.cloud_names import region

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from kinetic_flows.core.settings.cloud import CloudSettings


def open_bucket(name: str, cloud: CloudSettings, credentials: Credentials | None) -> GoogleStore:
    """Return one of the cluster's buckets."""
    return GoogleStore(
        name,
        project=cloud.project,
        location=region(cloud.zone),
        endpoint=cloud.storage_endpoint,
        credentials=credentials,
    )
