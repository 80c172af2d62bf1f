"""What a user who launches runs has to be allowed in their namespace.

`deployments/worker/rbac.yaml` grants all of it and docs/gke.md lists it; a test compares both,
and this, with what the library is seen to ask of a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from kinetic_flows.clients.kubernetes.access import ClusterAccessDenied
from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.launcher import Preflight

REVIEWS_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, kw_only=True)
class Permission:
    """Something that launching a run does."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    purpose: str

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {resource}" + (f"/{self.subresource}" if self.subresource else "")


NEEDED = (
    *(
        Permission(verb=verb, resource="jobs", group="batch", purpose=purpose)
        for verb, purpose in (
            ("create", "launch runs"),
            ("get", "launch a run only once"),
            ("list", "follow runs"),
            ("watch", "follow runs"),
            ("delete", "cancel runs"),
        )
    ),
    Permission(verb="list", resource="pods", purpose="follow runs"),
    Permission(verb="watch", resource="pods", purpose="follow runs"),
    Permission(verb="delete", resource="pods", purpose="cancel runs"),
    Permission(verb="create", resource="secrets", purpose="hand runs their keys"),
    Permission(verb="patch", resource="secrets", purpose="have keys deleted with their run"),
)
HELPFUL = (
    Permission(verb="get", resource="pods", subresource="log", purpose="show what runs print"),
    Permission(verb="list", resource="events", purpose="say what runs wait for"),
    Permission(verb="watch", resource="events", purpose="say what runs wait for"),
    Permission(verb="delete", resource="secrets", purpose="clean up after a refused launch"),
    Permission(
        verb="get",
        resource="serviceaccounts",
        purpose="find a missing one, and tell clusters apart",
    ),
)
OPTIONAL = (
    Permission(verb="get", resource="services", purpose="find what slices need"),
    Permission(verb="get", resource="namespaces", purpose="know what it demands of pods"),
    Permission(verb="list", resource="resourcequotas", purpose="know what there is room for"),
    Permission(verb="list", resource="limitranges", purpose="know what containers may ask for"),
    Permission(verb="get", resource="persistentvolumeclaims", purpose="find a missing one"),
    Permission(verb="get", resource="secrets", purpose="find one that is missing"),
    Permission(verb="list", resource="nodes", purpose="know which node pools there are"),
    Permission(
        verb="get",
        resource="csidrivers",
        group="storage.k8s.io",
        purpose="know whether Cloud Storage can be mounted",
    ),
    Permission(
        verb="get",
        resource="storageclasses",
        group="storage.k8s.io",
        purpose="know what a claim waits for",
    ),
    Permission(
        verb="list",
        resource="computeclasses",
        group="cloud.google.com",
        purpose="find a missing one",
    ),
)
"""What is looked at where it is allowed.

What is of the cluster (`nodes`, and what is of the groups `storage.k8s.io` and
`cloud.google.com`), and others' namespaces, need a ClusterRole.
"""

FLEX_START = tuple(
    Permission(verb=verb, resource=resource, group=group, purpose="have slices by flex-start")
    for verb, resource, group in (
        ("create", "podtemplates", ""),
        ("create", "provisioningrequests", "autoscaling.x-k8s.io"),
        ("get", "provisioningrequests", "autoscaling.x-k8s.io"),
    )
)
"""What a slice that is had by flex-start needs: its nodes are asked for at once.

https://cloud.google.com/kubernetes-engine/docs/how-to/provisioningrequest
"""

INSIGHT = tuple(
    Permission(verb=verb, resource="pods", subresource=subresource, purpose=purpose)
    for subresource, purpose in (
        ("exec", "look into runs: shell, exec, cp, stacks, top, profile"),
        ("portforward", "forward ports of runs"),
    )
    for verb in ("get", "create")
)
"""What looking into a run does; `deployments/insight/rbac.yaml` grants it.

Of websockets, Kubernetes before 1.35 asks for `get` alone.
"""

INSTALLING = (Permission(verb="create", resource="services", purpose="have slices of hosts"),)
"""What `kinetic pool create` does, once for each namespace."""


async def check_rights(client: KubernetesClient, namespace: str) -> Preflight:
    """Ask for everything that launching does, and return what is not allowed."""
    problems, warnings = await asyncio.gather(
        lacking_rights(client, namespace, NEEDED), lacking_rights(client, namespace, HELPFUL)
    )
    return Preflight(problems=problems, warnings=warnings)


async def lacking_rights(
    client: KubernetesClient, namespace: str, wanted: Sequence[Permission]
) -> tuple[str, ...]:
    """Return what of these is not allowed, as people read it, for work that was spawned.

    Args:
        client: The cluster.
        namespace: Where it would be done.
        wanted: What is asked for.
    """
    allowed = await asyncio.gather(*(_may(client, each, namespace) for each in wanted))
    return tuple(
        _lacks(each, namespace) for each, may in zip(wanted, allowed, strict=True) if not may
    )


async def _may(client: KubernetesClient, permission: Permission, namespace: str) -> bool:
    attributes = {
        "namespace": namespace,
        "verb": permission.verb,
        "group": permission.group,
        "resource": permission.resource,
        **({"subresource": permission.subresource} if permission.subresource else {}),
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await client.ask_within("POST", REVIEWS_PATH, body=review)
    return bool((answer.get("status") or {}).get("allowed"))


def may_create_jobs(client: KubernetesClient, namespace: str) -> bool:
    """Whether this user may launch runs; False without any credentials.

    Args:
        client: The cluster.
        namespace: Where Jobs would be made.

    Raises:
        LaunchError: The cluster does not answer.
    """
    create = next(each for each in NEEDED if (each.verb, each.resource) == ("create", "jobs"))
    try:
        return client.spawn(_may(client, create, namespace)).result()
    except (ConfigurationError, ClusterAccessDenied):
        return False
    except KubernetesRefused as refusal:
        if refusal.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return False
        raise


def _lacks(permission: Permission, namespace: str) -> str:
    return (
        f"you may not {permission} in namespace {namespace!r}, which is needed to "
        f"{permission.purpose}; grant roles/container.developer, or a Role with it"
    )
