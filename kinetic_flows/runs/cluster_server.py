"""The way to a cluster's Prefect server, opened by whoever needs it and finds it closed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.clients.prefect.connections import Connection, saved_connections
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.progress import Progress

if TYPE_CHECKING:
    from kinetic_flows.clients.kubernetes import access, client
    from kinetic_flows.core.settings import cloud
    from kinetic_flows.platforms.gke import platform
    from kinetic_flows.platforms.gke.setup.prefect import prefect_connection
else:
    # Most have no server in a cluster.
    access = LazyModule("kinetic_flows.clients.kubernetes.access")
    client = LazyModule("kinetic_flows.clients.kubernetes.client")
    cloud = LazyModule("kinetic_flows.core.settings.cloud")
    platform = LazyModule("kinetic_flows.platforms.gke.platform")
    prefect_connection = LazyModule("kinetic_flows.platforms.gke.setup.prefect.prefect_connection")

LOOPBACK = "://127.0.0.1:"
LOOK_SECONDS = 2.0

_looked: set[str] = set()
_lock = threading.Lock()


def open_way(api_url: str, home: Path, environ: Mapping[str, str], progress: Progress) -> None:
    """Open the way to a cluster's server at its port of this machine, unless somebody has.

    It is open for as long as this process lives. Of each API it is seen to once.

    Args:
        api_url: The API that is used, whatever it is.
        home: `KINETIC_HOME`, which remembers the servers that were connected to.
        environ: This process's variables.
        progress: Told that it takes a moment.

    Raises:
        KineticError: The cluster cannot be reached, or its server does not run.
    """
    if LOOPBACK not in api_url:
        return
    with _lock:
        if api_url in _looked:
            return
        known = saved_connections(home).values()
        connection = next((each for each in known if each.api_url == api_url), None)
        if connection is not None and not _listens(connection.port):
            _open(connection, environ, progress)
        _looked.add(api_url)


def _open(connection: Connection, environ: Mapping[str, str], progress: Progress) -> None:
    progress.notice(
        f"opening the way to the Prefect server of cluster {connection.cluster} "
        "(`kinetic server connect` keeps it open)"
    )
    reached = client.KubernetesClient(access_to(connection, environ))
    try:
        prefect_connection.open_server(reached, connection.cluster, port=connection.port)
    except ConfigurationError:
        # Somebody was faster.
        if not _listens(connection.port):
            raise


def access_to(connection: Connection, environ: Mapping[str, str]) -> access.ClusterAccess:
    """Return how the cluster of a server is reached.

    Args:
        connection: The server.
        environ: This process's variables.

    Raises:
        ConfigurationError: Nothing says how.
    """
    if not connection.project:
        return access.find_access(environ)
    said = {
        "project": connection.project,
        "zone": connection.zone,
        "cluster": connection.cluster,
    }
    settings = cloud.resolve_cloud(arguments=said, environ=environ, profile=None)
    return access.find_access(environ, platform.gke_cluster(settings, None))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=LOOK_SECONDS).close()
    except OSError:
        return False
    return True
