"""What GKE says about a node pool that is asked for.

https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters.nodePools
"""

from __future__ import annotations

from datetime import timedelta

from google.cloud import container_v1 as api

from kinetic_flows.core.accelerators import Accelerator, list_accelerators
from loopback.google.answers import invalid
from loopback.google.cluster_rules import NAME
from loopback.google.machines import is_machine_type

MAX_NODES = 1000
MAX_RUN_DURATION = timedelta(days=7)


def check_pool(pool: api.NodePool, location: str, *, autopilot: bool) -> None:
    """Refuse a node pool that cannot be.

    Raises:
        GoogleRefusal: It cannot.
    """
    if autopilot:
        raise invalid("Autopilot clusters do not allow node pools to be created or changed.")
    if not NAME.fullmatch(pool.name):
        raise invalid(f"Invalid value for field node_pool.name: {pool.name!r}.")
    machine_type = pool.config.machine_type
    if machine_type and not is_machine_type(machine_type):
        raise invalid(
            f"Machine type with name '{machine_type}' does not exist in zone '{location}'"
        )
    if pool.initial_node_count < 0 or pool.initial_node_count > MAX_NODES:
        raise invalid(f"Node count must be between 0 and {MAX_NODES}.")
    _check_autoscaling(pool)
    _check_capacity(pool)
    _check_flex_start(pool)
    _check_accelerators(pool)


def _check_autoscaling(pool: api.NodePool) -> None:
    scaling = pool.autoscaling
    if not scaling.enabled:
        if scaling.max_node_count or scaling.min_node_count:
            raise invalid("Autoscaling limits need autoscaling to be enabled.")
        return
    most = scaling.max_node_count or scaling.total_max_node_count
    least = scaling.min_node_count or scaling.total_min_node_count
    if scaling.max_node_count and scaling.total_max_node_count:
        raise invalid("max_node_count and total_max_node_count are mutually exclusive.")
    if not 0 < most <= MAX_NODES or least > most:
        raise invalid(f"Invalid autoscaling limits: min {least}, max {most}.")


def _check_capacity(pool: api.NodePool) -> None:
    config, affinity = pool.config, pool.config.reservation_affinity
    kind = api.ReservationAffinity.Type
    if config.spot and config.preemptible:
        raise invalid("Spot and preemptible are mutually exclusive.")
    specific = affinity.consume_reservation_type == kind.SPECIFIC_RESERVATION
    if specific and config.spot:
        raise invalid("Spot VMs cannot consume reservations.")
    if specific and (not affinity.values or not affinity.key):
        raise invalid("A specific reservation needs a key and the reservation's name.")


def _check_flex_start(pool: api.NodePool) -> None:
    """Refuse what flex-start does not go with.

    https://cloud.google.com/kubernetes-engine/docs/how-to/dws-flex-start-training
    https://cloud.google.com/kubernetes-engine/docs/how-to/provisioningrequest
    """
    config = pool.config
    kind = api.ReservationAffinity.Type
    if pool.queued_provisioning.enabled and not pool.autoscaling.enabled:
        raise invalid("Queued provisioning requires autoscaling to be enabled.")
    if config.max_run_duration and config.max_run_duration > MAX_RUN_DURATION:
        raise invalid("max_run_duration must be at most 7 days.")
    if not config.flex_start:
        return
    if config.spot or config.preemptible:
        raise invalid("Flex start and Spot VMs are mutually exclusive.")
    if not pool.autoscaling.enabled or pool.initial_node_count:
        raise invalid("Flex start requires autoscaling to be enabled, and no initial nodes.")
    if config.reservation_affinity.consume_reservation_type != kind.NO_RESERVATION:
        raise invalid("Flex start requires reservation affinity NO_RESERVATION.")


def _check_accelerators(pool: api.NodePool) -> None:
    config = pool.config
    gpus = {row.label: row for row in list_accelerators() if row.category == "gpu"}
    for accelerator in config.accelerators:
        row = gpus.get(accelerator.accelerator_type)
        if row is None:
            raise invalid(f"Accelerator type {accelerator.accelerator_type!r} does not exist.")
        if accelerator.accelerator_count < 1:
            raise invalid("Accelerator count must be positive.")
        family = (row.machine_type or "").partition("-")[0]
        if family and not config.machine_type.startswith(f"{family}-"):
            raise invalid(
                f"Accelerators of type {row.label} cannot be attached to {config.machine_type}."
            )
    topology = pool.placement_policy.tpu_topology
    tpus = [row for row in list_accelerators() if _is_tpu(row, config.machine_type)]
    if topology and not tpus:
        raise invalid(f"Machine type {config.machine_type} has no TPUs for topology {topology}.")
    if tpus:
        _check_slice(pool, topology, tpus)


def _is_tpu(row: Accelerator, machine_type: str) -> bool:
    return row.category == "tpu" and row.machine_type == machine_type


def _check_slice(pool: api.NodePool, topology: str, tpus: list[Accelerator]) -> None:
    """Refuse a slice that is not whole.

    https://cloud.google.com/kubernetes-engine/docs/how-to/tpus#multi-host
    """
    if not topology:
        if not any(row.hosts == 1 for row in tpus):
            raise invalid("A TPU topology must be given for nodes of a multi-host slice.")
        return
    rows = [row for row in tpus if row.topology == topology]
    if not rows:
        raise invalid(f"Topology {topology} is not one of {pool.config.machine_type}.")
    hosts = rows[0].hosts
    if hosts == 1:
        return
    most = pool.autoscaling.max_node_count or pool.autoscaling.total_max_node_count
    if pool.autoscaling.enabled and most != hosts:
        raise invalid(f"Max nodes must be {hosts}, the number of VMs in topology {topology}.")
    if pool.initial_node_count not in (0, hosts):
        raise invalid(f"Node count must be 0 or {hosts} for topology {topology}.")
