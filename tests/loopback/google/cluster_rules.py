"""What GKE says about a cluster that is asked for.

https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.cloud import container_v1 as api

from loopback.google.answers import cluster_quota, invalid
from loopback.google.machines import REGIONS, cpus_of, is_location
from loopback.google.state import Project

NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,38}[a-z0-9])?")
_PLACES = {
    "desired_cluster_autoscaling": ("", "autoscaling"),
    "desired_default_enable_private_nodes": ("network_config", "default_enable_private_nodes"),
}
"""Where in a cluster a change goes that is not called as what it changes."""

_LABEL = re.compile(r"[a-z][-_a-z0-9]{0,62}")
_LABEL_VALUE = re.compile(r"[-_a-z0-9]{0,63}")


def check_cluster(cluster: api.Cluster, location: str, project: Project) -> None:
    """Refuse a cluster that cannot be.

    Raises:
        GoogleRefusal: It cannot.
    """
    if not NAME.fullmatch(cluster.name):
        raise invalid(f"Invalid value for field cluster.name: {cluster.name!r}.")
    if not is_location(location):
        raise invalid(f"Location {location!r} does not exist.")
    check_labels(dict(cluster.resource_labels))
    pool = cluster.workload_identity_config.workload_pool
    if pool and pool != f"{project.id}.svc.id.goog":
        raise invalid(f"Workload pool must be {project.id}.svc.id.goog, not {pool!r}.")
    network = cluster.network.rpartition("/")[2] or "default"
    if network not in project.networks:
        raise invalid(f'Network "{network}" does not exist.')
    if cluster.autopilot.enabled:
        _check_autopilot(cluster, location)
    else:
        _check_standard(cluster)
    if cluster.private_cluster_config.enable_private_nodes and not (
        cluster.autopilot.enabled or cluster.ip_allocation_policy.use_ip_aliases
    ):
        raise invalid("Private nodes need a VPC-native cluster (use_ip_aliases).")


def _check_autopilot(cluster: api.Cluster, location: str) -> None:
    if location not in REGIONS:
        raise invalid("Autopilot clusters must be regional clusters.")
    if cluster.node_pools or cluster.initial_node_count or "node_config" in cluster:
        raise invalid("Node pools cannot be specified for Autopilot clusters.")


def _check_standard(cluster: api.Cluster) -> None:
    if cluster.node_pools and (cluster.initial_node_count or "node_config" in cluster):
        raise invalid("Cluster.initial_node_count and node_config cannot be set with node_pools.")
    if not cluster.node_pools and cluster.initial_node_count < 1:
        raise invalid("Cluster.initial_node_count must be greater than zero.")
    names = [pool.name for pool in cluster.node_pools]
    if len(names) != len(set(names)):
        raise invalid("Node pools must have different names.")


def check_labels(labels: dict[str, str]) -> None:
    """Refuse labels that resources cannot have.

    Raises:
        GoogleRefusal: There is one.
    """
    for key, value in labels.items():
        if not _LABEL.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise invalid(f"Invalid resource label {key}={value}.")


def check_quota(cluster: api.Cluster, project: Project) -> None:
    """Refuse nodes from the start that are more than a quota allows.

    Raises:
        GoogleRefusal: They are.
    """
    needed = sum(
        pool.initial_node_count * cpus_of(pool.config.machine_type) for pool in cluster.node_pools
    )
    if needed > project.limits["CPUS"]:
        raise cluster_quota("CPUS", needed, project.limits["CPUS"], project.id)


def check_update(update: Any, cluster: api.Cluster) -> Callable[[api.Cluster], None]:
    """Return what an update does; one thing at a time may be changed.

    Raises:
        GoogleRefusal: It is none, or several, or cannot be.
    """
    message = api.ClusterUpdate.pb(update)
    names = [field.name for field, _ in message.ListFields()]
    if len(names) != 1:
        raise invalid(f"Exactly one update can be applied with each request, not {names}.")
    (name,) = names
    where, field = _PLACES.get(name, ("", name.removeprefix("desired_")))
    place = api.Cluster.pb(cluster)
    place = getattr(place, where) if where else place
    if field not in place.DESCRIPTOR.fields_by_name:
        raise invalid(f"{name} is not known here.")
    wanted = getattr(update, name)

    def change(changed: api.Cluster) -> None:
        changed = getattr(changed, where) if where else changed
        into = type(changed).pb(changed)
        source = getattr(message, name)
        if hasattr(source, "DESCRIPTOR"):
            getattr(into, field).MergeFrom(source)
        else:
            setattr(changed, field, wanted)

    return change
