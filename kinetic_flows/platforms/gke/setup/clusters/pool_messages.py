"""Node pools as the Kubernetes Engine API writes them, and what a pool differs in.

https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters.nodePools

What GKE adds by itself is left to it: the labels and taints of accelerators, the label of Spot VMs,
the disk's type (newer machines take none but Hyperdisk), and a version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.clusters.pool_options import pool_name
from kinetic_flows.platforms.gke.setup.request import PoolRequest, SetupRequest

if TYPE_CHECKING:
    from google.cloud import container_v1
else:
    container_v1 = LazyModule("google.cloud.container_v1")

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""What a node may do is decided by its service account's roles, as Google advises:
https://cloud.google.com/kubernetes-engine/docs/how-to/access-scopes"""

RESERVATION_KEY = "compute.googleapis.com/reservation-name"

CPU_DISK_GB = 100
ACCELERATOR_DISK_GB = 200
"""Images with CUDA have 5 to 10 GB, and what runs write is on this disk, too."""

_LATEST_DRIVER = frozenset({"nvidia-rtx-pro-6000", "nvidia-b200", "nvidia-gb200"})
"""Blackwell needs a driver of branch 570 or newer, which is the default of newer nodes only."""


def cpu_pool(request: SetupRequest) -> container_v1.NodePool:
    """Return the node pool without accelerators, which the cluster's own pods are on, too.

    It has a node at least: GKE's system pods have to run somewhere.
    """
    config = container_v1.NodeConfig(
        machine_type=request.machine_type,
        disk_size_gb=CPU_DISK_GB,
        **_common(request),
    )
    return container_v1.NodePool(
        name=names.DEFAULT_POOL,
        initial_node_count=1,
        config=config,
        autoscaling=_scaled(1, request.max_nodes, total=_is_regional(request)),
        management=_management(),
    )


def accelerator_pool(
    request: SetupRequest, pool: PoolRequest, *, account: str | None = None
) -> container_v1.NodePool:
    """Return the node pool of an accelerator, which has no nodes while nothing runs there.

    https://cloud.google.com/kubernetes-engine/docs/how-to/gpus,
    https://cloud.google.com/kubernetes-engine/docs/how-to/tpus and, of flex-start,
    https://cloud.google.com/kubernetes-engine/docs/how-to/provisioningrequest.

    Args:
        request: What is wanted of the cluster.
        pool: What is wanted of the pool.
        account: Service account of its nodes; None for the one that is made for the cluster.
    """
    accelerator = pool.accelerator
    config = container_v1.NodeConfig(
        machine_type=accelerator.machine_type,
        disk_size_gb=ACCELERATOR_DISK_GB,
        spot=accelerator.spot,
        # A pool of other nodes says nothing of it, as Terraform makes it.
        flex_start=accelerator.flex or None,
        accelerators=[_gpus(accelerator)] if accelerator.category == "gpu" else [],
        reservation_affinity=_reservation(pool),
        **_common(request, account),
    )
    is_slice = accelerator.hosts > 1
    has_zones = _is_regional(request) or len(pool.zones) > 1
    return container_v1.NodePool(
        name=pool_name(pool),
        initial_node_count=0,
        config=config,
        autoscaling=_scaled(
            0,
            pool.max_nodes,
            # Of all zones together; a slice is in one.
            total=has_zones and not is_slice,
            policy=container_v1.NodePoolAutoscaling.LocationPolicy.ANY,
        ),
        management=_management(repairs=not accelerator.flex),
        # The nodes of a slice are given together, to who asks for all of them.
        queued_provisioning=_queued() if accelerator.flex and is_slice else None,
        locations=list(pool.zones),
        placement_policy=_placement(accelerator) if is_slice else None,
        upgrade_settings=_upgrades(accelerator),
    )


def is_made_here(pool: container_v1.NodePool, cluster: str) -> bool:
    """Whether a node pool was made for this cluster by us."""
    return pool.config.resource_labels.get(names.MANAGED_LABEL) == cluster


def limits(pool: container_v1.NodePool) -> tuple[int, int] | None:
    """Return how many nodes a pool has at least and at most; None where it is not scaled."""
    scaling = pool.autoscaling
    if not scaling.enabled:
        return None
    return (
        scaling.total_min_node_count or scaling.min_node_count,
        scaling.total_max_node_count or scaling.max_node_count,
    )


