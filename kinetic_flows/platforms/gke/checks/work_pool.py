"""Whether the work pool has the template that this version needs, and a worker where one is."""

from __future__ import annotations

from collections.abc import Iterator

from kinetic_flows.clients.prefect.condition import online_workers
from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.core.findings import Finding, Level
from kinetic_flows.core.job import DispatchedBy
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.work_pool import PoolChange, install, plan_installation

CREATE = "kinetic pool create"


def work_pool_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield how the work pool's template differs from the one that ships."""
    pools, name = WorkPools(facts.api_url.need()), facts.cloud.work_pool
    change = plan_installation(pools, name)
    subject = f"work pool {name}"

    def fix() -> str:
        install(pools, name, change)
        return f"{change.action} it"

    if change.action == "created":
        needs_it = facts.cloud.dispatch == "worker"
        yield Finding(
            subject=subject,
            level="wrong" if needs_it else "warning",
            text="there is none: " + _without(needs_it=needs_it),
            command=CREATE,
            fix=fix,
        )
    elif change.is_edited:
        yield Finding(subject=subject, level="warning", text=_edited(change), command=CREATE)
    elif change.changes:
        text = f"its template is of another version: {_listed(change)}"
        yield Finding(subject=subject, level="warning", text=text, command=CREATE, fix=fix)
    else:
        yield Finding(subject=subject, level="ok", text="its template is of this version")


def worker_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether a worker is there, which schedules need, and who has no access to the cluster.

    Prefect shows a worker as online for a minute and a half after it has gone.
    """
    cloud = facts.cloud
    online = online_workers(facts.api_url.need(), cloud.work_pool)
    subject = f"worker of {cloud.work_pool}"
    if online:
        yield Finding(subject=subject, level="ok", text=f"online: {', '.join(online)}")
        return
    level, why = _needs(facts.dispatch.need())
    text = f"none is online; {why}"
    command = None if level == "ok" else f"kinetic up --worker --cluster {cloud.cluster}"
    yield Finding(subject=subject, level=level, text=text, command=command)


def _needs(dispatch: DispatchedBy) -> tuple[Level, str]:
    if dispatch == "worker":
        return "wrong", "runs wait for one, as you do not launch them on the cluster yourself"
    return "ok", "you launch runs yourself; those of deployments and schedules would wait for one"


def _without(*, needs_it: bool) -> str:
    if needs_it:
        return "runs cannot be handed to a worker"
    return "Jobs are made from the template that ships"


def _edited(change: PoolChange) -> str:
    return (
        f"its template differs from this version's, by somebody's own changes: {_listed(change)}; "
        "the command shows them and asks before it undoes them"
    )


def _listed(change: PoolChange) -> str:
    shown, more = "; ".join(change.changes[:2]), len(change.changes) - 2
    return f"{shown} and {more} more" if more > 0 else shown
