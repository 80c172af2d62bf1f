"""Everything that is wanted, in the order in which it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kinetic_flows.platforms.gke.setup import base
from kinetic_flows.platforms.gke.setup.clusters import cluster, node_pools
from kinetic_flows.platforms.gke.setup.kubernetes import in_cluster, jobset, kueue
from kinetic_flows.platforms.gke.setup.model import Resource, Stage, Wanted
from kinetic_flows.platforms.gke.setup.prefect import prefect_server, work_pool, worker

Maker = Callable[[Wanted], tuple[Resource, ...]]

_MAKERS: tuple[tuple[str, tuple[Maker, ...]], ...] = (
    ("project", (base.project,)),
    ("APIs", (base.services,)),
    ("accounts, buckets, network", (base.accounts, base.network, base.storage)),
    ("roles", (base.roles,)),
    ("cluster", (cluster.resources,)),
    ("node pools", (node_pools.resources, base.identities)),
    ("namespaces", (in_cluster.namespaces,)),
    (
        "in the cluster",
        (
            in_cluster.accounts_and_rights,
            prefect_server.databases,
            jobset.resources,
            kueue.resources,
        ),
    ),
    # Kueue's kinds are known when Kueue is there.
    ("queue, Prefect server", (kueue.queues, prefect_server.servers)),
    ("work pool", (work_pool.work_pools,)),
    # Behind the work pool: a worker that finds none makes one of its own kind.
    ("worker", (worker.workers,)),
)
"""Who says what is wanted in a stage: a new kind of resource is one function here.

Roles are granted before the cluster is made, but for those that need it: an account of pods can
be bound when the first cluster of the project with Workload Identity is there.
"""


def stages(wanted: Wanted) -> tuple[Stage, ...]:
    """Return what is wanted, stage by stage; asks nobody."""
    found = (
        Stage(title=title, resources=tuple(each for maker in makers for each in maker(wanted)))
        for title, makers in _MAKERS
    )
    return tuple(stage for stage in found if stage.resources)


def everything(wanted: Wanted) -> tuple[Stage, ...]:
    """Return what there may be of an earlier setup, whatever options it had: to remove it."""
    widest = replace(
        wanted.request, private_nodes=True, jobset=True, kueue=True, worker=True, prefect="cluster"
    )
    return stages(replace(wanted, request=widest))
