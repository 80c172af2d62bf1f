"""Whether a cluster's pods can reach an address of this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def loopback_warning(prefect_api_url: str | None, cluster_url: str) -> str | None:
    """Say what it means that pods elsewhere cannot report to this machine; None when they can.

    Args:
        prefect_api_url: Where pods are to report; None when that is not known.
        cluster_url: The cluster's API server.
    """
    reach = True if not prefect_api_url else is_reachable(prefect_api_url, cluster_url)
    if reach:
        return None
    if reach is None:
        return (
            f"the Prefect API {prefect_api_url} is this machine's own, and so is the cluster's "
            "address: where pods have a network of their own (kind, minikube, a tunnel to a "
            "cluster) they cannot reach it, and this client sets their run's states for as long as "
            "it waits; set PREFECT_API_URL to an address of this machine that pods can reach"
        )
    return (
        f"the Prefect API {prefect_api_url} is this machine's own, out of the pods' reach: while "
        "this client waits for the run, it sets its states and sends what its first host prints; "
        "task runs and the other hosts' output are not in the Prefect UI; set PREFECT_API_URL to "
        "a server that pods can reach"
    )


def is_reachable(url: str, cluster_url: str) -> bool | None:
    """Whether a cluster's pods can reach a URL; None where the two addresses do not tell.

    A cluster at this machine's own address may be one whose pods share its network, or not.

    Args:
        url: What they are to reach.
        cluster_url: The cluster's API server.
    """
    if not is_loopback(url):
        return True
    return None if is_loopback(cluster_url) else False


def is_loopback(url: str) -> bool:
    """Whether a URL is this machine's own, out of reach of others."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def for_pods(api_url: str, pods_api_url: str | None) -> str:
    """Return a Prefect API as pods reach it.

    Args:
        api_url: The API as this machine reaches it.
        pods_api_url: What the settings say that pods are to ask instead; None for nothing. It
            stands for a port of this machine alone: another server is one that is meant.
    """
    return pods_api_url if pods_api_url and is_loopback(api_url) else api_url
