"""Whether a run could be launched at all, found out before anything is built for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from typing import Any

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    KubernetesUnreachable,
    core_path,
    jobs_path,
)
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.core.pod_security import AS_THE_IMAGE_SAYS, LEVEL_LABEL, violations
from kinetic_flows.platforms.gke.diagnosis import (
    Cause,
    explain_refusal,
    explain_warning,
    launch_error,
    refused_security,
    unknown_security,
)
from kinetic_flows.platforms.gke.image_volumes import (
    keeps_image_volume,
    may_know_image_volumes,
    server_obstacle,
    untried_obstacle,
)
from kinetic_flows.platforms.gke.limit_ranges import check_limits, limited_by, read_limits
from kinetic_flows.platforms.gke.manifests import trial_job
from kinetic_flows.platforms.gke.names import HEADLESS_SERVICE
from kinetic_flows.platforms.gke.pool_preflight import (
    check_compute_class,
    check_flex_start,
    check_node_pools,
    check_nodes,
    is_about_nodes,
)
from kinetic_flows.platforms.gke.preflight_request import PreflightRequest
from kinetic_flows.platforms.gke.quota import check_quota, too_much_of_quota
from kinetic_flows.platforms.gke.reach import loopback_warning
from kinetic_flows.platforms.gke.rights import check_rights
from kinetic_flows.platforms.gke.room import is_full, spare_jobs
from kinetic_flows.platforms.gke.secret_references import check_secrets
from kinetic_flows.platforms.gke.volume_preflight import VolumeRequest, check_volumes

PREFLIGHT_SECONDS = 5.0


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
    request = replace(request, server=await _reach(client))
    checks = (
        *(_check_namespace, _check_permissions, check_node_pools, check_nodes),
        *(check_compute_class, check_flex_start),
        *(
            _check_service,
            _check_quota,
            _check_limits,
            _check_pod_security,
            _check_volumes,
            _check_secrets,
            _check_trial_launch,
        ),
    )
    found = await asyncio.gather(*(_bounded(check, client, request) for check in checks))
    return Preflight(
        problems=tuple(problem for each in found for problem in each.problems),
        warnings=tuple(warning for each in found for warning in each.warnings),
        node_pools=next((each.node_pools for each in found if each.node_pools is not None), None),
        no_image_volumes=_no_image_volumes(found, request),
        notices=tuple(notice for each in found for notice in each.notices),
        seen_pools=tuple(pool for each in found for pool in each.seen_pools),
        makes_pools=any(each.makes_pools for each in found),
        limited=frozenset().union(*(each.limited for each in found)),
    )


def _no_image_volumes(found: Sequence[Preflight], request: PreflightRequest) -> str | None:
    """Return why no image can be mounted; None where that is not asked.

    Args:
        found: What was found, that of the trial last.
        request: What the launch is going to need.
    """
    if not request.mounts_image:
        return None
    *others, tried = (each.no_image_volumes for each in found)
    if tried is None and request.packages == "auto":
        # A server drops the volume without a word: a run that did not ask for it would fail.
        tried = untried_obstacle(request.server)
    # What the API server takes comes before what its nodes could do with it.
    return next(filter(None, (tried, *reversed(others))), "")


async def _reach(client: KubernetesClient) -> str:
    """Ask something that everybody may ask, so that what nobody answers is told once.

    Returns:
        The API server's version; empty where it is not told.
    """
    try:
        async with asyncio.timeout(PREFLIGHT_SECONDS):
            return str((await client.ask_within("GET", "/version")).get("gitVersion") or "")
    except TimeoutError as error:
        raise KubernetesUnreachable(
            f"the cluster's API server did not answer within {PREFLIGHT_SECONDS:g} seconds",
            hint="is this network among the cluster's authorised networks?",
        ) from error
    except KubernetesRefused as refusal:
        if refusal.status != HTTPStatus.FORBIDDEN:
            raise launch_error(refusal, "look at it") from refusal
        return ""


async def _bounded(check: Check, client: KubernetesClient, request: PreflightRequest) -> Preflight:
    """Make a check; one that cannot be made warns, and the launch itself will tell."""
    what = check.__name__.removeprefix("_").removeprefix("check_").replace("_", " ")
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
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise
        return await _missing_account(client, request.namespace, account)
    return Preflight()


async def _missing_account(client: KubernetesClient, namespace: str, account: str) -> Preflight:
    """Tell a missing namespace from a missing service account in one that is there."""
    try:
        await client.ask_within("GET", f"/api/v1/namespaces/{namespace}")
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.NOT_FOUND:
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
    return await check_rights(client, request.namespace)


async def _check_volumes(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    if not request.volumes:
        return Preflight()
    asked = VolumeRequest(
        volumes=request.volumes,
        hosts=request.accelerator.hosts,
        namespace=request.namespace,
        service_account=request.service_account or "default",
    )
    return await check_volumes(client, asked)


async def _check_secrets(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    return await check_secrets(client, request.namespace, request.secrets)


async def _check_pod_security(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    try:
        found = await client.ask_within("GET", f"/api/v1/namespaces/{request.namespace}")
    except KubernetesRefused as refusal:
        if refusal.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            return Preflight()
        raise
    level = (found["metadata"].get("labels") or {}).get(LEVEL_LABEL, "privileged")
    if request.security_context is None:
        # Of an image of one's own the registry tells its user later than this.
        unknown = level == "restricted" and bool(violations(level, AS_THE_IMAGE_SAYS))
        return Preflight(warnings=(unknown_security(request.namespace),) if unknown else ())
    broken = violations(level, json.loads(request.security_context))
    if not broken:
        return Preflight()
    return Preflight(problems=(refused_security(level, request.namespace, broken),))


async def _check_trial_launch(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    """Have the cluster's admission look at a Job like the run's, which is not made."""
    tries_volume = request.mounts_image and may_know_image_volumes(request.server)
    refused = ""
    try:
        made, warned = await _try_launch(client, request, mounts_image=tries_volume)
    except KubernetesRefused as refusal:
        if not tries_volume or is_full(refusal):
            return await _refused_trial(client, request, refusal)
        try:
            made, warned = await _try_launch(client, request, mounts_image=False)
        except KubernetesRefused as again:
            # It is not the volume that is objected to.
            return await _refused_trial(client, request, again)
        what = "create a Job with an image volume"
        refused = explain_refusal(refusal.status, refusal.body, what).message
    # Where the volume was left out, the server is too old to know of it.
    is_kept = not request.mounts_image or keeps_image_volume(made)
    return Preflight(
        warnings=tuple(dict.fromkeys(told for each in warned if (told := explain_warning(each)))),
        no_image_volumes=refused or ("" if is_kept else server_obstacle(request.server)),
    )


async def _try_launch(
    client: KubernetesClient, request: PreflightRequest, *, mounts_image: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return what the cluster would make of a Job, and what it warns of."""
    context = json.loads(request.security_context or "{}")
    job = trial_job(
        request.namespace,
        request.service_account,
        context,
        mounts_image=mounts_image,
        nodes=request.nodes.pod,
        devices=request.accelerator.resources,
    )
    warned: list[str] = []
    path, dry = jobs_path(request.namespace), {"dryRun": "All"}
    made = await client.ask_within("POST", path, query=dry, body=job, on_warning=warned.append)
    return made, warned


