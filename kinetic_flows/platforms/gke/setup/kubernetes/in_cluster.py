"""What runs need in the cluster: their namespace and account, rights of people, the Service."""

from __future__ import annotations

from typing import Any

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.platforms.gke.manifests import headless_service
from kinetic_flows.platforms.gke.names import HEADLESS_SERVICE
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import SetupCluster, cluster_of
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_objects import (
    ClusterObjects,
    KubernetesObject,
)
from kinetic_flows.platforms.gke.setup.kubernetes.shipped_manifests import (
    in_namespace,
    shipped_objects,
)
from kinetic_flows.platforms.gke.setup.model import Wanted
from kinetic_flows.platforms.gke.setup.names import (
    PODS,
    PREFECT_NAMESPACE,
    account_email,
)
from kinetic_flows.platforms.gke.setup.request import SetupRequest

ROLE = "kinetic-launcher"
"""The Role of the manifests that ship for who launches runs; the worker has it, too."""

INSIGHT = "kinetic-insight"
"""The Role of the manifests that ship for who looks into runs that go on: people alone."""

MEMBERS = "kinetic-members"
IDENTITY = "iam.gke.io/gcp-service-account"
"""Annotation that says which Google service account a Kubernetes service account is.

https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity
"""


def namespaces(wanted: Wanted) -> tuple[ClusterObjects, ...]:
    """Return the namespaces in which something is made."""
    return namespace_objects(wanted.request, cluster_of(wanted.request, wanted.apis))


def namespace_objects(request: SetupRequest, cluster: SetupCluster) -> tuple[ClusterObjects, ...]:
    """Return the namespace of runs, and the one of a Prefect server in the cluster.

    Args:
        request: What is wanted.
        cluster: The cluster.
    """
    found = []
    if request.namespace != "default":
        named = {"metadata": {"name": request.namespace}}
        found.append(_namespace(cluster, request.namespace, named))
    if request.prefect == "cluster":
        (shipped,) = shipped_objects("prefect", "namespace.yaml")
        found.append(_namespace(cluster, PREFECT_NAMESPACE, shipped))
    return tuple(found)


def accounts_and_rights(wanted: Wanted) -> tuple[ClusterObjects, ...]:
    """Return the account of runs' pods, the rights of who launches runs, and the Service."""
    request, cluster = wanted.request, cluster_of(wanted.request, wanted.apis)
    return objects_of_runs(request, cluster)


def objects_of_runs(request: SetupRequest, cluster: SetupCluster) -> tuple[ClusterObjects, ...]:
    """Return what every namespace of runs has.

    Args:
        request: What is wanted.
        cluster: The cluster.

    Raises:
        ConfigurationError: Kubernetes knows no such member.
    """
    namespace = request.namespace
    google = account_email(request.project, request.cluster, "pods")
    account = service_account(PODS, namespace, google)
    rights = rights_of(request)
    service = headless_service(namespace)
    return (
        ClusterObjects(
            cluster=cluster,
            kind="service account of pods",
            name=f"{namespace}/{PODS}",
            wanted=lambda: (account,),
            details=(f"acts as {google}",),
        ),
        ClusterObjects(
            cluster=cluster,
            kind="rights in the cluster",
            name=f"{namespace}/{ROLE}",
            wanted=lambda: rights,
            details=tuple(
                f"{member} may launch runs, and look into them" for member in request.members
            ),
        ),
        ClusterObjects(
            cluster=cluster,
            kind="service",
            name=f"{namespace}/{HEADLESS_SERVICE}",
            wanted=lambda: (service,),
        ),
    )


def service_account(name: str, namespace: str, google: str | None) -> dict[str, Any]:
    """Return a Kubernetes service account.

    Args:
        name: Its name.
        namespace: Its namespace.
        google: The Google service account that it acts as; None for none.
    """
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if google:
        metadata["annotations"] = {IDENTITY: google}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def rights_of(request: SetupRequest) -> tuple[KubernetesObject, ...]:
    """Return the Roles of launching and of looking into runs, and what gives them to members.

    Raises:
        ConfigurationError: Kubernetes knows no such member.
    """
    namespace, subjects = request.namespace, members_of(request)
    shipped = (*shipped_objects("worker", "rbac.yaml"), *shipped_objects("insight", "rbac.yaml"))
    roles = (in_namespace(each, namespace) for each in shipped if each["kind"] == "Role")
    bindings = (
        role_binding(name, namespace, role, subjects)
        for name, role in ((MEMBERS, ROLE), (f"{MEMBERS}-insight", INSIGHT))
    )
    return (*roles, *(bindings if subjects else ()))


def members_of(request: SetupRequest) -> list[dict[str, str]]:
    """Return the members as subjects of a RoleBinding.

    Raises:
        ConfigurationError: Kubernetes knows no such member.
    """
    return [subject(member) for member in request.members]


def role_binding(
    name: str, namespace: str, role: str, subjects: list[dict[str, str]]
) -> dict[str, Any]:
    """Return what gives a Role of a namespace to some."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": role},
        "subjects": subjects,
    }


def subject(member: str) -> dict[str, str]:
    """Return a member, as IAM writes it, as GKE's RBAC knows it.

    Groups are known to clusters for which Google Groups for RBAC is configured.
    https://cloud.google.com/kubernetes-engine/docs/how-to/role-based-access-control

    Raises:
        ConfigurationError: It is none that Kubernetes knows.
    """
    kind, _, address = member.partition(":")
    kinds = {"user": "User", "serviceAccount": "User", "group": "Group"}
    if kind not in kinds or "@" not in address:
        raise ConfigurationError(
            f"{member!r} can be given no rights in a cluster",
            value=member,
            hint="name a user:ADDRESS, a group:ADDRESS or a serviceAccount:ADDRESS",
        )
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kinds[kind], "name": address}


def _namespace(cluster: SetupCluster, name: str, item: KubernetesObject) -> ClusterObjects:
    whole = {"apiVersion": "v1", "kind": "Namespace", **item}
    return ClusterObjects(
        cluster=cluster,
        kind="namespace",
        name=name,
        wanted=lambda: (whole,),
        data="what people have put into it",
    )
