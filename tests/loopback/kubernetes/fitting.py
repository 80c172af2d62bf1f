"""Whether a node would take a pod, as Kubernetes' scheduler decides it.

https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopback.kubernetes.store import Object

_QUANTITY = re.compile(r"(?P<number>[\d.]+)(?P<unit>m|k|[KMGT]i?|)")
_FACTORS = {"": 1, "m": 0.001, "k": 10**3}
_FACTORS.update({unit: 1000 ** (power + 1) for power, unit in enumerate("KMGT")})
_FACTORS.update({f"{unit}i": 1024 ** (power + 1) for power, unit in enumerate("KMGT")})
_MISMATCH = "node(s) didn't match Pod's node affinity/selector"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A pod that has a node, or will have one.

    Attributes:
        pod: The pod.
        labels: Labels of the node.
    """

    pod: Object
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What affinities to pods look at.

    Attributes:
        placed: The pods that have a node.
        nodes: The labels of all nodes.
    """

    placed: Sequence[Placed] = ()
    nodes: Sequence[Mapping[str, str]] = ()


NOWHERE = Surroundings()


def requested(pod: Object) -> dict[str, int]:
    """Return what a pod asks for: numbers of devices, bytes, and thousandths of a CPU."""
    resources = pod["spec"]["containers"][0].get("resources", {})
    requests = {**resource_map(resources, "limits"), **resource_map(resources, "requests")}
    return {name: amount_of(name, str(text)) for name, text in requests.items()}


def resource_map(resources: Object, which: str) -> dict[str, str]:
    """Return a container's requests or limits."""
    return dict(resources.get(which) or {})


def amount_of(name: str, text: str) -> int:
    """Read a quantity: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/."""
    found = _QUANTITY.fullmatch(text)
    assert found, f"{name} is {text}"
    factor = _FACTORS[found["unit"]] * (1000 if name == "cpu" else 1)
    return int(float(found["number"]) * factor)


def misfit(
    pod: Object, labels: Mapping[str, str], taints: Any, around: Surroundings = NOWHERE
) -> str | None:
    """Say why a node does not take a pod, however empty it is; None where it does.

    Args:
        pod: The pod.
        labels: The node's labels.
        taints: The node's taints.
        around: The other pods, which affinities look at.
    """
    for taint in taints:
        if not any(_tolerates(item, taint) for item in pod["spec"].get("tolerations") or ()):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(name) != value for name, value in selector.items()):
        return _MISMATCH
    if not _node_affinity_holds(pod, labels):
        return _MISMATCH
    return _pods_misfit(pod, labels, around)


def shortage(pod: Object, free: Mapping[str, int]) -> str | None:
    """Say what a node lacks for a pod; None where it lacks nothing."""
    bounded = {
        name: amount for name, amount in requested(pod).items() if name in free or "/" in name
    }
    lacking = [name for name, amount in bounded.items() if free.get(name, 0) < amount]
    return f"Insufficient {lacking[0]}" if lacking else None


def capacity_of(node: Object) -> dict[str, int]:
    """Return what a node could hold were it empty."""
    return {name: amount_of(name, text) for name, text in node["status"]["capacity"].items()}


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    exists = toleration.get("operator", "Equal") == "Exists"
    return (
        toleration.get("key") in (None, taint["key"])
        and toleration.get("effect") in (None, taint["effect"])
        and (exists or toleration.get("value", "") == taint.get("value", ""))
    )


# Affinities to nodes


def _node_affinity_holds(pod: Object, labels: Mapping[str, str]) -> bool:
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get(_REQUIRED)
    if required is None:
        return True
    terms = required.get("nodeSelectorTerms") or ()
    return any(_expressions_hold(term.get("matchExpressions") or (), labels) for term in terms)


def _expressions_hold(expressions: Any, labels: Mapping[str, str]) -> bool:
    return all(_holds(each, labels) for each in expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    listed = [str(each) for each in expression.get("values") or ()]
    match expression["operator"]:
        case "In":
            return value in listed
        case "NotIn":
            return value not in listed
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(listed[0])
        case "Lt":
            return value is not None and int(value) < int(listed[0])
        case other:
            raise AssertionError(f"no such operator: {other}")


# Affinities to pods


def _pods_misfit(pod: Object, labels: Mapping[str, str], around: Surroundings) -> str | None:
    placed = around.placed
    affinity = pod["spec"].get("affinity") or {}
    together = (affinity.get("podAffinity") or {}).get(_REQUIRED) or ()
    if not all(_is_near(term, pod, labels, placed) for term in together):
        return "node(s) didn't match pod affinity rules"
    apart = (affinity.get("podAntiAffinity") or {}).get(_REQUIRED) or ()
    if any(_meets(term, pod, labels, each) for term in apart for each in placed):
        return "node(s) didn't match pod anti-affinity rules"
    if any(_is_kept_off(pod, labels, each) for each in placed):
        return "node(s) didn't satisfy existing pods anti-affinity rules"
    spreads = pod["spec"].get("topologySpreadConstraints") or ()
    if not all(_is_spread(each, labels, around) for each in spreads):
        return "node(s) didn't match pod topology spread constraints"
    return None


def _is_near(
    term: Mapping[str, Any], pod: Object, labels: Mapping[str, str], placed: Sequence[Placed]
) -> bool:
    """Whether a node is where an affinity wants it; the first of its pods may be anywhere."""
    if term["topologyKey"] not in labels:
        return False
    wanted = [each for each in placed if _selects(term, pod, each.pod)]
    if not wanted and _selects(term, pod, pod):
        return True
    return any(_meets(term, pod, labels, each) for each in wanted)


def _meets(term: Mapping[str, Any], pod: Object, labels: Mapping[str, str], other: Placed) -> bool:
    key = term["topologyKey"]
    same = key in labels and other.labels.get(key) == labels[key]
    return same and _selects(term, pod, other.pod)


def _is_kept_off(pod: Object, labels: Mapping[str, str], other: Placed) -> bool:
    affinity = (other.pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
    return any(
        other.labels.get(term["topologyKey"]) == labels.get(term["topologyKey"], "")
        and _selects(term, other.pod, pod)
        for term in affinity.get(_REQUIRED) or ()
    )


def _selects(term: Mapping[str, Any], pod: Object, other: Object) -> bool:
    """Whether a term of one pod is about another."""
    namespaces = term.get("namespaces") or [pod["metadata"].get("namespace")]
    return other["metadata"].get("namespace") in namespaces and _matches(
        term.get("labelSelector"), other
    )


def _matches(selector: Mapping[str, Any] | None, pod: Object) -> bool:
    """Whether a label selector selects a pod; one that is not there selects none."""
    labels = pod["metadata"].get("labels") or {}
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    same = all(labels.get(name) == value for name, value in wanted.items())
    return same and _expressions_hold(selector.get("matchExpressions") or (), labels)


def _is_spread(
    constraint: Mapping[str, Any], labels: Mapping[str, str], around: Surroundings
) -> bool:
    """Whether a pod may be added where a node is without unbalancing its topology."""
    if constraint.get("whenUnsatisfiable", "DoNotSchedule") != "DoNotSchedule":
        return True
    key = constraint["topologyKey"]
    if key not in labels:
        return False
    counts = Counter({node[key]: 0 for node in around.nodes if key in node})
    counts[labels[key]] += 1
    counts.update(
        each.labels[key]
        for each in around.placed
        if key in each.labels and _matches(constraint.get("labelSelector"), each.pod)
    )
    return counts[labels[key]] - min(counts.values()) <= int(constraint["maxSkew"])
