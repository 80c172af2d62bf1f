"""On which nodes a run's pods may be, besides those that have its accelerator.

Each way to get chips is a label of nodes that pods ask for, which Autopilot and node
auto-provisioning read as well, to make such nodes:

- reservations: https://cloud.google.com/kubernetes-engine/docs/how-to/consuming-reservations
- compute classes:
  https://cloud.google.com/kubernetes-engine/docs/concepts/about-custom-compute-classes
- node pools: https://cloud.google.com/kubernetes-engine/docs/concepts/node-pools
- zones: https://cloud.google.com/kubernetes-engine/docs/how-to/gke-zonal-topology
- flex-start: https://cloud.google.com/kubernetes-engine/docs/concepts/dws
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kinetic_flows.core.accelerators.model import FLEX_LABEL, SPOT_LABEL, Accelerator
from kinetic_flows.core.accelerators.node_pools import (
    ANY_RESERVATION,
    COMPUTE_CLASS_LABEL,
    NODE_POOL_LABEL,
    QUEUED_TAINT,
    RESERVATION_AFFINITY_LABEL,
    RESERVATION_NAME_LABEL,
    RESERVATION_PROJECT_LABEL,
    RUN_SECONDS_LABEL,
    ZONE_LABEL,
)
from kinetic_flows.core.accelerators.node_requests import NodeRequest
from kinetic_flows.core.errors import suggest
from kinetic_flows.core.moments import duration
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.node_variables import (
    asked_labels,
    both_affinities,
    expressions_of,
)
from kinetic_flows.core.settings.pool_variables import unknown_variables
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.setup.names import QUEUE

VARIABLES: Mapping[str, str] = {
    "flex_start": FLEX_LABEL,
    "reservation_name": RESERVATION_NAME_LABEL,
    "reservation_project": RESERVATION_PROJECT_LABEL,
    "reservation_affinity": RESERVATION_AFFINITY_LABEL,
    "compute_class": COMPUTE_CLASS_LABEL,
    "node_pool": NODE_POOL_LABEL,
}
"""Variables of the work pool's template that are labels of nodes, with those labels."""

AFFINITY_VARIABLE = "affinity"
SELECTOR_VARIABLE = "node_selector"
"""What people set; it becomes a part of the affinity, since a template's labels are fixed."""

MAX_RUN_ANNOTATION = "kinetic-flows/max-run-duration-seconds"
"""Annotation of a run's Job: for how long nodes of flex-start are asked for."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """On which nodes pods may be, besides those that have the accelerator.

    Attributes:
        reservation: Name or path of a reservation, or `any`; None for none.
        compute_class: GKE compute class; None for none.
        node_pool: Node pool; None for any.
        zones: Zones; empty for any.
        max_run_seconds: For how long nodes of flex-start are asked for; None for as long as their
            pool gives them.
        selects_duration: Whether that is a label, by which the cluster makes such nodes: those of
            a node pool that somebody made live as long as they said.
        selects_affinity: Whether it is a label that a reservation is a specific one, by which the
            cluster makes such nodes: those of a node pool that somebody made have its name alone.
    """

    reservation: str | None = None
    compute_class: str | None = None
    node_pool: str | None = None
    zones: tuple[str, ...] = ()
    max_run_seconds: float | None = None
    selects_duration: bool = False
    selects_affinity: bool = False

    @property
    def in_words(self) -> dict[str, str]:
        """What of it was asked for, as people read it, by what it is."""
        said = {
            "reservation": self.reservation,
            "compute class": self.compute_class,
            "node pool": self.node_pool,
            "zone": " or ".join(self.zones),
            "for": duration(self.max_run_seconds) if self.max_run_seconds else None,
        }
        return {name: value for name, value in said.items() if value}

    @property
    def variables(self) -> dict[str, str]:
        """Variables of the template that say it, but for the zones, which are an affinity."""
        project, name = self._reservation
        values = {
            "reservation_name": name,
            "reservation_project": project,
            "reservation_affinity": self._affinity,
            "compute_class": self.compute_class,
            "node_pool": self.node_pool,
        }
        return {name: value for name, value in values.items() if value}

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Labels of nodes that pods ask for, each with the values of which it may have any."""
        return self.affinity_labels | {
            VARIABLES[name]: (value,) for name, value in self.variables.items()
        }

    @property
    def affinity_labels(self) -> dict[str, tuple[str, ...]]:
        """Those of them that are an affinity, for want of a variable of the template."""
        found: dict[str, tuple[str, ...]] = {ZONE_LABEL: self.zones} if self.zones else {}
        if self.selects_duration and self.max_run_seconds is not None:
            found[RUN_SECONDS_LABEL] = (f"{self.max_run_seconds:.0f}",)
        return found

    @property
    def annotations(self) -> dict[str, str]:
        """Annotations of the run's Job that say it."""
        seconds = self.max_run_seconds
        return {} if seconds is None else {MAX_RUN_ANNOTATION: f"{seconds:.0f}"}

    @property
    def tolerations(self) -> list[dict[str, str]]:
        """Tolerations of the taints that GKE sets on nodes which it makes for such pods.

        https://cloud.google.com/kubernetes-engine/docs/how-to/node-auto-provisioning
        """
        _, name = self._reservation
        taints = {COMPUTE_CLASS_LABEL: self.compute_class, RESERVATION_NAME_LABEL: name}
        return [tolerate(key, value) for key, value in taints.items() if value]

    @property
    def _reservation(self) -> tuple[str | None, str | None]:
        """The project and the name of the reservation; none of any."""
        if self.reservation in (None, ANY_RESERVATION):
            return None, None
        path = self.reservation.split("/")
        return path[1] if len(path) > 1 else None, path[-1]

    @property
    def _affinity(self) -> str | None:
        if self.reservation == ANY_RESERVATION:
            return ANY_RESERVATION
        return "specific" if self.reservation and self.selects_affinity else None


