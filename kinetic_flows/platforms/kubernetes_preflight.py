"""Whether a run could be launched at all, found out before anything is built for it."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from kinetic_flows.accelerators import Accelerator, NodePool
from kinetic_flows.clients.kubernetes_access import (
    ClusterAccessDenied,
    GkeCluster,
    describe_gke_cluster,
    gke_node_pools,
)
from kinetic_flows.clients.kubernetes_client import (
    KubernetesClient,
    KubernetesRefused,
    KubernetesUnreachable,
    core_path,
)
from kinetic_flows.errors import ConfigurationError, KineticError, LaunchError
from kinetic_flows.kubernetes.refusal import explain_refusal
from kinetic_flows.naming import HEADLESS_SERVICE
from kinetic_flows.protocols import Preflight

REVIEWS_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
PREFLIGHT_SECONDS = 5.0
UNAUTHORIZED, FORBIDDEN, MISSING = 401, 403, 404


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
)


@dataclass(frozen=True, kw_only=True)
class PreflightRequest:
    """What a launch is going to need.

    Attributes:
        accelerator: What the run is to run on.
        namespace: Namespace of its Job.
        service_account: Kubernetes service account of its pods; None for the default one.
        prefect_api_url: Where its pods are to report; None when that is not known.
    """

    accelerator: Accelerator
    namespace: str = "default"
    service_account: str | None = None
    prefect_api_url: str | None = None


Check = Callable[[KubernetesClient, PreflightRequest], Awaitable[Preflight]]


def preflight(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    """Look at the cluster, all questions at once.

    Args:
        client: The cluster.
        request: What the launch is going to need.

    Raises:
        KineticError: The cluster cannot be reached at all.
    """
    found = client.spawn(_look(client, request)).result()
    warning = loopback_warning(request.prefect_api_url, client.host())
    return replace(found, warnings=(*found.warnings, *([warning] if warning else [])))


async def _look(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    await _reach(client)
    checks = (
        *(_check_namespace, _check_permissions, _check_node_pools),
        *(_check_service, _check_quota),
    )
    found = await asyncio.gather(*(_bounded(check, client, request) for check in checks))
    return Preflight(
        problems=tuple(problem for each in found for problem in each.problems),
        warnings=tuple(warning for each in found for warning in each.warnings),
        node_pools=next((each.node_pools for each in found if each.node_pools is not None), None),
    )


async def _reach(client: KubernetesClient) -> None:
    """Ask something that everybody may ask, so that what nobody answers is told once."""
    try:
        async with asyncio.timeout(PREFLIGHT_SECONDS):
            await client.ask_within("GET", "/version")
    except TimeoutError as error:
        raise KubernetesUnreachable(
            f"the cluster's API server did not answer within {PREFLIGHT_SECONDS:g} seconds",
            hint="is this network among the cluster's authorised networks?",
        ) from error
    except KubernetesRefused as refusal:
        if refusal.status != FORBIDDEN:
            found = explain_refusal(refusal.status, refusal.body, "look at it")
            raise LaunchError(found.message, value=refusal.status, hint=found.hint) from refusal


async def _bounded(check: Check, client: KubernetesClient, request: PreflightRequest) -> Preflight:
    """Make a check; one that cannot be made warns, and the launch itself will tell."""
    what = check.__name__.removeprefix("_check_").replace("_", " ")
    try:
        async with asyncio.timeout(PREFLIGHT_SECONDS):
            return await check(client, request)
    except TimeoutError:
        return Preflight(warnings=(f"the cluster did not answer in time about its {what}",))
    except KineticError as error:
        return Preflight(warnings=(f"the {what} could not be checked: {error.message}",))


async def _check_namespace(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    account = request.service_account or "default"
    path = core_path(request.namespace, "serviceaccounts", account)
    try:
        await client.ask_within("GET", path)
    except KubernetesRefused as refusal:
        if refusal.status != MISSING:
            raise
        return await _missing_account(client, request.namespace, account)
    return Preflight()


async def _missing_account(client: KubernetesClient, namespace: str, account: str) -> Preflight:
    """Tell a missing namespace from a missing service account in one that is there."""
    try:
        await client.ask_within("GET", f"/api/v1/namespaces/{namespace}")
    except KubernetesRefused as refusal:
        if refusal.status == MISSING:
            found = explain_refusal(refusal.status, refusal.body, "use the namespace")
            return Preflight(problems=(str(found),))
    return Preflight(
        problems=(
            (
                f"there is no service account {account!r} in namespace {namespace!r}; create it "
                f"with `kubectl create serviceaccount {account} --namespace {namespace}` and "
                "bind it to a Google service account"
            ),
        )
    )


async def _check_permissions(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    wanted = (*NEEDED, *HELPFUL)
    allowed = await asyncio.gather(*(_may(client, each, request.namespace) for each in wanted))
    lacking = [each for each, may in zip(wanted, allowed, strict=True) if not may]
    return Preflight(
        problems=tuple(_lacks(each, request.namespace) for each in lacking if each in NEEDED),
        warnings=tuple(_lacks(each, request.namespace) for each in lacking if each in HELPFUL),
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
    """Whether whoever runs this may launch runs; False without any credentials.

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
        if refusal.status in (UNAUTHORIZED, FORBIDDEN):
            return False
        raise


