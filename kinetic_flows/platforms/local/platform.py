"""This machine as a platform: nothing to configure, nothing in the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kinetic_flows.core.job import DispatchedBy
from kinetic_flows.core.protocols import StoreTrust
from kinetic_flows.platforms.local.environments import LocalEnvironments
from kinetic_flows.platforms.local.processes import LocalProcesses, kept_bootstrap
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.platforms.worker_pools import ProcessWorkerPool


class LocalPlatform:
    """Directories under `KINETIC_HOME` stand in for a bucket, a registry and a cluster.

    Args:
        home: `KINETIC_HOME`.
        environ: This process's variables.
    """

    name = "local"
    dispatch: DispatchedBy = "client"
    may_see_processes = True
    place = ""
    worker_processes = None
    """A worker tells the end of the processes it starts; nobody else here sees them."""

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self.store = LocalStore(home / "store")
        self.registry = LocalEnvironments(home / "environments", self.store, environ)
        self.builder = self.registry
        self.launcher = LocalProcesses(home / "runs", self.registry.python, environ)
        self.worker_pool = ProcessWorkerPool(
            self.registry.python, lambda: kept_bootstrap(home / "bootstraps")
        )

    def store_trust(self) -> StoreTrust:
        """Return that nobody else can write to the store: it is a directory of this user's."""
        return StoreTrust(is_private=True)

    def sees(self, place: str) -> bool:  # noqa: ARG002
        """Yes: whose store is on this machine is here, too."""
        return True

    def expire_runs(self, days: int) -> bool | None:  # noqa: ARG002
        """Do nothing: nothing here removes files by their age."""
        return None