def placement_of(
    options: RunOptions,
    cloud: CloudSettings,
    accelerator: Accelerator,
    *,
    makes_pools: bool = False,
) -> Placement:
    """Return what a function's options say of it, else the cluster's settings.

    What a cluster's runs have reserved are chips: its setting is for no run on CPUs alone, and not
    for Spot VMs and flex-start, which are of no reservation.

    Args:
        options: How the function is to run.
        cloud: The settings of the cluster.
        accelerator: What it runs on.
        makes_pools: Whether the cluster is known to make node pools by itself.
    """
    is_of_none = accelerator.spot or accelerator.flex or accelerator.category == "cpu"
    reservation = options.reservation or (None if is_of_none else cloud.reservation)
    return Placement(
        # Of the cluster's own project the nodes' labels name none.
        reservation=reservation
        and reservation.removeprefix(f"projects/{cloud.project}/reservations/"),
        compute_class=options.compute_class or cloud.compute_class,
        node_pool=options.node_pool or cloud.node_pool,
        zones=options.zones or cloud.zones,
        max_run_seconds=options.max_run_duration_seconds,
        # A slice says it in its request for all of its nodes.
        selects_duration=makes_pools and accelerator.hosts == 1,
        selects_affinity=makes_pools,
    )


def accelerator_tolerations(accelerator: Accelerator) -> list[dict[str, str]]:
    """Put up with the taints that GKE sets on nodes with an accelerator.

    https://cloud.google.com/kubernetes-engine/docs/concepts/spot-vms,
    https://cloud.google.com/kubernetes-engine/docs/concepts/dws and
    https://cloud.google.com/kubernetes-engine/docs/how-to/prepare-arm-workloads-for-deployment
    """
    tolerations = [
        {"key": resource, "operator": "Exists", "effect": "NoSchedule"}
        for resource in accelerator.resources
    ]
    if accelerator.spot:
        tolerations.append(tolerate(SPOT_LABEL, "true"))
    if accelerator.flex:
        tolerations += [tolerate(FLEX_LABEL, "true"), tolerate(QUEUED_TAINT, "true")]
    if accelerator.architecture != "amd64":
        tolerations.append(tolerate("kubernetes.io/arch", accelerator.architecture))
    return tolerations


def is_others_queue(name: object) -> bool:
    """Whether a queue may have nodes asked for itself: one of Kueue's that we did not make."""
    return name not in (None, "", QUEUE)


def tolerate(key: str, value: str) -> dict[str, str]:
    """Return the toleration of one taint."""
    return {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}