def _lacks(permission: Permission, namespace: str) -> str:
    return (
        f"you may not {permission} in namespace {namespace!r}, which is needed to "
        f"{permission.purpose}; grant roles/container.developer, or a Role with it"
    )


async def _check_quota(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    try:
        found = await client.ask_within("GET", core_path(request.namespace, "resourcequotas"))
    except KubernetesRefused as refusal:
        if refusal.status in (FORBIDDEN, MISSING):
            return Preflight()
        raise
    checked = [check_quota(each, request.accelerator) for each in found.get("items") or ()]
    return Preflight(
        problems=tuple(problem for problems, _ in checked for problem in problems),
        warnings=tuple(warning for _, warnings in checked for warning in warnings),
    )


def check_quota(quota: Mapping[str, Any], accelerator: Accelerator) -> tuple[list[str], list[str]]:
    """Return what a namespace's quota forbids for good, and what it makes wait for other runs.

    Args:
        quota: A `ResourceQuota` (https://kubernetes.io/docs/concepts/policy/resource-quotas/).
        accelerator: What the run is to run on.
    """
    hosts = accelerator.hosts
    wanted = {"count/jobs.batch": 1, "pods": hosts, "count/pods": hosts}
    for name, count in accelerator.resources.items():
        wanted[f"requests.{name}"] = int(count) * hosts
    status = quota.get("status") or {}
    hard: Mapping[str, Any] = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
    used: Mapping[str, Any] = status.get("used") or {}
    problems, warnings = [], []
    for key, amount in wanted.items():
        if not str(hard.get(key, "")).isdigit():
            continue
        limit, taken = int(hard[key]), int(used.get(key) or 0)
        which = f"resource quota {quota['metadata']['name']!r} of the namespace"
        if amount > limit:
            problems.append(f"{which} allows {limit} {key}, and {accelerator} needs {amount}")
        elif amount > limit - taken:
            warnings.append(f"{which} has {taken} of {limit} {key} in use: the run waits for them")
    return problems, warnings


async def _check_node_pools(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    pools, complete = await read_node_pools(client)
    if pools is None:
        return Preflight()
    if any(pool.offers(request.accelerator) for pool in pools):
        return Preflight(node_pools=pools if complete else None)
    listed = ", ".join(sorted(set(map(str, pools)))) or "none"
    missing = f"no node pool has {request.accelerator}; the cluster has: {listed}"
    if complete:
        return Preflight(problems=(missing,), node_pools=pools)
    # A node pool that is scaled to zero shows no node, and one may be made when it is needed.
    return Preflight(warnings=(f"no node yet has {request.accelerator}; there are: {listed}",))


async def read_node_pools(
    client: KubernetesClient,
) -> tuple[tuple[NodePool, ...] | None, bool]:
    """Return the cluster's node pools (None if they are secret), and whether these are all."""
    access = client.access
    if isinstance(access, GkeCluster):
        described = await asyncio.to_thread(describe_gke_cluster, access)
        autoprovisions = (described.get("autoscaling") or {}).get("enableNodeAutoprovisioning")
        return gke_node_pools(described), not autoprovisions
    try:
        nodes = await client.ask_within("GET", "/api/v1/nodes")
    except KubernetesRefused as refusal:
        if refusal.status == FORBIDDEN:
            return None, False
        raise
    by_name = {pool.name: pool for pool in map(NodePool.from_node, nodes.get("items") or ())}
    return tuple(by_name.values()), False


async def _check_service(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    if request.accelerator.hosts == 1:
        return Preflight()
    try:
        await client.ask_within("GET", core_path(request.namespace, "services", HEADLESS_SERVICE))
    except KubernetesRefused as refusal:
        if refusal.status != MISSING:
            raise
        return Preflight(
            problems=(
                (
                    f"namespace {request.namespace!r} has no Service {HEADLESS_SERVICE!r}, by "
                    f"which the {request.accelerator.hosts} hosts of {request.accelerator} find "
                    "one another; create it with "
                    f"`kinetic pool create --namespace {request.namespace}`"
                ),
            )
        )
    return Preflight()


def loopback_warning(prefect_api_url: str | None, cluster_url: str) -> str | None:
    """Say what it means that pods elsewhere cannot report to this machine; None when they can.

    Args:
        prefect_api_url: Where pods are to report; None when that is not known.
        cluster_url: The cluster's API server.
    """
    if not prefect_api_url or is_reachable(prefect_api_url, cluster_url):
        return None
    return (
        f"the Prefect API {prefect_api_url} is this machine's own, out of the pods' reach: while "
        "this client waits for the run, it sets its states and sends what its first host prints; "
        "task runs and the other hosts' output are not in the Prefect UI; set PREFECT_API_URL to "
        "a server that pods can reach"
    )


def is_reachable(url: str, cluster_url: str) -> bool:
    """Whether a cluster's pods can reach a URL, as far as the two addresses tell.

    Args:
        url: What they are to reach.
        cluster_url: The cluster's API server.
    """
    return not _is_loopback(url) or _is_loopback(cluster_url)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
