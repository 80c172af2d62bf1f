"""Which node pools of a cluster a run's pods may be on, and what is missing where none is.

What a person asked for is gone through one thing after the other, so that what is told is the
first that no pool has any more, and by which option it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from kinetic_flows.core.accelerators import Accelerator, NodePool
from kinetic_flows.core.accelerators.model import SPOT_LABEL
from kinetic_flows.core.accelerators.node_pools import (
    ANY_RESERVATION,
    COMPUTE_CLASS_LABEL,
    NODE_POOL_LABEL,
    RESERVATION_AFFINITY_LABEL,
    RESERVATION_NAME_LABEL,
    RESERVATION_PROJECT_LABEL,
    ZONE_LABEL,
)
from kinetic_flows.core.accelerators.node_requests import NodeRequest
from kinetic_flows.core.moments import duration

_OWN_ORDER = (
    NODE_POOL_LABEL,
    COMPUTE_CLASS_LABEL,
    RESERVATION_NAME_LABEL,
    RESERVATION_PROJECT_LABEL,
    RESERVATION_AFFINITY_LABEL,
    ZONE_LABEL,
)


@dataclass(frozen=True, kw_only=True)
class PoolChoice:
    """What node pools say to a run.

    Attributes:
        fitting: The node pools that its pods may be on.
        missing: What none of them has, where none is fitting; else empty.
    """

    fitting: tuple[NodePool, ...] = ()
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """One thing that is asked of a node pool.

    Attributes:
        fits: Whether a pool has it.
        lacking: What is told where none of these has it.
    """

    fits: Callable[[NodePool], bool]
    lacking: Callable[[Sequence[NodePool]], str]


def choose_pools(
    pools: Sequence[NodePool], accelerator: Accelerator, nodes: NodeRequest
) -> PoolChoice:
    """Return the node pools that a run's pods may be on.

    Args:
        pools: The cluster's node pools.
        accelerator: What it runs on.
        nodes: What else its pods ask of nodes.
    """
    left = tuple(pools)
    for wish in _wishes(accelerator, nodes):
        fitting = tuple(filter(wish.fits, left))
        if not fitting:
            return PoolChoice(missing=wish.lacking(left))
        left = fitting
    return PoolChoice(fitting=left)


def listed(pools: Sequence[NodePool]) -> str:
    """Name node pools with what they have."""
    return ", ".join(sorted(set(map(str, pools)))) or "none"


def _wishes(accelerator: Accelerator, nodes: NodeRequest) -> Iterator[_Wish]:
    named = nodes.labels.get(NODE_POOL_LABEL)
    if named:
        yield _Wish(
            fits=lambda pool: pool.name in named,
            lacking=lambda left: (
                f"there is no node pool {_either(named)}, which node_pool names; "
                f"the cluster has: {listed(left)}"
            ),
        )
    plain = replace(accelerator, spot=False, flex=True)
    on_demand = replace(accelerator, spot=False, flex=False)
    yield _Wish(
        fits=lambda pool: pool.offers(plain) or pool.offers(on_demand),
        lacking=lambda left: _no_accelerator(accelerator, left, named),
    )
    yield _Wish(
        fits=lambda pool: pool.offers(accelerator),
        lacking=lambda left: _other_way(accelerator, left),
    )
    for label in sorted(nodes.labels, key=_rank):
        values = nodes.labels[label]
        if label != NODE_POOL_LABEL:
            yield _labelled(accelerator, label, values)
    yield _Wish(
        fits=lambda pool: not pool.untolerated(nodes.tolerations),
        lacking=lambda left: _tainted(left, nodes),
    )
    asked = nodes.max_run_seconds
    if accelerator.flex and asked is not None:
        yield _Wish(
            fits=lambda pool: pool.max_run_seconds is None or pool.max_run_seconds >= asked,
            lacking=lambda left: _too_short(left, asked),
        )


def _rank(label: str) -> tuple[int, str]:
    return (_OWN_ORDER.index(label) if label in _OWN_ORDER else len(_OWN_ORDER), label)


def _no_accelerator(
    accelerator: Accelerator, left: Sequence[NodePool], named: Collection[str] | None
) -> str:
    if named:
        return f"{_names(left)}, which node_pool names, has no {accelerator}: it is {listed(left)}"
    return f"no node pool has {accelerator}; the cluster has: {listed(left)}"


def _other_way(accelerator: Accelerator, left: Sequence[NodePool]) -> str:
    """Say that pools have an accelerator, and not by the way that is asked for."""
    bare = accelerator.name
    if accelerator.flex:
        return (
            f"no node pool has {bare} by flex-start; {listed(left)} has it otherwise: leave `:flex`"
            f" out, or make one with `kinetic nodepools add {accelerator}`"
        )
    if accelerator.spot:
        return (
            f"no node pool has {bare} on Spot VMs; {listed(left)} has it otherwise: leave `:spot` "
            f"out, or make one with `kinetic nodepools add {accelerator}`"
        )
    return (
        f"{bare} is to be had by flex-start alone, in {listed(left)}: ask for {bare}:flex, or make "
        f"a node pool with `kinetic nodepools add {accelerator}`"
    )


def _labelled(accelerator: Accelerator, label: str, values: Collection[str]) -> _Wish:
    return _Wish(
        fits=lambda pool: pool.may_have({label: values}),
        lacking=lambda left: _without_label(accelerator, label, values, left),
    )


def _without_label(
    accelerator: Accelerator, label: str, values: Collection[str], left: Sequence[NodePool]
) -> str:
    value = _either(values)
    if label == ZONE_LABEL:
        zones = sorted({zone for pool in left for zone in pool.zones})
        return (
            f"no node pool with {accelerator} is in {value}; {_names(left)} "
            f"{'are' if len(left) > 1 else 'is'} in {', '.join(zones)}: name one of these in zones"
        )
    if label in (RESERVATION_NAME_LABEL, RESERVATION_AFFINITY_LABEL):
        return _without_reservation(accelerator, values, left)
    if label == COMPUTE_CLASS_LABEL:
        return f"no node pool with {accelerator} is of the compute class {value}: {listed(left)}"
    told = "Spot VMs" if label == SPOT_LABEL else f"the label {label}={value}"
    return (
        f"no node pool with {accelerator} has {told}, which the run asks for: there is "
        f"{listed(left)}"
    )


def _without_reservation(
    accelerator: Accelerator, values: Collection[str], left: Sequence[NodePool]
) -> str:
    what = "any reservation" if ANY_RESERVATION in values else f"the reservation {_either(values)}"
    return (
        f"no node pool with {accelerator} uses {what}; there is {listed(left)}: make one with "
        f"`kinetic nodepools add {accelerator} --reservation NAME`, or leave reservation out"
    )


def _tainted(left: Sequence[NodePool], nodes: NodeRequest) -> str:
    taints = sorted({str(each) for pool in left for each in pool.untolerated(nodes.tolerations)})
    return (
        f"the nodes of {_names(left)} have taints that the run does not tolerate: "
        f"{', '.join(taints)}; add to tolerations in job_variables"
    )


def _too_short(left: Sequence[NodePool], asked: float) -> str:
    longest = max(left, key=lambda pool: pool.max_run_seconds or 0.0)
    return (
        f"flex-start takes nodes of {longest.name} back after "
        f"{duration(longest.max_run_seconds or 0.0)}, and max_run_duration_seconds asks for "
        f"{duration(asked)}"
    )


def _either(values: Collection[str]) -> str:
    return " or ".join(values)


def _names(pools: Sequence[NodePool]) -> str:
    return f"node pool{'s' if len(pools) > 1 else ''} {', '.join(pool.name for pool in pools)}"
