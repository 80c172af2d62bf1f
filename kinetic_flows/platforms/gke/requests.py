"""What a run's pods ask of their nodes: CPUs and memory, by default a share of the machine's.

Pods that ask for nothing are put together on one node, and are the first to be evicted when it
has no memory left (https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/). What is asked for
by default is no limit: a run may use all that its node has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinetic_flows.core.accelerators import Accelerator, NodePool, list_accelerators
from kinetic_flows.core.accelerators.machines import GIB, MIB, NodeSize, node_size
from kinetic_flows.core.launcher import PodRequests
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.quantities import (
    cpu_millis,
    cpu_quantity,
    memory_bytes,
    memory_quantity,
)
from kinetic_flows.core.settings.pool_variables import (
    merged,
    template_defaults,
    unknown_variables,
)
from kinetic_flows.platforms.gke.setup.names import QUEUE

CPU = "cpu"
MEMORY = "memory"
MEMORY_REQUEST = "memory_request"
"""Variables of the work pool's template. `memory` is the limit, too, and the request where
`memory_request` is not said."""

PLAIN_REQUEST = NodeSize(cpu_millis=500, memory_bytes=2 * GIB)
"""What a pod without accelerator asks for: as much as GKE's Autopilot gives one that does not say.

https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-resource-requests#defaults
"""

UNSEEN_REQUEST = NodeSize(cpu_millis=250, memory_bytes=GIB)
"""The same where nothing is known of the nodes: it fits on GKE's default machine, `e2-medium`."""

LARGEST_PLAIN_SHARE = 1 / 4
"""How much of what GKE's own pods leave of a small node that may be at most."""

ACCELERATOR_SHARE = 3 / 4
"""How much of what goes with its chips a pod asks for: the rest is for the cluster's own pods."""

_OWN_PODS = NodeSize(cpu_millis=500, memory_bytes=GIB)
"""What is left of a small node for those that are on every node of GKE."""

_SMALLER: Mapping[str, str] = {
    "n1-standard-8": "n1-standard-2",
    "n1-standard-16": "n1-standard-4",
    "n1-standard-32": "n1-standard-8",
    "n1-standard-64": "n1-standard-16",
    "g2-standard-12": "g2-standard-4",
}
"""Machines with the same GPUs that a cluster may have instead: of unknown ones, these."""

_ANY_MACHINE = "n1-"
"""Machines of any size have these GPUs: https://cloud.google.com/compute/docs/gpus#n1-gpus."""

_ESTIMATE = 1.01
"""How much more than what is believed of a machine is still tried."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a cluster has told, by which pods ask for what fits.

    Attributes:
        pools: Its node pools that the pods may be on, as far as they are known.
        limited: Resources of which the namespace itself says what containers ask for, or may.
        makes_pools: Whether it makes node pools by itself.
    """

    pools: tuple[NodePool, ...] = ()
    limited: frozenset[str] = frozenset()
    makes_pools: bool = False


def option_variables(options: RunOptions) -> dict[str, Any]:
    """Return the template's variables that options say, which have the last word."""
    said = {CPU: options.cpu, MEMORY: options.memory}
    own = {name: value for name, value in said.items() if value is not None}
    return merged(options.job_variables, own)


