"""Job variables that say on which nodes pods may be: checked, and made into an affinity.

https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/ and
https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from kinetic_flows.core.errors import ConfigurationError, suggest

_LABEL_KEY = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)?")

_OF_ACCELERATORS = frozenset(
    {
        "cloud.google.com/gke-tpu-accelerator",
        "cloud.google.com/gke-tpu-topology",
        "cloud.google.com/gke-accelerator",
        "cloud.google.com/gke-spot",
        "cloud.google.com/gke-flex-start",
    }
)
"""Labels that the accelerator says."""

_KINDS: Mapping[str, str] = {
    "nodeAffinity": "nodeSelectorTerms",
    "podAffinity": "",
    "podAntiAffinity": "",
}
_RULES = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
REQUIRED, _PREFERRED = _RULES
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")

_SPREAD_FIELDS = frozenset(
    {
        *("labelSelector", "matchLabelKeys", "maxSkew", "minDomains", "nodeAffinityPolicy"),
        *("nodeTaintsPolicy", "topologyKey", "whenUnsatisfiable"),
    }
)


def check_node_selector(value: object, label: str) -> dict[str, str]:
    """Check labels that nodes are to have."""
    if not isinstance(value, Mapping):
        _refuse(value, f"{label} is {value!r}", 'give labels, such as {"disk": "ssd"}')
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str) or not _is_label(key, text):
            _refuse(
                f"{key}={text}",
                f"{label} has {key}={text!r}, which is no label",
                'labels are texts of up to 63 letters, digits, dashes, underscores and dots: "true"'
                " in quotes, too",
            )
        if key in _OF_ACCELERATORS:
            hint = "accelerator= decides that; `:spot` or `:flex` at its end asks for such nodes"
            _refuse(key, f"{label} has {key}, which is decided elsewhere", hint)
    return dict(value)


def check_affinity(value: object, label: str) -> dict[str, Any]:
    """Check an affinity in Kubernetes' own fields, as far as one can be mistaken in them."""
    if not isinstance(value, Mapping):
        hint = f'give a mapping such as {{"nodeAffinity": {{"{REQUIRED}": ...}}}}'
        _refuse(value, f"{label} is {value!r}", hint)
    for kind, rules in value.items():
        if kind not in _KINDS:
            _refuse(kind, f"{label} has the field {kind!r}", suggest(str(kind), _KINDS))
        if not isinstance(rules, Mapping):
            _refuse(rules, f"{kind} of {label} is {rules!r}", f"give a mapping by {_RULES[0]}")
        for rule, told in rules.items():
            if rule not in _RULES:
                _refuse(rule, f"{kind} of {label} has the field {rule!r}", suggest(rule, _RULES))
            _check_rule(kind, rule, told, label)
    return copy.deepcopy(dict(value))


def check_topology_spread(value: object, label: str) -> list[dict[str, Any]]:
    """Check how pods are to be spread over zones, nodes and the like."""
    items: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    example = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone"}
    for item in items:
        if not isinstance(item, Mapping) or not isinstance(item.get("topologyKey"), str):
            _refuse(item, f"{label} has the entry {item!r}", f"write it as {example}")
        for name in item:
            if name not in _SPREAD_FIELDS:
                hint = suggest(str(name), _SPREAD_FIELDS)
                _refuse(name, f"{label} has the field {name!r}", hint)
    # Kubernetes has no default for these two.
    return [{"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", **item} for item in items]


def expressions_of(labels: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """Return the affinity to nodes that have labels; empty for none.

    Args:
        labels: The labels, each with the values of which it may have any.
    """
    asked = [
        {"key": key, "operator": "In", "values": list(values)} for key, values in labels.items()
    ]
    if not asked:
        return {}
    terms = {"nodeSelectorTerms": [{"matchExpressions": asked}]}
    return {"nodeAffinity": {REQUIRED: terms}}


def both_affinities(*affinities: Mapping[str, Any]) -> dict[str, Any]:
    """Return an affinity that asks for everything that several ask for."""
    joined: dict[str, Any] = {}
    for affinity in affinities:
        for kind, rules in affinity.items():
            known = joined.setdefault(kind, {})
            for rule, told in (rules or {}).items():
                known[rule] = _both(known.get(rule), copy.deepcopy(told))
    return joined


def asked_labels(pod: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the labels that a pod's spec asks nodes for, with the values that each may have.

    Of an affinity with alternatives nothing is said: it may be any of them.

    Args:
        pod: The pod's spec.
    """
    selector: Mapping[str, str] = pod.get("nodeSelector") or {}
    labels: dict[str, tuple[str, ...]] = {name: (value,) for name, value in selector.items()}
    required = ((pod.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED) or {}
    terms: Sequence[Mapping[str, Any]] = required.get("nodeSelectorTerms") or []
    if len(terms) != 1:
        return labels
    for each in terms[0].get("matchExpressions") or ():
        if each.get("operator") == "In" and each["key"] not in labels:
            labels[each["key"]] = tuple(each.get("values") or ())
    return labels


def _both(known: Any, told: Any) -> Any:
    if known is None:
        return told
    if not isinstance(known, Mapping):
        return [*known, *told]
    # Terms are alternatives, and what is in one of them is asked for together.
    pairs = [(one, other) for one in _terms(known) for other in _terms(told)]
    return {"nodeSelectorTerms": [_term(one, other) for one, other in pairs]}


def _terms(rule: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = rule.get("nodeSelectorTerms") or [{}]
    return found


def _term(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys((*one, *other))
    return {name: [*(one.get(name) or ()), *(other.get(name) or ())] for name in names}


def _check_rule(kind: str, rule: str, told: object, label: str) -> None:
    where = f"{rule} of {kind} in {label}"
    if rule == REQUIRED and kind == "nodeAffinity":
        terms = told.get("nodeSelectorTerms") if isinstance(told, Mapping) else None
        if not isinstance(terms, list | tuple) or not terms:
            hint = 'give {"nodeSelectorTerms": [{"matchExpressions": [...]}]}'
            _refuse(told, f"{where} is {told!r}", hint)
        for term in terms:
            _check_term(term, where)
    elif not isinstance(told, list | tuple) or not all(isinstance(each, Mapping) for each in told):
        _refuse(told, f"{where} is {told!r}", "give a list of mappings")


def _check_term(term: object, where: str) -> None:
    found = term.get("matchExpressions", ()) if isinstance(term, Mapping) else None
    for each in found if isinstance(found, list | tuple) else [None]:
        if not isinstance(each, Mapping) or each.get("operator") not in _OPERATORS:
            example = {"key": "disk", "operator": "In", "values": ["ssd"]}
            _refuse(term, f"{where} has {each!r}", f"write it as {example}")


def _is_label(key: str, value: str) -> bool:
    return bool(_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value))


def _refuse(value: object, message: str, hint: str) -> NoReturn:
    raise ConfigurationError(message, value=value, hint=hint)
