"""What a person wants to have on Google Cloud, checked before anything is asked there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.core.settings.cloud import DEFAULT_RETENTION_DAYS

ClusterMode = Literal["standard", "autopilot"]
PrefectHome = Literal["machine", "cluster", "cloud"]
"""Where Prefect's API is: this machine's background server, a server in the cluster, or another
server (Prefect Cloud, or one of the team's own) that is reached by its URL."""

DEFAULT_MACHINE_TYPE = "e2-standard-4"
DEFAULT_MAX_NODES = 4


@dataclass(frozen=True, kw_only=True)
class PoolRequest:
    """A node pool of accelerators, which has no nodes while nothing runs there.

    Attributes:
        accelerator: What its nodes have, and whether they are spot machines.
        max_nodes: How many nodes it may have at most; for a slice of several hosts, which is one
            pool, a whole number of slices is not possible beyond one: its number of hosts.
        reservation: Name of a reservation its nodes are taken from; None for none.
        keeps_limit: Whether a pool that is there keeps its own limit, since nobody said one.
        zones: Zones of its nodes, which a regional cluster has to be told where not each of its
            zones has the accelerator; empty for those of the cluster.
    """

    accelerator: Accelerator
    max_nodes: int = DEFAULT_MAX_NODES
    reservation: str | None = None
    keeps_limit: bool = False
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SetupRequest:
    """Everything that `kinetic up` makes, or finds made.

    Attributes:
        project: The project's id.
        location: The cluster's zone, or its region.
        cluster: The cluster's name.
        mode: What kind of cluster is made where there is none.
        joins: Whether the cluster is somebody else's: it is looked at and used, and neither made,
            changed nor removed.
        machine_type: Of the pool without accelerators, on which small runs and the worker are.
        max_nodes: How many nodes that pool may have at most.
        pools: The node pools of accelerators; on Autopilot there are none.
        private_nodes: Whether nodes have no addresses of their own, and reach others by Cloud NAT.
        namespace: Kubernetes namespace of runs.
        work_pool: The Prefect work pool.
        members: Who else may launch runs, as IAM writes them: `user:alice@example.com`,
            `group:...`, `serviceAccount:...`.
        jobset: Whether JobSet is installed.
        kueue: Whether Kueue is installed, with a queue for runs.
        jobset_manifest: File or URL to install JobSet from; None for its release.
        kueue_manifest: Likewise for Kueue.
        prefect: Where Prefect's API is.
        worker: Whether a Prefect worker is put into the cluster.
        retention_days: After how many days a run's own objects expire.
    """

    project: str
    location: str
    cluster: str
    mode: ClusterMode = "standard"
    joins: bool = False
    machine_type: str = DEFAULT_MACHINE_TYPE
    max_nodes: int = DEFAULT_MAX_NODES
    pools: tuple[PoolRequest, ...] = ()
    private_nodes: bool = False
    namespace: str = "default"
    work_pool: str = cloud_names.WORK_POOL
    members: tuple[str, ...] = ()
    jobset: bool = False
    kueue: bool = False
    jobset_manifest: str | None = None
    kueue_manifest: str | None = None
    prefect: PrefectHome = "machine"
    worker: bool = False
    retention_days: int = DEFAULT_RETENTION_DAYS

    @property
    def region(self) -> str:
        """The region that the cluster is in."""
        return cloud_names.region(self.location)
