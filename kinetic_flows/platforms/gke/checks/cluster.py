"""Whether the cluster is there, well, of a version that Google looks after, and as runs need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kinetic_flows.clients.kubernetes.access import ClusterAccessDenied
from kinetic_flows.clients.kubernetes.node_pools import gke_node_pools, makes_node_pools
from kinetic_flows.core.errors import ConfigurationError, KineticError, LaunchError
from kinetic_flows.core.findings import Finding, Level, finding_of
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts

SOON = timedelta(days=45)
"""From here on an end of support is told: an upgrade takes planning."""

_WELL = ("RUNNING", "RECONCILING")
"""https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters#status"""

FUSE = "Cloud Storage as volumes"
IDENTITY = "Workload Identity"


def cluster_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield how GKE describes the cluster."""
    cloud = facts.cloud
    subject = f"cluster {cloud.cluster}"
    try:
        described = facts.described.get()
    except (LaunchError, ConfigurationError) as error:
        missing = isinstance(error, LaunchError) and "has no GKE cluster" in error.message
        yield finding_of(subject, error, "wrong" if missing else "unknown")
        return
    yield _status_finding(subject, described)
    if described.get("status") in (*_WELL, "DEGRADED"):
        yield from _feature_findings(described, facts)
        yield from _pool_findings(described, facts)


def server_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether the cluster's API server answers here."""
    subject = "Kubernetes API"
    try:
        client, version = facts.reached.get()
    except (LaunchError, ConfigurationError) as error:
        yield finding_of(subject, error, _unreached(facts, error))
        return
    told = f"Kubernetes {version}" if version else "its version is not told"
    yield Finding(subject=subject, level="ok", text=f"{client.host()} answers: {told}")


def _unreached(facts: ClusterFacts, error: KineticError) -> Level:
    """Return how bad it is that the API server cannot be asked: a worker may launch the runs."""
    if facts.cloud.dispatch == "worker":
        return "unknown"
    is_refused = isinstance(error, ClusterAccessDenied) and facts.cloud.dispatch == "auto"
    return "warning" if is_refused else "wrong"


def support_findings(facts: ClusterFacts, now: datetime | None = None) -> Iterator[Finding]:
    """Yield until when Google looks after the cluster's version.

    https://cloud.google.com/kubernetes-engine/docs/release-schedule

    Args:
        facts: What is known of the cluster.
        now: The moment; None for this one.
    """
    apis, cloud = facts.apis.need(), facts.cloud
    # One that is not there is told of elsewhere.
    version = str(facts.described.need().get("currentMasterVersion") or "")
    name = f"projects/{cloud.project}/locations/{cloud.zone}/clusters/{cloud.cluster}"
    info = apis.read(
        f"look until when GKE {version} is supported",
        lambda: apis.container.fetch_cluster_upgrade_info(request={"name": name}),
    )
    yield support_finding(
        version,
        standard=_moment(info.end_of_standard_support_timestamp),
        extended=_moment(info.end_of_extended_support_timestamp),
        now=now or datetime.now(UTC),
        command=f"gcloud container clusters upgrade {cloud.cluster} --master "
        f"--location={cloud.zone} --project={cloud.project}",
    )


