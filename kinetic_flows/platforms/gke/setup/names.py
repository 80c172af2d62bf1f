"""Names and marks of what is made for a cluster: by them it is found again, and only it removed."""

from __future__ import annotations

import hashlib

MANAGED_LABEL = "kinetic-cluster"
"""A label of everything made here that has labels; its value is the cluster's name."""

PODS = "kinetic-runs"
"""The Kubernetes service account of runs' pods."""

WORKER = "kinetic-worker"
"""The Kubernetes service account of the Prefect worker in the cluster."""

PREFECT_NAMESPACE = "prefect"
"""The Kubernetes namespace of a Prefect server in the cluster."""

PODS_URL = f"http://prefect-server.{PREFECT_NAMESPACE}.svc/api"
"""The API of a Prefect server in the cluster as its pods reach it."""

QUEUE = "kinetic"
"""Kueue's queue of runs, in their namespace and of the whole cluster."""

DEFAULT_POOL = "kinetic-cpu"
"""The node pool without accelerators."""

MAX_ACCOUNT_CHARACTERS = 30
MAX_POOL_CHARACTERS = 40


def labels(cluster: str) -> dict[str, str]:
    """Return the labels of everything made for a cluster."""
    return {MANAGED_LABEL: cluster}


def description(cluster: str) -> str:
    """Return what stands in the description of what has no labels; it begins as `mark` does."""
    return f"{mark(cluster)} (kinetic up)"


def mark(cluster: str) -> str:
    """Return the words by which something without labels is known to be made for a cluster."""
    return f"kinetic-cluster={cluster}"


def is_marked(text: str, cluster: str) -> bool:
    """Whether a description says that something was made for a cluster."""
    return text == mark(cluster) or text.startswith(f"{mark(cluster)} ")


def account_id(cluster: str, purpose: str) -> str:
    """Return the id of a Google service account: 6 to 30 characters.

    https://cloud.google.com/iam/docs/service-accounts-create

    Args:
        cluster: The cluster's name.
        purpose: `nodes`, `builds`, `pods` or `launch`.
    """
    return _short(f"kn-{cluster}-{purpose}", f"-{purpose}", cluster, MAX_ACCOUNT_CHARACTERS)


def account_email(project: str, cluster: str, purpose: str) -> str:
    """Return the address of a Google service account; see `account_id`.

    A project of an organisation's domain is written the other way round in addresses.
    """
    domain, _, name = project.rpartition(":")
    where = f"{name}.{domain}" if domain else name
    return f"{account_id(cluster, purpose)}@{where}.iam.gserviceaccount.com"


def shortened(name: str, ending: str, limit: int) -> str:
    """Return a name with its ending, cut to a limit; what is cut is told apart by a digest."""
    return _short(f"{name}{ending}", ending, name, limit)


def router_name(cluster: str) -> str:
    """Return the name of the Cloud Router, and of its Cloud NAT."""
    return f"kn-{cluster}-nat"


def _short(name: str, ending: str, whole: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return name[: limit - len(ending) - 7].rstrip("-") + f"-{digest}{ending}"
