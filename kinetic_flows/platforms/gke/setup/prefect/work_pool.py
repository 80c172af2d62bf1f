"""The work pool of runs, as one of the things that setting up makes."""

from __future__ import annotations

from dataclasses import dataclass

from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.core.errors import PrefectServerError
from kinetic_flows.platforms.gke.setup.model import Change, Tell, Wanted
from kinetic_flows.platforms.gke.setup.prefect.prefect_place import PrefectPlace
from kinetic_flows.platforms.gke.work_pool import PoolChange, install, plan_installation

KIND = "work pool"


def work_pools(wanted: Wanted) -> tuple[WorkPoolResource, ...]:
    """Return the work pool; nothing where no Prefect was chosen."""
    if wanted.prefect is None:
        return ()
    return (WorkPoolResource(name=wanted.request.work_pool, prefect=wanted.prefect),)


@dataclass(frozen=True, kw_only=True)
class WorkPoolResource:
    """The work pool; what administrators changed in its template stays.

    Attributes:
        name: Its name.
        prefect: Where it is.
    """

    name: str
    prefect: PrefectPlace

    @property
    def kind(self) -> str:
        """What it is."""
        return KIND

    def creation(self) -> Change:
        """Return what is to be done where there is nothing yet."""
        return Change(kind=KIND, name=self.name, action="create")

    def compare(self) -> Change:
        """Compare its template with the one that ships; starts no server for that."""
        url = self.prefect.find()
        if url is None:
            why = "Prefect does not run yet"
            return Change(kind=KIND, name=self.name, action="unknown", why=why)
        change = plan_installation(WorkPools(url), self.name)
        if change.action == "created":
            return self.creation()
        if change.is_edited:
            return Change(
                kind=KIND,
                name=self.name,
                action="leave",
                details=change.changes,
                why="somebody has changed its template; `kinetic pool create` undoes that",
            )
        return Change(
            kind=KIND,
            name=self.name,
            action="change" if change.changes else "keep",
            details=change.changes,
        )

    def apply(self, tell: Tell) -> None:
        """Make it, or bring its template up to date unless somebody has changed it."""
        pools = WorkPools(self.prefect.open())
        change: PoolChange = plan_installation(pools, self.name)
        if change.is_edited:
            tell("its template was changed by somebody and is left as it is")
            return
        install(pools, self.name, change)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002 - others hold data
        """Say that it is left: it bears no mark, and deployments of others may use it."""
        try:
            url = self.prefect.find()
            if url is None or plan_installation(WorkPools(url), self.name).action == "created":
                return Change(kind=KIND, name=self.name, action="keep")
        except PrefectServerError as error:
            why = f"it cannot be looked at: {error.message}"
            return Change(kind=KIND, name=self.name, action="leave", why=why)
        why = f"deployments may use it; `kinetic prefect work-pool delete {self.name}` removes it"
        return Change(kind=KIND, name=self.name, action="leave", why=why)

    def remove(self, tell: Tell) -> None:
        """Do nothing: it is left."""
