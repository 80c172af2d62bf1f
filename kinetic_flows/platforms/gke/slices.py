"""TPU multislice: a run on several slices has a Job for each.

What a slice's hosts share, its chips' own network, ends at its node pool; slices talk to one
another through the data center's network. So the pods of each slice go to one node pool, and those
of another slice to another, as JobSet's exclusive placement has it
(https://jobset.sigs.k8s.io/docs/tasks/tpu_multislice/); no JobSet is needed for it.

libtpu is told of the slices by variables that GKE sets for JobSets alone:
https://cloud.google.com/kubernetes-engine/docs/how-to/tpu-multislice. JAX reads the same
(`jax/_src/clusters/cloud_tpu_cluster.py`): host 0 of slice 0 coordinates, and processes are
counted slice by slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.node_pools import NODE_POOL_LABEL
from kinetic_flows.core.launcher import LaunchRequest, Phase
from kinetic_flows.core.settings.node_variables import REQUIRED, both_affinities
from kinetic_flows.core.settings.pool_variables import template_defaults, unknown_variables
from kinetic_flows.platforms.gke.names import (
    COORDINATOR_PORT,
    HEADLESS_SERVICE,
    SLICE_LABEL,
    kubernetes_job_name,
)
from kinetic_flows.platforms.gke.phase import PodStatus
from kinetic_flows.platforms.gke.placement import AFFINITY_VARIABLE

SLICES_VARIABLE = "KINETIC_SLICES"
"""Variable of the pods that says how many slices a run has; without it there is one."""

MEGASCALE_PORT = 8080
"""Port of the coordinator of slices, which GKE's examples of multislice open on every pod."""


def parts_of(request: LaunchRequest) -> tuple[LaunchRequest, ...]:
    """Return what is launched for each slice; a run on one slice is launched as it is.

    Args:
        request: The launch of all of them.
    """
    told: Mapping[str, str] = request.job_variables.get("env") or {}
    slices = int(told.get(SLICES_VARIABLE, "1"))
    if slices == 1:
        return (request,)
    hosts = int(request.job_variables["hosts"])
    parts = [replace(request, slice=number) for number in range(slices)]
    names = [
        f"{kubernetes_job_name(part.name, part.key)}-{index}.{HEADLESS_SERVICE}"
        for part in parts
        for index in range(hosts)
    ]
    shared = {
        "KINETIC_HOSTS": str(len(names)),
        "KINETIC_HOSTNAMES": ",".join(names),
        "KINETIC_COORDINATOR_ADDRESS": f"{names[0]}:{COORDINATOR_PORT}",
        "MEGASCALE_COORDINATOR_ADDRESS": names[0],
        "MEGASCALE_PORT": str(MEGASCALE_PORT),
        "MEGASCALE_NUM_SLICES": str(slices),
    }
    return tuple(_part(part, number, shared) for number, part in enumerate(parts))


def _part(part: LaunchRequest, number: int, shared: Mapping[str, str]) -> LaunchRequest:
    own = {"KINETIC_SLICE": str(number), "MEGASCALE_SLICE_ID": str(number)}
    known = {**template_defaults(part.template or {}), **part.job_variables}
    affinity = both_affinities(known.get(AFFINITY_VARIABLE) or {}, placed_apart(part.key))
    return replace(
        part,
        environment={**part.environment, **shared, **own},
        job_variables={**part.job_variables, AFFINITY_VARIABLE: affinity},
    )


def slices_obstacle(accelerator: Accelerator, template: Mapping[str, Any]) -> str:
    """Say why a run's slices cannot be placed apart; empty where they can, or there is one.

    Args:
        accelerator: What it runs on.
        template: The work pool's base job template.
    """
    if accelerator.slices == 1 or not unknown_variables([AFFINITY_VARIABLE], template):
        return ""
    return (
        f"the work pool's template has no variable {AFFINITY_VARIABLE}, which places the "
        f"{accelerator.slices} slices; `kinetic pool create` brings it up to date"
    )


def placed_apart(key: str) -> dict[str, Any]:
    """Return the affinity of one slice's pods: to one node pool, where no other slice's are.

    Args:
        key: The slice's key, which its pods have as a label.
    """
    ours: dict[str, Any] = {"key": SLICE_LABEL, "operator": "In", "values": [key]}
    others: list[dict[str, Any]] = [
        {"key": SLICE_LABEL, "operator": "Exists"},
        {"key": SLICE_LABEL, "operator": "NotIn", "values": [key]},
    ]
    return {
        "podAffinity": {REQUIRED: [_term([ours])]},
        "podAntiAffinity": {REQUIRED: [_term(others)]},
    }


def _term(expressions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"labelSelector": {"matchExpressions": expressions}, "topologyKey": NODE_POOL_LABEL}


def whole(statuses: Sequence[PodStatus]) -> PodStatus:
    """Return where a run is in its life whose slices are each somewhere in theirs.

    One that fails fails the run; it has begun when all have, and is over when all are.

    Args:
        statuses: The slices', one at least; a run on one slice is where that is.
    """
    if len(statuses) == 1:
        return statuses[0]
    number = min(range(len(statuses)), key=lambda each: _weight(statuses[each]))
    found = statuses[number]
    restarts = max(each.restarts for each in statuses)
    reason = f"slice {number}: {found.reason}" if found.reason else ""
    message = f"slice {number}: {found.message}" if found.message else ""
    is_placed = all(each.is_placed or each.phase is not Phase.PENDING for each in statuses)
    return replace(found, reason=reason, message=message, restarts=restarts, is_placed=is_placed)


def _weight(status: PodStatus) -> int:
    """Say how much one slice's status says of the whole, the least first."""
    order = (Phase.FAILED, Phase.PENDING, Phase.RUNNING, Phase.GONE, Phase.SUCCEEDED)
    return order.index(status.phase)
