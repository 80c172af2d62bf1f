"""Variables of the work pool's job template that people may set, and how layers of them add up.

The work pool holds defaults for everybody, a profile or `KINETIC_JOB_VARIABLES` what a cluster
needs, and `job_variables=` what one function needs. What the template calls a variable is what
it is called everywhere; one that an administrator added is passed on as it is.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from kinetic_flows.core.errors import ConfigurationError, suggest
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.pod_security import PRESETS

if TYPE_CHECKING:
    from kinetic_flows.core.settings import node_variables
else:
    # Few calls say where pods may be.
    node_variables = LazyModule("kinetic_flows.core.settings.node_variables")

ADDED_UP = (
    *("env", "env_from", "labels", "annotations", "tolerations", "image_pull_secrets"),
    "topology_spread",
)
"""Variables of the template that hold several things, of which each layer may add some."""

_DECIDED_ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("image", "image_pull_policy"), "an image is chosen with container_image="),
    **dict.fromkeys(("entrypoint", "command"), "what a run starts is kinetic's own runner"),
    **dict.fromkeys(("name", "job_name"), "runs are named with name="),
    **dict.fromkeys(
        (
            *("tpu_accelerator", "tpu_topology", "tpu_chips", "gpu_accelerator", "gpu_count"),
            *("spot", "flex_start", "hosts", "completion_mode", "subdomain"),
        ),
        "accelerator= decides that; `:spot` or `:flex` at its end asks for such nodes",
    ),
    **dict.fromkeys(
        ("reservation_name", "reservation_project", "reservation_affinity"), "say reservation="
    ),
    "compute_class": "say compute_class=",
    "node_pool": "say node_pool=",
    "backoff_limit": "say max_preemptions=",
    **dict.fromkeys(
        ("packages_volume", "packages_mount"),
        "KINETIC_PREBUILT says how packages come into a prebuilt image",
    ),
    **dict.fromkeys(
        (f"{kind}_{number}" for kind in ("volume", "volume_mount") for number in range(1, 9)),
        "say volumes={'/path': ...}",
    ),
    "secret_env": "secrets= names keys of Kubernetes Secrets",
    "namespace": "set KINETIC_NAMESPACE, or the namespace of the profile",
    "env": "name variables in capture_env_vars=, whose values stay out of Prefect and the Job; "
    "for secrets of the cluster there is env_from",
    "cluster_config": "it is for Prefect's workers: edit the work pool",
}

_TAKEN_WHOLE = frozenset({"security_context", "pod_security_context"})
"""Variables that hold one thing in several parts: a later layer's replaces an earlier one's."""

_SECURITY_FIELDS = frozenset(
    {
        *("allowPrivilegeEscalation", "appArmorProfile", "capabilities", "privileged"),
        *("procMount", "readOnlyRootFilesystem", "runAsGroup", "runAsNonRoot", "runAsUser"),
        *("seLinuxOptions", "seccompProfile"),
    }
)

_POD_SECURITY_FIELDS = frozenset(
    {
        *("appArmorProfile", "fsGroup", "fsGroupChangePolicy", "runAsGroup", "runAsNonRoot"),
        *("runAsUser", "seLinuxOptions", "seccompProfile", "supplementalGroups", "sysctls"),
    }
)

_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>m|[kKMGTPE]i?)?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL_KEY = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)?")
_SMALLEST_BYTES = 1 << 20
_TOLERATION_KEYS = frozenset({"key", "operator", "value", "effect", "tolerationSeconds"})


def check_job_variables(value: object, label: str) -> dict[str, Any]:
    """Check variables for the work pool's template, and return them as the template takes them.

    Args:
        value: A mapping by variable, or the same as a JSON object.
        label: What to call them in an error.

    Raises:
        ConfigurationError: A variable is decided elsewhere, or has a value that cannot be.
    """
    given = _read(value, label)
    checked: dict[str, Any] = {}
    for name, each in given.items():
        if not isinstance(name, str):
            _refuse(name, f"{label} has the variable {name!r}", "variables are named by texts")
        elsewhere = _DECIDED_ELSEWHERE.get(name)
        if elsewhere:
            _refuse(name, f"{label} sets {name!r}, which is decided elsewhere", elsewhere)
        named = f"{name} of {label}"
        checked[name] = _as_it_is(_CHECKS.get(name, _as_it_is)(each, named), named)
    return checked


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables of which later layers win; mappings are merged and lists are joined."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            known = result.get(name)
            if name in _TAKEN_WHOLE:
                result[name] = copy.deepcopy(value)
            elif isinstance(known, Mapping) and isinstance(value, Mapping):
                result[name] = {**known, **value}
            elif isinstance(known, list) and isinstance(value, list):
                result[name] = [*known, *value]
            else:
                result[name] = copy.deepcopy(value)
    return result


def template_defaults(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults that a base job template gives its variables."""
    properties: Mapping[str, Any] = (template.get("variables") or {}).get("properties") or {}
    return {name: each["default"] for name, each in properties.items() if "default" in each}


