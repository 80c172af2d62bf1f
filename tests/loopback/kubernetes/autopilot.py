"""The rules of GKE Autopilot: what it refuses of pods, what it changes, and the nodes it makes.

https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-resource-requests
https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-security
https://cloud.google.com/kubernetes-engine/docs/how-to/autopilot-gpus
"""

from __future__ import annotations

import json
from typing import Any

from kinetic_flows.core.accelerators import list_accelerators
from loopback.kubernetes.fitting import amount_of, requested
from loopback.kubernetes.gke import GPU, TPU
from loopback.kubernetes.node_groups import (
    ANY_RESERVATION,
    COMPUTE_CLASS_LABEL,
    FLEX_LABEL,
    RESERVATION_AFFINITY_LABEL,
    RESERVATION_LABEL,
    RESERVATION_PROJECT_LABEL,
    RUN_SECONDS_LABEL,
    SPOT_LABEL,
    ZONE,
    ZONE_LABEL,
    NodeGroup,
    a_taint,
)
from loopback.kubernetes.store import Object

GPU_LABEL = "cloud.google.com/gke-accelerator"
GPU_COUNT_LABEL = "cloud.google.com/gke-accelerator-count"
TPU_LABEL = "cloud.google.com/gke-tpu-accelerator"
TOPOLOGY_LABEL = "cloud.google.com/gke-tpu-topology"

SELECTABLE = (
    COMPUTE_CLASS_LABEL,
    "cloud.google.com/machine-family",
    "cloud.google.com/gke-ephemeral-storage-local-ssd",
    SPOT_LABEL,
    FLEX_LABEL,
    RUN_SECONDS_LABEL,
    "cloud.google.com/gke-placement-group",
    "topology.kubernetes.io/region",
    ZONE_LABEL,
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    GPU_LABEL,
    GPU_COUNT_LABEL,
    "cloud.google.com/gke-gpu-driver-version",
    "cloud.google.com/gke-gpu-partition-size",
    "cloud.google.com/gke-gpu-sharing-strategy",
    "cloud.google.com/gke-max-shared-clients-per-gpu",
    TPU_LABEL,
    TOPOLOGY_LABEL,
    RESERVATION_LABEL,
    RESERVATION_PROJECT_LABEL,
    RESERVATION_AFFINITY_LABEL,
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "cloud.google.com/private-node",
)
"""What node selectors may name; a node pool, a machine type and a host may not be.

https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-overview
https://github.com/GoogleCloudPlatform/ai-on-gke/pull/983
"""

WITH_COMPUTE_CLASS = (
    COMPUTE_CLASS_LABEL,
    "topology.kubernetes.io/region",
    ZONE_LABEL,
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    GPU_COUNT_LABEL,
    TOPOLOGY_LABEL,
    TPU_LABEL,
)
"""What may be selected beside a custom compute class.

https://github.com/newrelic/newrelic-prometheus-configurator/issues/472
"""

BUILT_IN_CLASSES = ("Accelerator", "Balanced", "Performance", "Scale-Out", "autopilot")
DEFAULTS = {"cpu": "500m", "memory": "2Gi", "ephemeral-storage": "1Gi"}
CPU_STEP, LEAST_CPU, MOST_DISK = 250, 250, "10Gi"
_WEBHOOK = 'admission webhook "warden-validating.common-webhooks.networking.gke.io"'
_REJECTED = "GKE Warden rejected the request because it violates one or more constraints."


class Autopilot:
    """The rules, where they hold.

    Attributes:
        is_on: Whether the cluster is one of Autopilot.
    """

    def __init__(self) -> None:
        self.is_on = False

    def refusal(self, pod: Object) -> str:
        """Return why a pod is refused, of a Job, too; empty where it is not.

        Args:
            pod: Its `spec`, and what else there is.
        """
        found = _violations(pod["spec"]) if self.is_on else {}
        if not found:
            return ""
        details = json.dumps({f"[denied by {rule}]": words for rule, words in found.items()})
        return f"{_WEBHOOK} denied the request: {_REJECTED}\nViolations details: {details}"

    def adjust(self, pod: Object) -> list[str]:
        """Give a pod the requests that it lacks, and say what was changed.

        Requests for chips alone leave CPU and memory to Autopilot, too.
        """
        if not self.is_on:
            return []
        changed = []
        for container in pod["spec"]["containers"]:
            resources = container.setdefault("resources", {})
            requests, limits = resources.setdefault("requests", {}), resources.get("limits") or {}
            missing = [name for name in DEFAULTS if name not in {**limits, **requests}]
            requests.update({name: DEFAULTS[name] for name in missing})
            cpu = amount_of("cpu", str(requests.get("cpu") or limits["cpu"]))
            if cpu % CPU_STEP or cpu < LEAST_CPU:
                requests["cpu"] = f"{max(LEAST_CPU, -(-cpu // CPU_STEP) * CPU_STEP)}m"
                limits.update({name: requests[name] for name in ("cpu",) if name in limits})
                changed.append(f"adjusted 'cpu' resource for containers [{container['name']}]")
            if missing:
                words = ", ".join(f"'{name}'" for name in missing)
                changed.append(
                    f"defaulted unspecified {words} resource for containers [{container['name']}]"
                )
        return changed

    def node_pool_for(self, pod: Object) -> NodeGroup | None:
        """Make the node pool that a pod asks for; None where there is no such thing."""
        selector = dict(pod["spec"].get("nodeSelector") or {})
        chips = {name: n for name, n in requested(pod).items() if name in (TPU, GPU)}
        if not _exists(selector, chips):
            return None
        project = selector.get(RESERVATION_PROJECT_LABEL)
        reservation = selector.get(RESERVATION_LABEL, "")
        if selector.get(RESERVATION_AFFINITY_LABEL) == ANY_RESERVATION:
            reservation = ANY_RESERVATION
        elif project:
            reservation = f"projects/{project}/reservations/{reservation}"
        words = (*(value.lower() for value in selector.values()), *map(str, chips.values()))
        return NodeGroup(
            name="-".join(("nap", *words)).replace("/", "-"),
            labels=selector,
            capacity=chips,
            taints=tuple(a_taint(resource, "present") for resource in chips),
            max_nodes=1000,
            zones=(selector.get(ZONE_LABEL, ZONE),),
            spot=selector.get(SPOT_LABEL) == "true",
            flex=selector.get(FLEX_LABEL) == "true",
            reservation=reservation,
            compute_class=selector.get(COMPUTE_CLASS_LABEL, ""),
        )


