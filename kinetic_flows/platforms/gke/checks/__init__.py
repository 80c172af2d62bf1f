"""Checks of a GKE cluster as a platform, and of what stands around it on Google Cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from kinetic_flows.core.findings import Check, Finding
from kinetic_flows.platforms.checking import Surroundings
from kinetic_flows.platforms.gke.checks import (
    builds,
    clock,
    cluster,
    credentials,
    insight,
    leases,
    namespace,
    orphans,
    permissions,
    probe,
    quotas,
    resources,
    work_pool,
)
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts, cluster_facts

Look = Callable[[ClusterFacts], Iterable[Finding]]

CREDENTIALS, CLOUD, CLUSTER = "credentials", "Google Cloud", "cluster"
NAMESPACE, PREFECT, LEFTOVERS = "namespace", "Prefect", "leftovers"

LOOKS: tuple[tuple[str, str, Look], ...] = (
    (CREDENTIALS, credentials.SUBJECT, credentials.login_findings),
    (CREDENTIALS, "rights on the project", permissions.project_findings),
    (CREDENTIALS, "rights on the repository", permissions.repository_findings),
    (CREDENTIALS, "rights on the build account", permissions.build_account_findings),
    ("client", "clock against Google", clock.clock_findings),
    (CLOUD, "project", resources.project_findings),
    (CLOUD, "APIs", resources.service_findings),
    (CLOUD, "bucket of runs", resources.jobs_bucket_findings),
    (CLOUD, "bucket of builds", resources.builds_bucket_findings),
    (CLOUD, "image repository", resources.repository_findings),
    (CLOUD, "build account", builds.account_findings),
    (CLUSTER, "cluster", cluster.cluster_findings),
    (CLUSTER, "GKE version", cluster.support_findings),
    (CLUSTER, "quota", quotas.quota_findings),
    (CLUSTER, "Kubernetes API", cluster.server_findings),
    (NAMESPACE, "namespace", namespace.namespace_findings),
    (NAMESPACE, insight.SUBJECT, insight.insight_findings),
    (PREFECT, "work pool", work_pool.work_pool_findings),
    (PREFECT, "worker", work_pool.worker_findings),
    (LEFTOVERS, orphans.JOBS, orphans.job_findings),
    (LEFTOVERS, orphans.SECRETS, orphans.secret_findings),
    (LEFTOVERS, leases.SUBJECT, leases.lease_findings),
)
"""What is asked: under which heading, about what, by which function."""


def checks_of(surroundings: Surroundings) -> tuple[Check, ...]:
    """Return what is to be asked where functions run on GKE."""
    facts = cluster_facts(surroundings)
    cloud = facts.cloud
    buckets: tuple[tuple[str, str, Look], ...] = tuple(
        (
            CREDENTIALS,
            f"rights on bucket {bucket}",
            partial(permissions.bucket_findings, bucket=bucket),
        )
        for bucket in dict.fromkeys((cloud.jobs_bucket, cloud.builds_bucket))
    )
    asked = tuple(
        Check(group=group, subject=subject, look=partial(look, facts))
        for group, subject, look in (*LOOKS, *buckets)
    )
    if not surroundings.probes:
        reach = partial(probe.reach_findings, facts)
        return (*asked, Check(group=PREFECT, subject=probe.SUBJECT, look=reach))
    patient = Check(
        group=PREFECT,
        subject=probe.SUBJECT,
        look=partial(probe.probe_findings, facts),
        seconds=probe.PROBE_SECONDS + 20.0,
    )
    return (*asked, patient)
