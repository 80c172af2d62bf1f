"""What a setup costs by Google's list prices; each figure says what it is of."""

from __future__ import annotations

from kinetic_flows.core.accelerators import prices as machines
from kinetic_flows.platforms.gke.setup import prices
from kinetic_flows.platforms.gke.setup.clusters.pool_messages import CPU_DISK_GB
from kinetic_flows.platforms.gke.setup.model import Cost
from kinetic_flows.platforms.gke.setup.prices import HOURS_A_MONTH
from kinetic_flows.platforms.gke.setup.request import PoolRequest, SetupRequest


def cluster_cost(request: SetupRequest) -> Cost:
    """Return the cluster's own fee; its nodes are those of its pools.

    https://cloud.google.com/kubernetes-engine/pricing

    On Autopilot what runs request is paid while it runs, which nobody can say beforehand.
    """
    fee = prices.CLUSTER_HOURLY * HOURS_A_MONTH
    if request.mode == "standard" and request.location == request.region:
        return Cost(monthly_usd=fee, note="management fee of a regional cluster")
    back = f"${prices.FREE_TIER_MONTHLY:.2f} a month are given back to each billing account"
    return Cost(
        monthly_usd=fee,
        hourly_usd=None if request.mode == "autopilot" else 0.0,
        note=f"management fee; {back}",
    )


def cpu_pool_cost(request: SetupRequest) -> Cost | None:
    """Return what the pool without accelerators costs, of which one node is always there."""
    hourly = machines.machine_hourly(request.machine_type)
    if hourly is None:
        return None
    disk = CPU_DISK_GB * prices.DISK_MONTHLY_A_GB
    return Cost(
        monthly_usd=hourly * HOURS_A_MONTH + disk,
        hourly_usd=hourly * (request.max_nodes - 1),
        note=f"1 x {request.machine_type} with its disk, of at most {request.max_nodes}",
    )


def pool_cost(pool: PoolRequest) -> Cost:
    """Return what a node pool of an accelerator costs: nothing, while nothing runs there."""
    accelerator = pool.accelerator
    hourly = machines.node_hourly(accelerator)
    nodes = f"{pool.max_nodes} x {accelerator.machine_type}"
    if pool.reservation:
        # A reservation is paid whether it is used or not, and not by those who use it alone.
        note = f"{nodes} of the reservation {pool.reservation}, which is paid by itself"
        return Cost(monthly_usd=0.0, note=note)
    if hourly is not None:
        return Cost(monthly_usd=0.0, hourly_usd=hourly * pool.max_nodes, note=nodes)
    ordinary = machines.on_demand_hourly(accelerator)
    if (accelerator.spot or accelerator.flex) and ordinary is not None:
        most = ordinary * pool.max_nodes
        way = "on Spot VMs" if accelerator.spot else "by flex-start"
        nodes = f"{nodes} {way}, for less than the ${most:,.2f} that others cost"
    return Cost(monthly_usd=0.0, hourly_usd=None, note=nodes)


def nat_cost(nodes: int) -> Cost:
    """Return what Cloud NAT costs with one address.

    https://cloud.google.com/nat/pricing

    Args:
        nodes: How many nodes there may be at a time, of which one is always there.
    """
    most = min(nodes, prices.NAT_MOST_NODES)
    always = prices.NAT_HOURLY_A_NODE + prices.NAT_ADDRESS_HOURLY
    return Cost(
        monthly_usd=always * HOURS_A_MONTH,
        hourly_usd=prices.NAT_HOURLY_A_NODE * max(most - 1, 0),
        note=f"an address and a node, and ${prices.NAT_A_GIB} for each GiB either way",
    )


def bucket_cost() -> Cost:
    """Return what a bucket costs that is empty yet."""
    return Cost(monthly_usd=0.0, note=f"${prices.STORAGE_MONTHLY_A_GB:.2f} a GB and month")


def registry_cost() -> Cost:
    """Return what a repository of images costs that is empty yet."""
    free = f"after the first {prices.REGISTRY_FREE_GB} GB"
    return Cost(monthly_usd=0.0, note=f"${prices.REGISTRY_MONTHLY_A_GB:.2f} a GB and month, {free}")


def disk_cost(size_gb: int) -> Cost:
    """Return what a balanced disk costs, such as a database has."""
    return Cost(monthly_usd=size_gb * prices.DISK_MONTHLY_A_GB, note=f"a disk of {size_gb} GB")
