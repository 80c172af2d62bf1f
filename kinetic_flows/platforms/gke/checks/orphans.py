"""What runs have left in the cluster: Jobs that nobody waits for, Secrets without a Job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    core_path,
    jobs_path,
)
from kinetic_flows.clients.prefect.api import RunQuery, connect, short_retries
from kinetic_flows.core.display import counted
from kinetic_flows.core.findings import Finding
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.diagnosis import launch_error
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL

OF_OURS = "app.kubernetes.io/managed-by=kinetic"
JOBS = "Jobs of ended runs"
SECRETS = "Secrets without a Job"

LAUNCH_TIME = timedelta(minutes=10)
"""A Secret is made just before its Job, and given to it just after."""

ENDING_TIME = timedelta(minutes=15)
"""A run that ended so long ago has had the grace that it is given to stop."""


def secret_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield the Secrets of launches that were interrupted before their Job was made."""
    client, _ = facts.reached.need()
    namespace = facts.cloud.namespace
    listed = _listed(client, core_path(namespace, "secrets"), OF_OURS)
    old = [each for each in listed if _age(each) > LAUNCH_TIME]
    left = [each for each in old if not each["metadata"].get("ownerReferences")]
    if left:
        # Who was killed while launching may have made the Job, whose pods need its Secret.
        jobs = _listed(client, jobs_path(namespace), RUN_ID_POD_LABEL)
        launched = {_run_id(each) for each in jobs}
        left = [each for each in left if _run_id(each) not in launched]
    paths = [core_path(namespace, "secrets", each["metadata"]["name"]) for each in left]
    if not paths:
        yield Finding(subject=SECRETS, level="ok", text="none")
        return
    names = " ".join(each["metadata"]["name"] for each in left)
    yield Finding(
        subject=SECRETS,
        level="warning",
        text=f"{counted(len(left), 'Secret')} of launches that were interrupted",
        command=f"kubectl delete secret --namespace {namespace} {names}",
        fix=lambda: _removed(client, paths, "Secret"),
    )


def job_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield the Jobs that still run though Prefect says that their run has ended."""
    client, _ = facts.reached.need()
    namespace = facts.cloud.namespace
    listed = _listed(client, jobs_path(namespace), RUN_ID_POD_LABEL)
    active = {
        _run_id(each): each["metadata"]["name"]
        for each in listed
        if (each.get("status") or {}).get("active")
    }
    left = [active[run_id] for run_id in _ended(facts, tuple(active))]
    if not left:
        of_all = f"none of the {counted(len(active), 'Job')} there" if active else "none"
        yield Finding(subject=JOBS, level="ok", text=of_all)
        return
    paths = [jobs_path(namespace, name) for name in left]
    yield Finding(
        subject=JOBS,
        level="warning",
        text=f"{counted(len(left), 'Job')} still on nodes, whose run has ended: {', '.join(left)}",
        command=f"kubectl delete job --namespace {namespace} {' '.join(left)}",
        fix=lambda: _removed(client, paths, "Job"),
    )


def _ended(facts: ClusterFacts, run_ids: tuple[str, ...]) -> list[str]:
    """Return those runs that ended a while ago, as far as Prefect knows them."""
    if not run_ids:
        return []
    with short_retries(0), connect(facts.api_url.need()) as api:
        found = api.find_runs(RunQuery(ids=run_ids))
    limit = datetime.now(UTC) - ENDING_TIME
    return [each.id for each in found if each.is_final and each.ended and each.ended < limit]


def _listed(client: KubernetesClient, path: str, selector: str) -> list[dict[str, Any]]:
    """Return objects by a label.

    Raises:
        LaunchError: They may not be listed, which runs need not, or the cluster does not answer.
    """
    try:
        found = client.ask("GET", path, query={"labelSelector": selector})
    except KubernetesRefused as refusal:
        raise launch_error(refusal, f"list {path.rpartition('/')[2]}") from refusal
    items: list[dict[str, Any]] = found.get("items") or []
    return items


def _run_id(item: Mapping[str, Any]) -> Any:
    """Return the run that an object is of; None where it does not say."""
    return item["metadata"]["labels"].get(RUN_ID_POD_LABEL)


def _age(item: Mapping[str, Any]) -> timedelta:
    created = str(item["metadata"]["creationTimestamp"])
    return datetime.now(UTC) - datetime.fromisoformat(created)


def _removed(client: KubernetesClient, paths: list[str], kind: str) -> str:
    with closing(client):
        for path in paths:
            _delete(client, path, kind)
    return f"deleted {counted(len(paths), kind)}"


def _delete(client: KubernetesClient, path: str, kind: str) -> None:
    try:
        client.ask("DELETE", path, body={"propagationPolicy": "Background"})
    except KubernetesRefused as refusal:
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise launch_error(refusal, f"delete the {kind}") from refusal
