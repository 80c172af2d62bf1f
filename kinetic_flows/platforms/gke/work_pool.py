"""The work pool and what stands beside it in the cluster: made, brought up to date, shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused, core_path
from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.platforms.gke.diagnosis import launch_error
from kinetic_flows.platforms.gke.manifests import (
    WORK_POOL_TYPE,
    base_job_template,
    headless_service,
)
from kinetic_flows.platforms.gke.names import HEADLESS_SERVICE
from kinetic_flows.platforms.gke.templates import (
    is_as_shipped,
    template_changes,
    with_kept_defaults,
    without_mark,
)


@dataclass(frozen=True, kw_only=True)
class PoolChange:
    """What an installation does to a work pool, or did.

    Attributes:
        action: What is to be done.
        changes: Lines that say what is different in its template then.
        template: The template that it gets.
        is_edited: Whether some of what is lost may be an administrator's edit.
        is_done: Whether the work pool has just this template already.
    """

    action: Literal["created", "updated", "unchanged"]
    changes: tuple[str, ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    is_edited: bool = False
    is_done: bool = False


def plan_installation(pools: WorkPools, name: str) -> PoolChange:
    """Say what has to be done so that a work pool has the template that ships; do nothing.

    Defaults that an administrator set in it stay. Whatever else was changed is lost with an
    update: so it has to be asked for.

    Args:
        pools: Where work pools are kept.
        name: Its name.

    Raises:
        PrefectServerError: Prefect refuses or does not answer, or it has another type.
    """
    known = pools.read_template(name, WORK_POOL_TYPE)
    if known is None:
        return PoolChange(action="created", template=base_job_template())
    wanted = with_kept_defaults(base_job_template(), known)
    changes = tuple(template_changes(without_mark(known), without_mark(wanted)))
    return PoolChange(
        action="updated" if changes else "unchanged",
        changes=changes,
        template=wanted,
        is_edited=bool(changes) and not is_as_shipped(known),
        is_done=known == wanted,
    )


def install(pools: WorkPools, name: str, change: PoolChange) -> None:
    """Do what was planned for a work pool.

    Raises:
        PrefectServerError: Prefect refuses or does not answer.
    """
    if change.action == "created":
        pools.create(name, WORK_POOL_TYPE, change.template)
    elif not change.is_done:
        # Also where nothing but the mark changes, by which later edits are told.
        pools.update(name, change.template)


def ensure_headless_service(client: KubernetesClient, namespace: str) -> bool:
    """Make the Service by which hosts of slices find one another.

    Args:
        client: The cluster.
        namespace: Namespace of the runs.

    Returns:
        Whether it had to be made.

    Raises:
        LaunchError: The cluster refuses, or does not answer.
    """
    try:
        client.ask("POST", core_path(namespace, "services"), body=headless_service(namespace))
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.CONFLICT:
            return False
        raise launch_error(refusal, "create the Service") from refusal
    return True


def has_headless_service(client: KubernetesClient, namespace: str) -> bool:
    """Whether a namespace has the Service by which hosts of slices find one another.

    Raises:
        LaunchError: The cluster refuses to say, or does not answer.
    """
    try:
        client.ask("GET", core_path(namespace, "services", HEADLESS_SERVICE))
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.NOT_FOUND:
            return False
        raise launch_error(refusal, "read the Service") from refusal
    return True