def unknown_variables(names: Iterable[str], template: Mapping[str, Any]) -> list[str]:
    """Return those names that a base job template has no variable for."""
    known = (template.get("variables") or {}).get("properties") or {}
    return sorted(name for name in names if name not in known)


def _read(value: object, label: str) -> Mapping[Any, Any]:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        _refuse(
            value,
            f"{label} is {value!r}",
            'give a mapping of variables, such as {"memory": "64Gi", "queue_name": "tpus"}',
        )
    return value


def check_cpu(value: object, label: str) -> str:
    """Check CPUs, and return them as a quantity of Kubernetes.

    Args:
        value: Such as 8 or `500m`.
        label: What to call it in an error.

    Raises:
        ConfigurationError: It is none.
    """
    return _quantity(value, label, "such as 8 or 500m", allowed=("", "m"))


def check_bytes(value: object, label: str) -> str:
    """Check an amount of memory or disk, and return it as a quantity of Kubernetes.

    Args:
        value: Such as `64Gi`.
        label: What to call it in an error.

    Raises:
        ConfigurationError: It is none, or a few bytes.
    """
    units = tuple(f"{prefix}{suffix}" for prefix in "KMGTPE" for suffix in ("", "i"))
    text = _quantity(value, label, "with its unit, such as 64Gi", allowed=("", "k", *units))
    if text.replace(".", "").isdigit() and float(text) < _SMALLEST_BYTES:
        _refuse(value, f"{label} is {value!r}, which is a few bytes", "give it as 64Gi or 512Mi")
    return text