def fixed_differences(wanted: container_v1.NodePool, found: container_v1.NodePool) -> Iterator[str]:
    """Yield what a node pool differs in that a pool cannot be changed in.

    Args:
        wanted: As it is wanted.
        found: As it is.
    """
    pairs = (
        ("machine type", wanted.config.machine_type, found.config.machine_type),
        ("accelerator", _accelerators(wanted), _accelerators(found)),
        ("Spot VMs", _yes(wanted.config.spot), _yes(found.config.spot)),
        ("flex-start", _yes(wanted.config.flex_start), _yes(found.config.flex_start)),
        ("topology", wanted.placement_policy.tpu_topology, found.placement_policy.tpu_topology),
        ("reservation", _reserved(wanted), _reserved(found)),
        ("zones", ", ".join(sorted(wanted.locations)), ", ".join(sorted(found.locations))),
    )
    for what, here, there in pairs:
        # A cluster's own zones are filled in where none were said.
        if here != there and not (what == "zones" and not here):
            yield f"{what}: {there or 'none'}, not {here or 'none'}"


def _common(request: SetupRequest, account: str | None = None) -> dict[str, object]:
    """Return what the nodes of all pools have."""
    metadata = container_v1.WorkloadMetadataConfig
    return {
        "service_account": account
        or names.account_email(request.project, request.cluster, "nodes"),
        "oauth_scopes": list(SCOPES),
        "resource_labels": names.labels(request.cluster),
        "shielded_instance_config": container_v1.ShieldedInstanceConfig(
            enable_integrity_monitoring=True
        ),
        "workload_metadata_config": metadata(mode=metadata.Mode.GKE_METADATA),
    }


def _gpus(accelerator: Accelerator) -> container_v1.AcceleratorConfig:
    """Return the GPUs of a node, whose driver GKE installs."""
    versions = container_v1.GPUDriverInstallationConfig.GPUDriverVersion
    is_latest = accelerator.label in _LATEST_DRIVER
    return container_v1.AcceleratorConfig(
        accelerator_count=accelerator.count,
        accelerator_type=accelerator.label,
        gpu_driver_installation_config=container_v1.GPUDriverInstallationConfig(
            gpu_driver_version=versions.LATEST if is_latest else versions.DEFAULT
        ),
    )


def _reservation(pool: PoolRequest) -> container_v1.ReservationAffinity | None:
    affinity = container_v1.ReservationAffinity
    if pool.accelerator.flex:
        return affinity(consume_reservation_type=affinity.Type.NO_RESERVATION)
    if pool.reservation is None:
        return None
    return affinity(
        consume_reservation_type=affinity.Type.SPECIFIC_RESERVATION,
        key=RESERVATION_KEY,
        values=[pool.reservation],
    )


def autoscaling_as(
    found: container_v1.NodePool, least: int, most: int
) -> container_v1.NodePoolAutoscaling:
    """Return how a pool that is there is to be scaled, in the way it is scaled already."""
    total = bool(found.autoscaling.total_max_node_count)
    return _scaled(least, most, total=total, policy=found.autoscaling.location_policy)


def _is_regional(request: SetupRequest) -> bool:
    return request.location == request.region


def _scaled(
    least: int, most: int, *, total: bool, policy: int = 0
) -> container_v1.NodePoolAutoscaling:
    scaling = container_v1.NodePoolAutoscaling(enabled=True, location_policy=policy)
    if total:
        scaling.total_min_node_count, scaling.total_max_node_count = least, most
    else:
        scaling.min_node_count, scaling.max_node_count = least, most
    return scaling


def _placement(accelerator: Accelerator) -> container_v1.NodePool.PlacementPolicy:
    """Return how the hosts of a slice are placed."""
    policy = container_v1.NodePool.PlacementPolicy
    return policy(type_=policy.Type.COMPACT, tpu_topology=accelerator.topology)


def _upgrades(accelerator: Accelerator) -> container_v1.NodePool.UpgradeSettings | None:
    """Return how nodes are upgraded; None for what GKE does with slices.

    https://cloud.google.com/kubernetes-engine/docs/concepts/node-pool-upgrade-strategies
    """
    if accelerator.flex:
        # They live until they are taken back: flex-start has no other strategy.
        strategy = container_v1.NodePoolUpdateStrategy.SHORT_LIVED
        return container_v1.NodePool.UpgradeSettings(strategy=strategy)
    if accelerator.hosts > 1:
        return None
    # A node more while nodes are upgraded would need more of the accelerator's quota.
    return container_v1.NodePool.UpgradeSettings(max_surge=0, max_unavailable=1)


def _management(*, repairs: bool = True) -> container_v1.NodeManagement:
    # A release channel demands both, but of flex-start, whose nodes are not repaired.
    return container_v1.NodeManagement(auto_upgrade=True, auto_repair=repairs)


def _queued() -> container_v1.NodePool.QueuedProvisioning:
    return container_v1.NodePool.QueuedProvisioning(enabled=True)


def _accelerators(pool: container_v1.NodePool) -> str:
    return ", ".join(
        f"{each.accelerator_count} x {each.accelerator_type}" for each in pool.config.accelerators
    )


def _reserved(pool: container_v1.NodePool) -> str:
    return ", ".join(pool.config.reservation_affinity.values)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
