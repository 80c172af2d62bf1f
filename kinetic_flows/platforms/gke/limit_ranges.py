"""What a namespace's limit ranges say of the containers in it.

https://kubernetes.io/docs/concepts/policy/limit-range/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused, core_path
from kinetic_flows.core.launcher import PodRequests
from kinetic_flows.core.quantities import cpu_millis, memory_bytes

_READ: Mapping[str, Callable[[object], int | None]] = {"cpu": cpu_millis, "memory": memory_bytes}


async def read_limits(client: KubernetesClient, namespace: str) -> Sequence[Mapping[str, Any]]:
    """Return a namespace's `LimitRange` objects, as far as they may be listed.

    Args:
        client: The cluster.
        namespace: The namespace.

    Raises:
        LaunchError: The cluster does not tell.
    """
    try:
        found = await client.ask_within("GET", core_path(namespace, "limitranges"))
    except KubernetesRefused as refusal:
        if refusal.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            return ()
        raise
    items: Sequence[Mapping[str, Any]] = found.get("items") or ()
    return items


def limited_by(ranges: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the resources of which limit ranges say what containers ask for, or may.

    Args:
        ranges: The namespace's `LimitRange` objects.
    """
    return frozenset(
        name
        for limit in _of_containers(ranges)
        for rule in ("default", "defaultRequest", "max", "maxLimitRequestRatio")
        for name in limit.get(rule) or ()
        if name in _READ
    )


def check_limits(ranges: Iterable[Mapping[str, Any]], requests: PodRequests) -> Iterator[str]:
    """Yield why a namespace refuses what a run's pods ask for.

    Args:
        ranges: The namespace's `LimitRange` objects.
        requests: What its pods ask for.
    """
    asked = {"cpu": requests.cpu, "memory": requests.memory}
    for each in ranges:
        which = f"limit range {each['metadata']['name']!r} of the namespace"
        for limit in _of_containers([each]):
            for name, quantity in asked.items():
                read = _READ[name]
                wanted = read(quantity)
                rule, most = _most(limit, name, has_limit=_has_limit(name, requests))
                if wanted is not None and most and wanted > (read(most) or wanted):
                    asks = f"and the run asks for {quantity}"
                    yield f"{which} allows {most} of {name} ({rule}), {asks}"


def _most(limit: Mapping[str, Any], name: str, *, has_limit: bool) -> tuple[str, str]:
    """Return how much a container may ask for at most, and by which rule; empty for any amount."""
    # One without a limit gets the default one, which its request may not exceed.
    for rule in ("max",) if has_limit else ("default", "max"):
        if most := (limit.get(rule) or {}).get(name):
            return rule, str(most)
    return "", ""


def _has_limit(name: str, requests: PodRequests) -> bool:
    return name == "memory" and requests.memory_limit is not None


def _of_containers(ranges: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for each in ranges:
        for limit in (each.get("spec") or {}).get("limits") or ():
            if limit.get("type") == "Container":
                yield limit
