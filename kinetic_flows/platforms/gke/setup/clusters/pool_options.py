"""What people say about node pools: `--accelerator l4 --accelerator tpu-v6e-8:spot --max-nodes 4`.

Everything that can be known to be impossible without asking Google is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kinetic_flows.core.accelerators import Accelerator, needs_node_pools, parse_accelerator
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.core.settings import values as check
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.request import DEFAULT_MAX_NODES, PoolRequest

MAX_NODES_OF_A_POOL = 1000
"""https://cloud.google.com/kubernetes-engine/quotas: nodes of a node pool in a zone."""

RESERVED_ENDING = "-reserved"

WORKLOAD_POLICY_PAGE = "https://cloud.google.com/kubernetes-engine/docs/how-to/tpus"

_RESERVATION = re.compile(
    r"(?:projects/[a-z][a-z0-9.:-]*/reservations/)?[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
)


def parse_pools(
    accelerators: Sequence[str],
    *,
    max_nodes: int | None = None,
    reservation: str | None = None,
    zones: Sequence[str] = (),
) -> tuple[PoolRequest, ...]:
    """Return the node pools that are asked for, one for each accelerator.

    Args:
        accelerators: Names as `accelerator=` takes them; saying one twice is saying it once.
        max_nodes: How many nodes each may have at most; None for 4, and for a slice of several
            hosts always its number of hosts.
        reservation: A reservation that nodes are taken from which are no Spot VMs, by its name,
            or by `projects/OWNER/reservations/NAME` where another project shares it; None for
            none.
        zones: Zones of the nodes; empty for those of the cluster.

    Raises:
        UsageError: Something of it cannot be.
    """
    read = dict.fromkeys(_accelerator(text) for text in accelerators)
    if max_nodes is not None and not 1 <= max_nodes <= MAX_NODES_OF_A_POOL:
        raise UsageError(
            f"a node pool cannot have {max_nodes} nodes at most",
            value=max_nodes,
            hint=f"give --max-nodes from 1 to {MAX_NODES_OF_A_POOL}",
        )
    _check_zones(zones)
    if reservation is not None:
        _check_reservation(reservation, tuple(read))
    return tuple(
        PoolRequest(
            accelerator=accelerator,
            max_nodes=_max_nodes(accelerator, max_nodes),
            # Neither Spot VMs nor nodes of flex-start are taken from reservations.
            reservation=None if accelerator.spot or accelerator.flex else reservation,
            keeps_limit=max_nodes is None,
            zones=tuple(zones),
        )
        for accelerator in read
    )


def pool_name(request: PoolRequest) -> str:
    """Return the name of the node pool of an accelerator: `l4`, `tpu-v6e-8-spot`.

    https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters.nodePools:
    at most 40 lower-case letters, digits and dashes.
    """
    accelerator = request.accelerator
    ending = RESERVED_ENDING if request.reservation else ""
    ending = "-spot" if accelerator.spot else "-flex" if accelerator.flex else ending
    return names.shortened(accelerator.name, ending, names.MAX_POOL_CHARACTERS)


def _accelerator(text: str) -> Accelerator:
    if needs_node_pools(text):
        raise UsageError(
            f"{text!r} does not say which accelerator a node pool is to have",
            value=text,
            hint="name one, such as l4 or tpu-v6e-8: `kinetic accelerators` lists them",
        )
    found = parse_accelerator(text)
    if found.category == "cpu":
        raise UsageError(
            f"{text!r} needs no node pool of its own",
            value=text,
            hint=f"runs without an accelerator are on the pool {names.DEFAULT_POOL}; name an "
            "accelerator, or leave it out",
        )
    if found.hosts > 1 and found.label == "tpu7x":
        raise UsageError(
            f"{text!r} has {found.hosts} hosts, and slices of TPU7x with several hosts need a "
            "workload policy of Compute Engine, which is not made here",
            value=text,
            hint=f"make the node pool as {WORKLOAD_POLICY_PAGE} says; runs find it by its labels",
        )
    return found


def _max_nodes(accelerator: Accelerator, asked: int | None) -> int:
    """Return how many nodes a pool may have; a slice is whole, or not there.

    Raises:
        UsageError: The slice has more hosts than were asked for.
    """
    if accelerator.hosts == 1:
        return DEFAULT_MAX_NODES if asked is None else asked
    if asked is not None and asked < accelerator.hosts:
        raise UsageError(
            f"{accelerator} is a slice of {accelerator.hosts} hosts, more than the {asked} nodes "
            "asked for",
            value=asked,
            hint=f"leave --max-nodes out, or give at least {accelerator.hosts}",
        )
    return accelerator.hosts


def _check_zones(zones: Sequence[str]) -> None:
    for zone in zones:
        try:
            check.zone(zone, "the zone of nodes")
        except ConfigurationError as error:
            raise UsageError(error.message, value=zone, hint=error.hint) from error
        if cloud_names.region(zone) == zone:
            raise UsageError(
                f"{zone!r} is a region, and nodes are in zones",
                value=zone,
                hint=f"name zones of it, such as {zone}-a",
            )


def _check_reservation(reservation: str, accelerators: Sequence[Accelerator]) -> None:
    if not _RESERVATION.fullmatch(reservation):
        raise UsageError(
            f"{reservation!r} cannot be the name of a reservation",
            value=reservation,
            hint="give its name as Compute Engine has it, or "
            "projects/OWNER/reservations/NAME where another project shares it",
        )
    reserved = [each for each in accelerators if not each.spot and not each.flex]
    if not reserved:
        raise UsageError(
            f"the reservation {reservation!r} would be used by nothing: neither Spot VMs nor "
            "nodes of flex-start are taken from reservations",
            value=reservation,
            hint="name an accelerator without :spot or :flex, or leave the reservation out",
        )
    if len(reserved) > 1:
        listed = ", ".join(map(str, reserved))
        raise UsageError(
            f"the reservation {reservation!r} is of one kind of machine, and there are several "
            f"accelerators it may be meant for: {listed}",
            value=reservation,
            hint="make its node pool by itself: "
            f"kinetic nodepools add {reserved[0]} --reservation {reservation}",
        )
