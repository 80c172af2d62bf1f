"""Opening the cluster that commands look into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kinetic_flows.core.settings.settings import Settings, process_environment

if TYPE_CHECKING:
    from kinetic_flows.clients.kubernetes.client import KubernetesClient


@contextmanager
def open_cluster(settings: Settings) -> Iterator[KubernetesClient]:
    """Open the cluster of the settings, or the one that kubectl would use.

    Raises:
        ConfigurationError: Nothing says which cluster, or its credentials cannot be used.
    """
    from kinetic_flows.clients.kubernetes.access import find_access
    from kinetic_flows.clients.kubernetes.client import KubernetesClient
    from kinetic_flows.platforms.gke.platform import gke_cluster

    cloud, gke = settings.cloud, None
    if cloud:
        gke = gke_cluster(cloud, cloud.credentials.load() if cloud.credentials else None)
    client = KubernetesClient(find_access(process_environment(), gke))
    try:
        yield client
    finally:
        client.close()