def layered(settings: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables of the settings and of the options, which win.

    An amount of memory said later is also what is asked for.
    """
    variables = merged(settings, options)
    if MEMORY in options and MEMORY_REQUEST not in options:
        variables.pop(MEMORY_REQUEST, None)
    return variables


def requests_of(chosen: Mapping[str, Any], template: Mapping[str, Any]) -> PodRequests:
    """Return what is said of CPUs and memory, by people or as the work pool's default.

    Args:
        chosen: What people set of the template's variables.
        template: The work pool's base job template.
    """
    given = layered(template_defaults(template), chosen)
    memory = given.get(MEMORY_REQUEST) or given.get(MEMORY)
    said = (given.get(CPU), memory, given.get(MEMORY))
    cpu, memory, limit = (str(value) if value else None for value in said)
    return PodRequests(cpu=cpu, memory=memory, memory_limit=limit)


def with_requests(
    variables: Mapping[str, Any],
    accelerator: Accelerator,
    template: Mapping[str, Any],
    surroundings: Surroundings,
    in_memory: int = 0,
) -> dict[str, Any]:
    """Return a run's variables with what its pods ask for where nobody says.

    Args:
        variables: Its variables.
        accelerator: What it runs on.
        template: The work pool's base job template.
        surroundings: What the cluster has told.
        in_memory: Bytes of data that are kept in memory.
    """
    said = requests_of(variables, template)
    given = dict(variables)
    known = template_defaults(template)
    has_place = not unknown_variables([MEMORY_REQUEST], template)
    if has_place and MEMORY in given:
        # Else a default of the work pool's would go on asking for another amount.
        given.setdefault(MEMORY_REQUEST, given[MEMORY])
    queue = given.get("queue_name") or known.get("queue_name")
    size = default_size(accelerator, surroundings.pools)
    if size is None or queue not in (None, "", QUEUE):
        # Kueue admits nothing that asks for what a queue of others does not count.
        return given
    if said.cpu is None and CPU not in surroundings.limited:
        given[CPU] = cpu_quantity(size.cpu_millis)
    if said.memory is None and has_place and MEMORY not in surroundings.limited:
        plain = accelerator.category == "cpu"
        wanted = size.memory_bytes + in_memory if plain else max(size.memory_bytes, in_memory)
        given[MEMORY_REQUEST] = memory_quantity(_up(wanted, MIB))
    return given


def default_size(accelerator: Accelerator, pools: Sequence[NodePool] = ()) -> NodeSize | None:
    """Return what a pod asks for by default; None for a machine of which nothing is known.

    Args:
        accelerator: What it runs on.
        pools: The cluster's node pools, as far as they are known.
    """
    fitting = [pool for pool in candidates(accelerator, pools) if pool.size]
    if accelerator.category == "cpu":
        rooms = [pool.size for pool in fitting if pool.size]
        return _plain(max(rooms, key=lambda size: size.memory_bytes) if rooms else None)
    shares = [share for pool in fitting if (share := _share(accelerator, pool))]
    if not shares:
        machine = accelerator.machine_type or ""
        size = node_size(_SMALLER.get(machine, machine))
        shares = [_beside_own_pods(size)] if size else []
    if not shares:
        return None
    # Any of them can take the pod: so it asks for no more than the smallest has.
    return _rounded(_smallest(*shares))


def candidates(accelerator: Accelerator, pools: Iterable[NodePool]) -> list[NodePool]:
    """Return the node pools whose nodes may take the pods of a run."""
    fitting = [pool for pool in pools if pool.offers(accelerator)]
    if accelerator.category != "cpu":
        return fitting
    # Nodes with chips have taints that a run without does not tolerate.
    return [pool for pool in fitting if not pool.accelerator] or fitting


def static_obstacle(accelerator: Accelerator, requests: PodRequests) -> str:
    """Say what no cluster could give; empty where one may.

    Args:
        accelerator: What the run is to run on.
        requests: What its pods ask for.
    """
    limit = memory_bytes(requests.memory_limit)
    if limit is not None and (memory_bytes(requests.memory) or 0) > limit:
        return (
            f"memory_request is {requests.memory}, and memory, which is the most that a pod may "
            f"use, is {requests.memory_limit}: say more memory, or ask for less"
        )
    machine, size = _largest_machine(accelerator)
    told = [f"{word}, and {machine} has {most} for pods" for word, most in _excess(requests, size)]
    return f"no machine with {accelerator} has {'; '.join(told)}" if told else ""


def too_much(accelerator: Accelerator, requests: PodRequests, pools: Sequence[NodePool]) -> str:
    """Say what no node of a cluster could give, and how much would fit; empty where one may.

    Args:
        accelerator: What the run is to run on.
        requests: What its pods ask for.
        pools: The cluster's node pools.
    """
    fitting = candidates(accelerator, pools)
    if not fitting or any(not _excess(requests, pool.size) for pool in fitting):
        return ""
    sized = [pool for pool in fitting if pool.size]
    best = max(sized, key=lambda pool: pool.size.memory_bytes if pool.size else 0)
    excess = _excess(requests, best.size)
    told = " and ".join(f"{word} (at most {most} would fit)" for word, most in excess)
    machine = f", {best.machine_type}" if best.machine_type else ""
    return (
        f"no node with {accelerator} has {told}: the largest are those of node pool "
        f"{best.name}{machine}; ask for less, or add a node pool of larger machines"
    )


def _excess(requests: PodRequests, size: NodeSize | None) -> list[tuple[str, str]]:
    """Return what is asked for beyond what a node has, in words, with what it has."""
    if size is None:
        return []
    cpu, memory = cpu_millis(requests.cpu), memory_bytes(requests.memory)
    found = []
    if cpu is not None and cpu > size.cpu_millis:
        found.append((f"{requests.cpu} CPUs", cpu_quantity(size.cpu_millis)))
    if memory is not None and memory > size.memory_bytes * _ESTIMATE:
        most = size.memory_bytes // GIB * GIB or size.memory_bytes
        found.append((f"{requests.memory} of memory", memory_quantity(most)))
    return found


def _largest_machine(accelerator: Accelerator) -> tuple[str, NodeSize | None]:
    """Return the largest machine that the pod of a run may be on; no size where it may be any."""
    machine = accelerator.machine_type or ""
    if not machine or machine.startswith(_ANY_MACHINE):
        return machine, None
    if accelerator.category == "tpu":
        return machine, node_size(machine)
    named = {
        each.machine_type or "" for each in list_accelerators() if each.label == accelerator.label
    }
    sized = {name: size for name in named if (size := node_size(name))}
    if not sized:
        return machine, None
    largest = max(sized, key=lambda name: sized[name].memory_bytes)
    return largest, sized[largest]


def _plain(node: NodeSize | None) -> NodeSize:
    if node is None:
        return UNSEEN_REQUEST
    least = _smallest(PLAIN_REQUEST, _without_own_pods(node).part(LARGEST_PLAIN_SHARE))
    return NodeSize(
        cpu_millis=max(least.cpu_millis // 10 * 10, 10),
        memory_bytes=max(least.memory_bytes // MIB * MIB, MIB),
    )


def _beside_own_pods(node: NodeSize) -> NodeSize:
    """Return what runs with chips may ask for of a node together."""
    return _smallest(node.part(ACCELERATOR_SHARE), _without_own_pods(node))


def _without_own_pods(node: NodeSize) -> NodeSize:
    return NodeSize(
        cpu_millis=max(node.cpu_millis - _OWN_PODS.cpu_millis, 0),
        memory_bytes=max(node.memory_bytes - _OWN_PODS.memory_bytes, 0),
    )


def _smallest(*sizes: NodeSize) -> NodeSize:
    return NodeSize(
        cpu_millis=min(each.cpu_millis for each in sizes),
        memory_bytes=min(each.memory_bytes for each in sizes),
    )


def _share(accelerator: Accelerator, pool: NodePool) -> NodeSize | None:
    """Return what goes with a run's chips of one node."""
    if pool.size is None:
        return None
    return _beside_own_pods(pool.size).part(
        min(accelerator.count_per_host / (pool.count_per_host or accelerator.count_per_host), 1)
    )


def _rounded(size: NodeSize) -> NodeSize:
    """Return it as people would write it, and no more of it."""
    millis, memory = size.cpu_millis, size.memory_bytes
    return NodeSize(
        cpu_millis=millis // 1000 * 1000 if millis >= 4000 else max(millis // 100 * 100, 100),
        memory_bytes=memory // GIB * GIB if memory >= 4 * GIB else max(memory // MIB * MIB, MIB),
    )


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