def _quantity(value: object, label: str, hint: str, *, allowed: tuple[str, ...]) -> str:
    """Check a quantity of Kubernetes.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    text = str(value).strip() if not isinstance(value, bool) else ""
    found = _QUANTITY.fullmatch(text)
    if not found or (found["unit"] or "") not in allowed or not float(found["number"]):
        _refuse(value, f"{label} is {value!r}", f"give a Kubernetes quantity {hint}")
    return text


def _name(value: object, label: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        _refuse(value, f"{label} is {value!r}", "give the name of a Kubernetes object")
    return value


def _labels(value: object, label: str) -> dict[str, str]:
    found = _texts(value, label)
    for key, text in found.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(text):
            _refuse(
                f"{key}={text}",
                f"{label} has {key}={text}, which is no label",
                "labels have up to 63 letters, digits, dashes, underscores and dots",
            )
    return found


def _annotations(value: object, label: str) -> dict[str, str]:
    found = _texts(value, label)
    for key in found:
        if not _LABEL_KEY.fullmatch(key):
            _refuse(key, f"{label} has the key {key!r}", "write it as example.com/ticket")
    return found


def _texts(value: object, label: str) -> dict[str, str]:
    found = dict(value) if isinstance(value, Mapping) else None
    if found is None or not all(isinstance(part, str) for item in found.items() for part in item):
        _refuse(value, f"{label} is {value!r}", 'give texts by texts, such as {"team": "vision"}')
    return found


def _count(minimum: int) -> Callable[[object, str], int]:
    def check(value: object, label: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            _refuse(value, f"{label} is {value!r}", f"give a whole number from {minimum} on")
        return value

    return check


def _references(*kinds: str) -> Callable[[object, str], list[dict[str, Any]]]:
    """Return a check for a list of named objects, each under one of some kinds (or none)."""
    example = {kinds[0]: {"name": "my-secret"}} if kinds else {"name": "my-secret"}

    def check(value: object, label: str) -> list[dict[str, Any]]:
        items = list(value) if isinstance(value, list | tuple) else None
        if items is None or not all(isinstance(item, Mapping) for item in items):
            _refuse(value, f"{label} is {value!r}", f"give a list such as {[example]}")
        for item in items:
            inner = next((item[kind] for kind in kinds if kind in item), None) if kinds else item
            if not isinstance(inner, Mapping) or not _NAME.fullmatch(str(inner.get("name", ""))):
                _refuse(item, f"{label} has the entry {item!r}", f"write it as {example}")
        return [dict(item) for item in items]

    return check


def _tolerations(value: object, label: str) -> list[dict[str, Any]]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    checked: list[dict[str, Any]] = []
    for item in items:
        if not isinstance(item, Mapping) or not item or not item.keys() <= _TOLERATION_KEYS:
            _refuse(
                item,
                f"{label} has the entry {item!r}",
                'write it as {"key": "team", "operator": "Exists", "effect": "NoSchedule"}',
            )
        checked.append(dict(item))
    return checked


def _security_context(value: object, label: str) -> dict[str, Any]:
    """Check what a container may do on its node, given by name or in Kubernetes' own fields."""
    if isinstance(value, str) and value in PRESETS:
        return copy.deepcopy(dict(PRESETS[value]))
    if not isinstance(value, Mapping):
        names = " or ".join(map(repr, PRESETS))
        _refuse(value, f"{label} is {value!r}", f"give {names}, or a mapping of Kubernetes' fields")
    return _fields(value, label, _SECURITY_FIELDS)


def _pod_security_context(value: object, label: str) -> dict[str, Any]:
    """Check what holds for a pod as a whole, such as the group of its disks."""
    if not isinstance(value, Mapping):
        _refuse(value, f"{label} is {value!r}", 'give a mapping, such as {"fsGroup": 2000}')
    return _fields(value, label, _POD_SECURITY_FIELDS)


def _fields(value: Mapping[Any, Any], label: str, known: frozenset[str]) -> dict[str, Any]:
    for name in value:
        if name not in known:
            _refuse(name, f"{label} has the field {name!r}", suggest(str(name), known))
    return dict(value)


def _as_it_is(value: object, label: str) -> object:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        _refuse(value, f"{label} is {value!r:.200}", "give a value that JSON can hold")
    return value


_CHECKS: Mapping[str, Callable[[object, str], Any]] = {
    "cpu": check_cpu,
    **dict.fromkeys(
        (
            *("memory", "memory_request", "ephemeral_storage", "ephemeral_storage_request"),
            "shared_memory",
        ),
        check_bytes,
    ),
    **dict.fromkeys(("service_account_name", "priority_class_name", "queue_name"), _name),
    "security_context": _security_context,
    "pod_security_context": _pod_security_context,
    "labels": _labels,
    "annotations": _annotations,
    "active_deadline_seconds": _count(1),
    "finished_job_ttl": _count(0),
    "termination_grace_seconds": _count(0),
    "env_from": _references("secretRef", "configMapRef"),
    "image_pull_secrets": _references(),
    "tolerations": _tolerations,
    # Looked up when they are called, as others import nothing of it.
    "node_selector": lambda value, label: node_variables.check_node_selector(value, label),
    "affinity": lambda value, label: node_variables.check_affinity(value, label),
    "topology_spread": lambda value, label: node_variables.check_topology_spread(value, label),
}


def _refuse(value: object, message: str, hint: str) -> NoReturn:
    raise ConfigurationError(message, value=value, hint=hint)