async def _refused_trial(
    client: KubernetesClient, request: PreflightRequest, refusal: KubernetesRefused
) -> Preflight:
    """Return what a refusal tells of the real launch; what other checks tell is left to them."""
    found = explain_refusal(refusal.status, refusal.body, "create the Job")
    if is_full(refusal):
        # The launch makes room, where there is anything to be removed.
        spare = await spare_jobs(client, request.namespace)
        return Preflight() if spare else Preflight(problems=(str(found),))
    if is_about_nodes(refusal.body, request.nodes):
        return Preflight(problems=(str(found),))
    if found.cause is Cause.ADMISSION and "dry run" not in refusal.body:
        # It may object to what only the trial lacks.
        return Preflight(warnings=(f"of a Job that was only tried: {found}",))
    return Preflight()


async def _check_quota(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    try:
        found = await client.ask_within("GET", core_path(request.namespace, "resourcequotas"))
    except KubernetesRefused as refusal:
        if refusal.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            return Preflight()
        raise
    quotas = found.get("items") or ()
    checked = [check_quota(each, request.accelerator) for each in quotas]
    hosts = request.accelerator.hosts
    never = [too_much_of_quota(each, hosts, request.requests) for each in quotas]
    return Preflight(
        problems=tuple(chain(*(problems for problems, _ in checked), *never)),
        warnings=tuple(warning for _, warnings in checked for warning in warnings),
    )


async def _check_limits(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    ranges = await read_limits(client, request.namespace)
    return Preflight(
        problems=tuple(check_limits(ranges, request.requests)), limited=limited_by(ranges)
    )


async def _check_service(client: KubernetesClient, request: PreflightRequest) -> Preflight:
    if request.accelerator.hosts == 1:
        return Preflight()
    try:
        await client.ask_within("GET", core_path(request.namespace, "services", HEADLESS_SERVICE))
    except KubernetesRefused as refusal:
        if refusal.status != HTTPStatus.NOT_FOUND:
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
