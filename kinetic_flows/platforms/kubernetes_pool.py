"""The work pool and what stands beside it in the cluster: made, brought up to date, shown."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kinetic_flows.clients.kubernetes_client import (
    KubernetesClient,
    KubernetesRefused,
    core_path,
)
from kinetic_flows.clients.kubernetes_work_pool import WorkPools
from kinetic_flows.errors import LaunchError
from kinetic_flows.kubernetes.manifests import (
    WORK_POOL_TYPE,
    base_job_template,
    headless_service,
)
from kinetic_flows.kubernetes.refusal import explain_refusal
from kinetic_flows.naming import HEADLESS_SERVICE

CONFLICT, MISSING = 409, 404
LONGEST_VALUE = 60


@dataclass(frozen=True, kw_only=True)
class PoolChange:
    """What was done about a work pool.

    Attributes:
        action: What was done.
        changes: Lines that say what is different in its template now.
    """

    action: Literal["created", "updated", "unchanged"]
    changes: tuple[str, ...] = ()


def install_work_pool(pools: WorkPools, name: str) -> PoolChange:
    """Create a work pool with the template that ships, or bring its template up to date.

    Args:
        pools: Where work pools are kept.
        name: Its name.

    Raises:
        PrefectServerError: Prefect refuses or does not answer, or it has another type.
    """
    known = pools.read_template(name, WORK_POOL_TYPE)
    if known is None:
        pools.create(name, WORK_POOL_TYPE, base_job_template())
        return PoolChange(action="created")
    wanted = with_kept_defaults(base_job_template(), known)
    changes = tuple(template_changes(known, wanted))
    if not changes:
        return PoolChange(action="unchanged")
    pools.update(name, wanted)
    return PoolChange(action="updated", changes=changes)


def pending_changes(pools: WorkPools, name: str) -> tuple[str, ...] | None:
    """Return what an installation would change in a work pool; None when there is none.

    Raises:
        PrefectServerError: Prefect refuses or does not answer, or it has another type.
    """
    known = pools.read_template(name, WORK_POOL_TYPE)
    if known is None:
        return None
    return tuple(template_changes(known, with_kept_defaults(base_job_template(), known)))


def with_kept_defaults(template: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template with the defaults that an administrator set where it leaves them open.

    Args:
        template: The template that ships.
        known: The work pool's template as it is.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(template))
    earlier = (known.get("variables") or {}).get("properties") or {}
    for name, variable in merged["variables"]["properties"].items():
        if "default" not in variable and "default" in (earlier.get(name) or {}):
            variable["default"] = earlier[name]["default"]
    return merged


def template_changes(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield a line for each place at which two templates differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            place = f"{path}.{key}" if path else str(key)
            if key not in old:
                yield f"{place}: added {_short(new[key])}"
            elif key not in new:
                yield f"{place}: removed {_short(old[key])}"
            else:
                yield from template_changes(old[key], new[key], place)
    elif old != new:
        yield f"{path}: {_short(old)} is now {_short(new)}"


def ensure_headless_service(client: KubernetesClient, namespace: str) -> bool:
    """Make the Service by which hosts of slices find one another.

    Args:
        client: The cluster.
        namespace: Namespace of the runs.

    Returns:
        Whether it had to be made.

    Raises:
        LaunchError: The cluster refuses, or does not answer.
    """
    try:
        client.ask("POST", core_path(namespace, "services"), body=headless_service(namespace))
    except KubernetesRefused as refusal:
        if refusal.status == CONFLICT:
            return False
        raise _explained(refusal, "create the Service") from refusal
    return True


def has_headless_service(client: KubernetesClient, namespace: str) -> bool:
    """Whether a namespace has the Service by which hosts of slices find one another.

    Raises:
        LaunchError: The cluster refuses to say, or does not answer.
    """
    try:
        client.ask("GET", core_path(namespace, "services", HEADLESS_SERVICE))
    except KubernetesRefused as refusal:
        if refusal.status == MISSING:
            return False
        raise _explained(refusal, "read the Service") from refusal
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _explained(refusal: KubernetesRefused, action: str) -> LaunchError:
    found = explain_refusal(refusal.status, refusal.body, action)
    return LaunchError(found.message, value=refusal.status, hint=found.hint)
