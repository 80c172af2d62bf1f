"""The options of `kinetic init` and `kinetic up`: what is wanted, as far as it is said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.code.project_settings import named_accelerator
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.table import rows
from kinetic_flows.platforms.gke.setup.clusters.pool_options import parse_pools
from kinetic_flows.platforms.gke.setup.kubernetes.manifest_sources import check_source
from kinetic_flows.platforms.gke.setup.request import (
    ClusterMode,
    PoolRequest,
    PrefectHome,
)

MEMBER = re.compile(
    r"(user|group|serviceAccount):[^@\s]+@[^@\s]+|domain:[^@\s]+|principal(Set)?://\S+"
)

MACHINE_TYPE = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)+")

_Several = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
_Switch = Annotated[bool, Parameter(negative=())]
_Either = Annotated[bool | None, Parameter(show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SetupOptions:
    """What the command line says of what is wanted; None for what it does not say.

    Attributes:
        project: Google Cloud project; the active profile's, KINETIC_PROJECT, or gcloud's own by
            default.
        zone: Zone of the cluster, or a region for one that is in several zones; us-central1-a by
            default.
        cluster: Name of the cluster; kinetic-cluster by default.
        autopilot: Make a GKE Autopilot cluster, which makes nodes as runs ask for them; by default
            a Standard one, with node pools.
        join: Use a cluster that somebody else made: it is neither changed nor removed.
        accelerator: A node pool that has no nodes while nothing runs on it, such as l4,
            tpu-v6e-8 or l4:spot; repeat for several.
        max_nodes: How many nodes each pool of --accelerator may have at most; without one, the
            pool without accelerators.
        reservation: Reservation that the accelerators' nodes are taken from.
        machine_type: Machine type of the node pool without accelerators.
        private_nodes: Give nodes no addresses of their own; they reach the internet by Cloud NAT.
        namespace: Kubernetes namespace of runs.
        work_pool: Prefect work pool.
        member: Who else may launch runs, such as user:alice@example.com or
            group:ml@example.com; repeat for several.
        jobset: Install JobSet.
        kueue: Install Kueue, with a queue for runs.
        jobset_manifest: File or URL of a manifest to install JobSet from, instead of its release.
        kueue_manifest: File or URL of a manifest to install Kueue from, instead of its release.
        prefect: Where Prefect's API is: in the background on this machine, in the cluster, or
            elsewhere (Prefect Cloud, or a server of your own).
        prefect_url: The Prefect API of --prefect cloud, or a page of it; its key is asked for, or
            taken from PREFECT_API_KEY. By default the one that Prefect's own settings name.
        worker: Put a Prefect worker into the cluster, which starts the runs of deployments.
        retention_days: After how many days a run's own objects expire.
    """

    project: str | None = None
    zone: str | None = None
    cluster: str | None = None
    autopilot: Annotated[bool | None, Parameter(negative="--standard", show_default=False)] = None
    join: _Switch = False
    accelerator: _Several = ()
    max_nodes: int | None = None
    reservation: str | None = None
    machine_type: str | None = None
    private_nodes: _Either = None
    namespace: str | None = None
    work_pool: str | None = None
    member: _Several = ()
    jobset: _Switch = False
    kueue: _Switch = False
    jobset_manifest: str | None = None
    kueue_manifest: str | None = None
    prefect: PrefectHome | None = None
    prefect_url: str | None = None
    worker: _Switch = False
    retention_days: int | None = None

    @property
    def mode(self) -> ClusterMode | None:
        """What kind of cluster is asked for; None where nothing is said."""
        if self.autopilot is None:
            return None
        return "autopilot" if self.autopilot else "standard"

    def values(self) -> dict[str, object]:
        """Return the settings of Google Cloud that are said, checked, by name.

        Raises:
            ConfigurationError: One cannot be.
        """
        names = ("project", "zone", "cluster", "namespace", "work_pool", "retention_days")
        said = {name: getattr(self, name) for name in names}
        known = rows(CloudSettings)
        return {
            name: known[name].parse(value, f"--{name.replace('_', '-')}")
            for name, value in said.items()
            if value is not None
        }

    def pools(self) -> tuple[PoolRequest, ...]:
        """Return the node pools of accelerators that are said.

        Raises:
            UsageError: They cannot be so.
        """
        return parse_pools(
            [named_accelerator(each) for each in self.accelerator],
            max_nodes=self.max_nodes,
            reservation=self.reservation,
        )

    def check(self) -> None:
        """See that what is said goes together, before anything is asked of Google.

        Raises:
            UsageError: It does not.
            ConfigurationError: A value cannot be.
        """
        self.values()
        if self.machine_type is not None and not MACHINE_TYPE.fullmatch(self.machine_type):
            raise UsageError(
                f"--machine-type is {self.machine_type!r}",
                value=self.machine_type,
                hint="give one of Compute Engine's, such as e2-standard-4",
            )
        self._check_pools()
        if self.prefect_url and self.prefect not in (None, "cloud"):
            raise UsageError(
                f"--prefect-url and --prefect {self.prefect} do not go together",
                value=self.prefect_url,
                hint="leave one of them out",
            )
        for name in ("jobset_manifest", "kueue_manifest"):
            if (source := getattr(self, name)) is not None:
                check_source(source, f"--{name.replace('_', '-')}")
        for member in self.member:
            if not MEMBER.fullmatch(member):
                raise UsageError(
                    f"--member is {member!r}",
                    value=member,
                    hint="write it as IAM does: user:alice@example.com, group:ml@example.com, or "
                    "serviceAccount: and the address of one",
                )

    def _check_pools(self) -> None:
        if self.reservation and not self.accelerator:
            raise UsageError(
                "--reservation is of the nodes of --accelerator, and none is given",
                value=self.reservation,
                hint="give --accelerator, such as --accelerator l4",
            )
        pools = self.pools()
        if pools and self.autopilot:
            raise UsageError(
                "--accelerator makes node pools, and Autopilot clusters have none",
                value=self.accelerator,
                hint="leave it out: Autopilot makes the nodes that a run asks for",
            )
        if not self.join:
            return
        made = ("accelerator", "autopilot", "machine_type", "max_nodes", "private_nodes")
        for name in made:
            if getattr(self, name):
                raise UsageError(
                    f"--join leaves a cluster as it is, and --{name.replace('_', '-')} is of one "
                    "that is made",
                    value=getattr(self, name),
                    hint="leave one of them out",
                )


NOTHING_SAID = SetupOptions()
"""No options."""
