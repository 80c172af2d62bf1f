"""Whether the zones of a node pool have the machines that it is to have.

GKE would say so itself, minutes later, of the first node that is wanted there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.errors import CloudError, ConfigurationError, UsageError
from kinetic_flows.platforms.gke.setup.request import PoolRequest, SetupRequest

if TYPE_CHECKING:
    from kinetic_flows.clients.google.apis import GoogleApis

GPU_ZONES_PAGE = "https://cloud.google.com/compute/docs/gpus/gpu-regions-zones"
TPU_ZONES_PAGE = "https://cloud.google.com/tpu/docs/regions-zones"


def check_zones(apis: GoogleApis, request: SetupRequest, pool: PoolRequest) -> None:
    """Refuse a node pool in zones that have no such machines, as far as that is told.

    Args:
        apis: Google's APIs.
        request: What is wanted of the cluster.
        pool: What is wanted of the pool.

    Raises:
        ConfigurationError: A zone has none of them.
        UsageError: A slice's one zone is not said, or a zone is not in the cluster's region.
    """
    accelerator = pool.accelerator
    for zone in pool.zones:
        if not zone.startswith(f"{request.region}-"):
            raise UsageError(
                f"zone {zone} is not in {request.region}, where the cluster is",
                value=zone,
                hint=f"name zones of {request.region}",
            )
    own = () if request.location == request.region else (request.location,)
    zones = pool.zones or own
    if accelerator.hosts > 1 and len(zones) != 1:
        several = "several are named" if zones else "the cluster is in several"
        raise UsageError(
            f"the hosts of {accelerator} are in one zone, and {several}",
            value=str(accelerator),
            hint=f"name the zone: --node-zone {request.region}-a; {TPU_ZONES_PAGE} lists which "
            "has what",
        )
    for zone in zones:
        if not _has(apis, zone, accelerator):
            raise _has_none(zone, accelerator, request)
        _check_reservation(apis, zone, pool)


def _has(apis: GoogleApis, zone: str, accelerator: Accelerator) -> bool:
    """Whether a zone has an accelerator's machines; believed where that is not told."""
    machine_type = accelerator.machine_type or ""
    try:
        if accelerator.category == "gpu":
            types = apis.read(
                f"list the GPUs of {zone}", lambda: apis.compute.accelerator_types(zone)
            )
            return accelerator.label in [each.get("name") for each in types]
        apis.read(
            f"look for {machine_type} in {zone}",
            lambda: apis.compute.machine_type(zone, machine_type),
        )
    except CloudError as error:
        if not isinstance(error, CloudRefusal) or error.reason != "missing":
            return True
        return machine_type not in error.words
    return True


def _check_reservation(apis: GoogleApis, zone: str, pool: PoolRequest) -> None:
    """Refuse a reservation that is not there, or of other machines, as far as that is told.

    https://cloud.google.com/compute/docs/reference/rest/v1/reservations

    Raises:
        ConfigurationError: It is.
    """
    name, machine_type = pool.reservation, pool.accelerator.machine_type
    if name is None or "/" in name:
        return  # those of another project may not be looked at
    try:
        found = apis.read(
            f"look at reservation {name}", lambda: apis.compute.reservation(zone, name)
        )
    except CloudError as error:
        if not isinstance(error, CloudRefusal) or error.reason != "missing":
            return
        raise ConfigurationError(
            f"zone {zone} has no reservation {name!r}",
            value=name,
            hint=f"list them with: gcloud compute reservations list --project={apis.project}",
        ) from error
    properties = (found.get("specificReservation") or {}).get("instanceProperties") or {}
    reserved = str(properties.get("machineType") or machine_type).rpartition("/")[2]
    if reserved != machine_type:
        raise ConfigurationError(
            f"reservation {name!r} is of {reserved}, and {pool.accelerator} needs {machine_type}",
            value=name,
            hint="name the accelerator that is reserved, or another reservation",
        )


def _has_none(zone: str, accelerator: Accelerator, request: SetupRequest) -> ConfigurationError:
    page = GPU_ZONES_PAGE if accelerator.category == "gpu" else TPU_ZONES_PAGE
    where = (
        f"name zones that have it with --node-zone; {page} lists them"
        if request.location == request.region
        else f"take another accelerator, or a cluster in a zone that has it: {page} lists them"
    )
    return ConfigurationError(
        f"zone {zone} has no {accelerator.name} ({accelerator.machine_type})",
        value=zone,
        hint=where,
    )
