"""The GKE cluster that this process is a pod of, as Google's metadata server names it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from http.client import HTTPConnection, HTTPException

METADATA_HOST = "169.254.169.254"
METADATA_TIMEOUT_SECONDS = 1.0

_FLAVOR = "Metadata-Flavor"


def own_cluster(environ: Mapping[str, str]) -> str | None:
    """Return the cluster's full name in the Kubernetes Engine API; None when nothing tells it.

    On GKE every pod can ask, with Workload Identity Federation and without:
    https://cloud.google.com/kubernetes-engine/docs/concepts/workload-identity#metadata_server

    Args:
        environ: This process's variables; `GCE_METADATA_HOST` is the server's address, as it is
            for Google's own clients.
    """
    try:
        return _asked(environ.get("GCE_METADATA_HOST") or METADATA_HOST)
    except (OSError, HTTPException):
        return None


@lru_cache(maxsize=1)
def _asked(host: str) -> str:
    """Ask once; a server that does not answer is asked again the next time."""
    project = _read(host, "project/project-id")
    location = _read(host, "instance/attributes/cluster-location")
    name = _read(host, "instance/attributes/cluster-name")
    return f"projects/{project}/locations/{location}/clusters/{name}"


def _read(host: str, path: str) -> str:
    # Never through a proxy: the address is a pod's own.
    connection = HTTPConnection(host, timeout=METADATA_TIMEOUT_SECONDS)
    try:
        url = f"/computeMetadata/v1/{path}"
        connection.request("GET", url, headers={_FLAVOR: "Google"})
        answer = connection.getresponse()
        if answer.status != 200 or answer.getheader(_FLAVOR) != "Google":
            raise HTTPException(f"{host} answers {answer.status}")
        return answer.read().decode().strip()
    finally:
        connection.close()