def support_finding(
    version: str,
    *,
    standard: datetime | None,
    extended: datetime | None,
    now: datetime,
    command: str,
) -> Finding:
    """Return whether Google looks after a version, and goes on to.

    Args:
        version: The version.
        standard: When its standard support ends; None where that is not told.
        extended: When its extended support ends, which costs more; None for none.
        now: The moment.
        command: What brings the cluster to the next version.
    """
    subject = f"GKE {version}"
    last = max(filter(None, (standard, extended)), default=None)
    if standard is None or last is None:
        return Finding(subject=subject, level="unknown", text="Google does not tell how long")
    if now > last:
        text = f"out of support since {last:%Y-%m-%d}: it gets no fixes, and is upgraded unasked"
        return Finding(subject=subject, level="wrong", text=text, command=command)
    if now > standard:
        text = f"in extended support, which costs more, until {last:%Y-%m-%d}"
        return Finding(subject=subject, level="warning", text=text, command=command)
    text = f"supported until {standard:%Y-%m-%d}"
    if standard - now < SOON:
        return Finding(subject=subject, level="warning", text=f"only {text}", command=command)
    return Finding(subject=subject, level="ok", text=text)


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _status_finding(subject: str, described: Mapping[str, Any]) -> Finding:
    status = str(described.get("status") or "")
    told = str(described.get("statusMessage") or "")
    said = [each.get("message") for each in described.get("conditions") or ()]
    why = "; ".join(filter(None, (told, *said)))
    if status in _WELL:
        kind = "Autopilot" if (described.get("autopilot") or {}).get("enabled") else "Standard"
        channel = str((described.get("releaseChannel") or {}).get("channel") or "no").lower()
        version = described.get("currentMasterVersion")
        text = f"{status.lower()}: {kind}, GKE {version}, {channel} release channel"
        return Finding(subject=subject, level="ok", text=text)
    is_on_its_way = status in ("PROVISIONING", "STOPPING")
    return Finding(
        subject=subject,
        level="warning" if is_on_its_way else "wrong",
        text=f"{status.lower()}: {why}" if why else status.lower(),
    )


def _feature_findings(described: Mapping[str, Any], facts: ClusterFacts) -> Iterator[Finding]:
    cloud = facts.cloud
    update = (
        f"gcloud container clusters update {cloud.cluster} --location={cloud.zone} "
        f"--project={cloud.project}"
    )
    pool = (described.get("workloadIdentityConfig") or {}).get("workloadPool")
    if pool:
        yield Finding(subject=IDENTITY, level="ok", text=str(pool))
    else:
        yield Finding(
            subject=IDENTITY,
            level="warning",
            text="off: pods are to Google Cloud what their nodes are, whatever runs in them",
            command=f"{update} --workload-pool={cloud.project}.svc.id.goog",
        )
    addons = described.get("addonsConfig") or {}
    is_autopilot = bool((described.get("autopilot") or {}).get("enabled"))
    if is_autopilot or (addons.get("gcsFuseCsiDriverConfig") or {}).get("enabled"):
        yield Finding(subject=FUSE, level="ok", text="the cluster has the driver")
    else:
        yield Finding(
            subject=FUSE,
            level="warning",
            text="the cluster lacks the driver: runs fetch their data, and mount none",
            command=f"{update} --update-addons=GcsFuseCsiDriver=ENABLED",
        )


def _pool_findings(described: Mapping[str, Any], facts: ClusterFacts) -> Iterator[Finding]:
    """Yield which node pools there are, and which are not well."""
    for pool in described.get("nodePools") or ():
        status = str(pool.get("status") or "RUNNING")
        if status not in _WELL:
            why = str(pool.get("statusMessage") or "")
            yield Finding(
                subject=f"node pool {pool['name']}",
                level="warning" if status in ("PROVISIONING", "STOPPING") else "wrong",
                text=f"{status.lower()}: {why}" if why else status.lower(),
            )
    pools = gke_node_pools(described)
    listed = ", ".join(sorted(map(str, pools))) or "none"
    autoprovisions = makes_node_pools(described)
    wanted = facts.accelerator
    if autoprovisions or any(pool.offers(wanted) for pool in pools):
        made = "; others are made when they are needed" if autoprovisions else ""
        yield Finding(subject="node pools", level="ok", text=f"{listed}{made}")
        return
    yield Finding(
        subject="node pools",
        level="wrong",
        text=f"none has {wanted}; the cluster has: {listed}",
        command="kinetic up" if wanted.category == "cpu" else f"kinetic nodepools add {wanted}",
    )