def properties(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the variables that a base job template has, by name."""
    found: Mapping[str, Any] = (template.get("variables") or {}).get("properties") or {}
    return found


def with_affinity(
    variables: Mapping[str, Any], placement: Placement, template: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return variables whose affinity says the zones and the labels that people ask for.

    A work pool's default is kept beside what one run asks for, as its tolerations are. Where an
    administrator's own template has a variable for the labels, they are left to it.

    Args:
        variables: The variables of a run.
        placement: Where its pods may be.
        template: The work pool's base job template; None for the one that ships.
    """
    changed = dict(variables)
    known = properties(template or {})
    labels = placement.affinity_labels
    if SELECTOR_VARIABLE not in known:
        selector = changed.pop(SELECTOR_VARIABLE, None) or {}
        labels |= {name: (value,) for name, value in selector.items()}
    asked = changed.get(AFFINITY_VARIABLE) or {}
    if not labels and not asked:
        return changed
    default = (known.get(AFFINITY_VARIABLE) or {}).get("default") or {}
    changed[AFFINITY_VARIABLE] = both_affinities(default, asked, expressions_of(labels))
    return changed


def variables_obstacle(
    accelerator: Accelerator,
    placement: Placement,
    chosen: Mapping[str, Any],
    template: Mapping[str, Any],
) -> str:
    """Say which variables a run sets that a work pool's template does not have; empty for none.

    Args:
        accelerator: What it runs on.
        placement: Where its pods may be.
        chosen: What people set of the template's variables.
        template: The work pool's base job template.
    """
    unknown = unknown_variables(_variables_set(accelerator, placement, chosen, template), template)
    if not unknown:
        return ""
    shipped = properties(base_job_template())
    outdated = [name for name in unknown if name in shipped]
    told = [
        f"the work pool's template has no variable {name!r}, which job_variables sets; "
        f"{suggest(name, properties(template))}"
        for name in unknown
        if name not in shipped
    ]
    if outdated:
        told.append(
            f"the work pool's template has no variable {', '.join(outdated)}, which the run sets: "
            "`kinetic pool create` brings it up to date"
        )
    return "; ".join(told)


def _variables_set(
    accelerator: Accelerator,
    placement: Placement,
    chosen: Mapping[str, Any],
    template: Mapping[str, Any],
) -> set[str]:
    """Return the template's variables that a run sets for what people asked for."""
    names = {*chosen, *placement.variables}
    if accelerator.flex:
        names.add("flex_start")
    is_folded = SELECTOR_VARIABLE in names and SELECTOR_VARIABLE not in properties(template)
    if is_folded:
        names.remove(SELECTOR_VARIABLE)
    if is_folded or placement.zones:
        names.add(AFFINITY_VARIABLE)
    return names


def node_request(
    accelerator: Accelerator,
    placement: Placement,
    variables: Mapping[str, Any],
    template: Mapping[str, Any] | None = None,
) -> NodeRequest:
    """Return what a run's pods ask of nodes, as far as it can be held against node pools.

    Args:
        accelerator: What it runs on.
        placement: Where its pods may be.
        variables: The template's variables as people and the work pool set them.
        template: The work pool's base job template; None for the one that ships.
    """
    affinity = with_affinity(variables, placement, template).get(AFFINITY_VARIABLE)
    selector = {VARIABLES[name]: value for name, value in placement.variables.items()}
    own = {} if affinity else variables.get(SELECTOR_VARIABLE) or {}
    tolerated = (
        *accelerator_tolerations(accelerator),
        *placement.tolerations,
        *(variables.get("tolerations") or ()),
    )
    # The cluster judges the pod as one that makes nodes by itself is asked.
    tried = replace(placement, selects_affinity=True).variables
    pod = {
        "nodeSelector": {
            **accelerator.node_selector,
            **{VARIABLES[name]: value for name, value in tried.items()},
        },
        "affinity": affinity,
        "tolerations": list(tolerated),
        "topologySpreadConstraints": variables.get("topology_spread"),
    }
    return NodeRequest(
        labels=asked_labels({"affinity": affinity, "nodeSelector": {**own, **selector}}),
        tolerations=tolerated,
        pod={name: value for name, value in pod.items() if value},
        max_run_seconds=placement.max_run_seconds,
        is_queued_elsewhere=is_others_queue(variables.get("queue_name")),
    )
