"""What there is already, as `kinetic init` shows it: who asks, projects, clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinetic_flows.clients.google.refusals import CloudRefusal, role_with
from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.accelerators.parsing import accelerator_of
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.platforms.gke.setup.clusters.cluster import FoundCluster, list_clusters

if TYPE_CHECKING:
    from kinetic_flows.clients.google.apis import GoogleApis

PROJECTS_LISTED = 200
"""More are not listed: who has that many types the id."""

NEEDED = (
    "artifactregistry.repositories.create",
    "container.clusters.create",
    "iam.serviceAccounts.create",
    "iam.serviceAccounts.setIamPolicy",
    "resourcemanager.projects.setIamPolicy",
    "serviceusage.services.enable",
    "storage.buckets.create",
)
"""Permissions on the project without which nothing is made.

https://cloud.google.com/iam/docs/roles-permissions
"""


@dataclass(frozen=True, kw_only=True)
class FoundProject:
    """A project that the credentials can see.

    Attributes:
        id: Its id.
        title: The name that people gave it; empty for none.
    """

    id: str
    title: str = ""


def find_projects(apis: GoogleApis) -> tuple[FoundProject, ...]:
    """Return the projects that the credentials can see, by their ids; none where that is refused.

    https://cloud.google.com/resource-manager/reference/rest/v3/projects/search

    Raises:
        CloudRefusal: Google does not accept the credentials, or cannot be reached.
    """

    def search() -> list[FoundProject]:
        found = []
        for project in apis.projects.search_projects(request={"query": "state:ACTIVE"}):
            found.append(FoundProject(id=project.project_id, title=project.display_name))
            if len(found) == PROJECTS_LISTED:
                break
        return found

    try:
        return tuple(sorted(apis.read("list projects", search), key=lambda each: each.id))
    except CloudRefusal as error:
        # A service account counts on its own project, whose Resource Manager may be off.
        if error.reason in ("api-off", "permission"):
            return ()
        raise


def is_billed(apis: GoogleApis) -> bool | None:
    """Return whether the project has billing; None where that may not be looked up.

    https://cloud.google.com/billing/docs/reference/rest/v1/projects/getBillingInfo
    """
    name = f"projects/{apis.project}"
    try:
        info = apis.read(
            f"look up the billing of project {apis.project}",
            lambda: apis.billing.get_project_billing_info(name=name),
        )
    except CloudRefusal as error:
        if error.reason in ("api-off", "permission", "missing"):
            return None
        raise
    return bool(info.billing_enabled)


def missing_rights(apis: GoogleApis) -> tuple[str, ...] | None:
    """Return the permissions that setting up needs and the credentials lack.

    https://cloud.google.com/resource-manager/reference/rest/v3/projects/testIamPermissions

    Returns:
        The permissions; None where that may not be looked up.

    Raises:
        ConfigurationError: There is no such project, or the credentials have no right to it.
    """
    resource = f"projects/{apis.project}"
    try:
        held = apis.read(
            f"look up the rights in project {apis.project}",
            lambda: apis.projects.test_iam_permissions(resource=resource, permissions=list(NEEDED)),
        ).permissions
    except CloudRefusal as error:
        if error.reason in ("missing", "permission"):
            raise ConfigurationError(
                f"there is no project {apis.project!r} that these credentials may look at",
                value=apis.project,
                hint="see `gcloud projects list` for ids, or make one: "
                "https://console.cloud.google.com/projectcreate",
            ) from error
        if error.reason == "api-off":
            return None
        raise
    return tuple(each for each in NEEDED if each not in held)


def roles_for(permissions: Sequence[str]) -> tuple[str, ...]:
    """Return roles that have permissions, each once."""
    return tuple(dict.fromkeys(role_with(each) for each in permissions))


def find_clusters(apis: GoogleApis) -> tuple[FoundCluster, ...]:
    """Return the clusters of the project, by name; none where GKE's API is off.

    Raises:
        CloudRefusal: They may not be listed, or Google cannot be reached.
    """
    try:
        return list_clusters(apis, apis.project or "")
    except CloudRefusal as error:
        if error.reason in ("api-off", "billing"):
            return ()
        raise


def find_cluster(apis: GoogleApis, name: str, location: str) -> FoundCluster | None:
    """Return a cluster of the project; None where there is none."""
    found = (each for each in find_clusters(apis) if (each.name, each.location) == (name, location))
    return next(found, None)


def accelerators_of(cluster: FoundCluster) -> tuple[str, ...]:
    """Return what a cluster's node pools have, by our names, or by GKE's where we have none."""
    return tuple(dict.fromkeys(_accelerator(pool) for pool in cluster.pools if pool.accelerator))


def _accelerator(pool: NodePool) -> str:
    return str(accelerator_of(pool) or pool.accelerator or pool.name)