def _exists(selector: dict[str, str], chips: dict[str, int]) -> bool:
    """Whether Google has what a pod asks for."""
    if not chips:
        return not {GPU_LABEL, TPU_LABEL} & selector.keys()
    if COMPUTE_CLASS_LABEL in selector and not {GPU_LABEL, TPU_LABEL} & selector.keys():
        return True
    return any(
        row.label == (selector.get(TPU_LABEL) or selector.get(GPU_LABEL))
        and row.topology == selector.get(TOPOLOGY_LABEL)
        and chips == {name: int(amount) for name, amount in row.resources.items()}
        for row in list_accelerators()
    )


def _violations(spec: Object) -> dict[str, list[str]]:
    found = {
        "autogke-node-affinity-selector-limitation": _selector_problems(spec),
        "autogke-gpu-limitation": _gpu_problems(spec),
        "autogke-disallow-hostnamespaces": _host_problems(spec),
        "autogke-disallow-privilege": _privilege_problems(spec),
        "autogke-no-write-mode-hostpath": _path_problems(spec),
        "autogke-pod-limit-constraints": _disk_problems(spec),
    }
    return {rule: words for rule, words in found.items() if words}


def _selector_problems(spec: Object) -> list[str]:
    selector = spec.get("nodeSelector") or {}
    chosen = selector.get(COMPUTE_CLASS_LABEL)
    if chosen and chosen not in BUILT_IN_CLASSES:
        allowed: tuple[str, ...] = WITH_COMPUTE_CLASS
        words = "Custom Compute Classes can only be used along"
    else:
        allowed, words = SELECTABLE, "Autopilot only allows"
    return [
        f"Key '{key}' is not allowed with node selector; {words} labels with keys: "
        f"{','.join(allowed)}."
        for key in (*selector, *_affinity_keys(spec))
        if key not in allowed and "." in key.partition("/")[0]
    ]


def _affinity_keys(spec: Object) -> list[str]:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return [
        expression["key"]
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
    ]


def _gpu_problems(spec: Object) -> list[str]:
    selector, problems = spec.get("nodeSelector") or {}, []
    has_gpus = any(GPU in _limits(each) for each in spec["containers"])
    if has_gpus and GPU_LABEL not in selector and COMPUTE_CLASS_LABEL not in selector:
        problems.append(
            f"When requesting '{GPU}' resources, you must specify either node selector "
            f"'{GPU_LABEL}' with accelerator type or node selector '{COMPUTE_CLASS_LABEL}' with "
            "existing custom compute class which has at least one GPU priority rule."
        )
    tolerations = spec.get("tolerations") or ()
    if not has_gpus and any(each.get("key") == GPU for each in tolerations):
        problems.append(
            f"The toleration with key '{GPU}' and operator 'Exists' cannot be specified if the "
            "pod does not request to use GPU in Autopilot."
        )
    return problems


def _host_problems(spec: Object) -> list[str]:
    return [
        f"enabling {name} is not allowed in Autopilot."
        for name in ("hostNetwork", "hostPID", "hostIPC")
        if spec.get(name)
    ]


def _privilege_problems(spec: Object) -> list[str]:
    return [
        f"container {each['name']} is privileged; not allowed in Autopilot"
        for each in spec["containers"]
        if (each.get("securityContext") or {}).get("privileged")
    ]


def _path_problems(spec: Object) -> list[str]:
    paths = [volume for volume in spec.get("volumes") or () if "hostPath" in volume]
    return [
        f"hostPath volume {each['name']} uses path {each['hostPath']['path']} which is not "
        "allowed in Autopilot."
        for each in paths
        if not each["hostPath"]["path"].startswith("/var/log/")
    ]


def _disk_problems(spec: Object) -> list[str]:
    name = "ephemeral-storage"
    asked = sum(
        amount_of(name, str(_asked(each)[name]))
        for each in spec["containers"]
        if name in _asked(each)
    )
    if asked <= amount_of(name, MOST_DISK):
        return []
    words = f"Total {name} requested by containers for workload is higher than the Autopilot"
    return [f"{words} maximum of '{MOST_DISK}'."]


def _limits(container: Object) -> dict[str, Any]:
    return (container.get("resources") or {}).get("limits") or {}


def _asked(container: Object) -> dict[str, Any]:
    return {**_limits(container), **((container.get("resources") or {}).get("requests") or {})}
