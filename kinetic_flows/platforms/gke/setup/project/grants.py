"""Who gets which role on what: the least that nodes, builds, pods and those who launch need.

https://cloud.google.com/iam/docs/roles-permissions
"""

from __future__ import annotations

from dataclasses import dataclass

NODE = "roles/container.defaultNodeServiceAccount"
"""https://cloud.google.com/kubernetes-engine/security/configure-node-service-accounts"""

READER = "roles/artifactregistry.reader"
WRITER = "roles/artifactregistry.writer"
"""https://cloud.google.com/artifact-registry/docs/access-control"""

OBJECT_USER = "roles/storage.objectUser"
BUCKET_READER = "roles/storage.legacyBucketReader"
"""Cloud Build looks whether the bucket of its logs is there, which a right to objects is not
enough for: https://cloud.google.com/build/docs/securing-builds/store-manage-build-logs"""

LOG_WRITER = "roles/logging.logWriter"
"""https://cloud.google.com/build/docs/securing-builds/configure-user-specified-service-accounts"""

BUILD_EDITOR = "roles/cloudbuild.builds.editor"
CLUSTER_VIEWER = "roles/container.clusterViewer"
"""To find the cluster, and to reach it by its DNS endpoint, for which the role has
`container.clusters.connect`; what one may do in it, Kubernetes' own rules say.
https://cloud.google.com/iam/docs/roles-permissions/container"""

ACTS_AS = "roles/iam.serviceAccountUser"
"""To submit builds that run as an account."""

CONSUMER = "roles/serviceusage.serviceUsageConsumer"
"""To have calls count on the project, as those of a person's login do."""

WORKLOAD_IDENTITY = "roles/iam.workloadIdentityUser"
"""https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity"""


EVERY_ROLE = frozenset(
    {NODE, READER, WRITER, OBJECT_USER, BUCKET_READER, LOG_WRITER}
    | {BUILD_EDITOR, CLUSTER_VIEWER, ACTS_AS, CONSUMER, WORKLOAD_IDENTITY}
)
"""Whatever is granted here."""


ROLES_OF_OTHERS = frozenset(
    {READER, WRITER, OBJECT_USER, BUILD_EDITOR, CLUSTER_VIEWER, ACTS_AS, CONSUMER}
)
"""What is granted to those that are not the cluster's own: people, and nodes of other clusters."""


@dataclass(frozen=True, kw_only=True, order=True)
class Grant:
    """A role that somebody has, without a condition.

    Attributes:
        role: The role.
        member: Who, as IAM writes it.
    """

    role: str
    member: str

    def __str__(self) -> str:
        return f"{self.role} to {self.member}"

    @property
    def key(self) -> tuple[str, str]:
        """What grants are compared by: Google writes an address as its account does.

        https://github.com/hashicorp/terraform-provider-google/issues/5107
        """
        is_address = not self.member.startswith("principal")
        return self.role, self.member.lower() if is_address else self.member


@dataclass(frozen=True, kw_only=True)
class People:
    """Who somebody is to Google Cloud, as IAM writes it.

    Attributes:
        nodes: The nodes, which pull images.
        builds: The image builds.
        pods: The pods of runs.
        launchers: Those who launch runs: people, and the worker in the cluster.
        makes_nodes: Whether the nodes' account is made here, and has no role yet.
        has_identities: Whether pods can be Google service accounts.
    """

    nodes: tuple[str, ...]
    builds: str
    pods: tuple[str, ...]
    launchers: tuple[str, ...] = ()
    makes_nodes: bool = True
    has_identities: bool = True


def on_project(people: People) -> tuple[Grant, ...]:
    """Return who gets what on the project."""
    nodes = people.nodes if people.makes_nodes else ()
    return (
        *_each(nodes, NODE),
        Grant(role=LOG_WRITER, member=people.builds),
        *_each(people.launchers, BUILD_EDITOR, CLUSTER_VIEWER, CONSUMER),
    )


def on_jobs_bucket(people: People) -> tuple[Grant, ...]:
    """Return who gets what on the bucket of runs."""
    return _each((*people.pods, *people.launchers), OBJECT_USER)


def on_builds_bucket(people: People) -> tuple[Grant, ...]:
    """Return who gets what on the bucket of builds."""
    return (
        *_each((people.builds,), OBJECT_USER, BUCKET_READER),
        *_each(people.launchers, OBJECT_USER),
    )


def on_repository(people: People) -> tuple[Grant, ...]:
    """Return who gets what on the repository of images."""
    return (*_each(people.nodes, READER), *_each((people.builds, *people.launchers), WRITER))


def on_builds_account(people: People) -> tuple[Grant, ...]:
    """Return who may have builds run as their account."""
    return _each(people.launchers, ACTS_AS)


def on_identity(people: People, project: str, *accounts: tuple[str, str]) -> tuple[Grant, ...]:
    """Return which Kubernetes service accounts may act as a Google one.

    Args:
        people: Says whether they can.
        project: The cluster's project.
        accounts: Namespaces, and names of accounts in them.
    """
    members = identity_members(project, *accounts) if people.has_identities else ()
    return _each(members, WORKLOAD_IDENTITY)


def identity_members(project: str, *accounts: tuple[str, str]) -> tuple[str, ...]:
    """Return Kubernetes service accounts as IAM writes them.

    Args:
        project: The cluster's project.
        accounts: Namespaces, and names of accounts in them.
    """
    return tuple(
        f"serviceAccount:{project}.svc.id.goog[{namespace}/{name}]" for namespace, name in accounts
    )


def _each(members: tuple[str, ...], *roles: str) -> tuple[Grant, ...]:
    return tuple(Grant(role=role, member=member) for member in members for role in roles)
