"""Whether the project may have the accelerators that functions ask for."""

from __future__ import annotations

from collections.abc import Iterator

from kinetic_flows.core.findings import Finding
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.setup.clusters.quota import quotas_page, read_quotas, shortages
from kinetic_flows.platforms.gke.setup.request import PoolRequest


def quota_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether a quota has room for what `KINETIC_ACCELERATOR` says."""
    wanted, cloud = facts.accelerator, facts.cloud
    if wanted.category == "cpu":
        return
    subject = f"quota for {wanted}"
    quotas = read_quotas(facts.apis.need(), cloud.region)
    if quotas is None:
        text = f"it cannot be read; it is shown at {quotas_page(cloud.project)}"
        yield Finding(subject=subject, level="unknown", text=text)
        return
    # For one run; nodes that are there already count as used.
    pool = PoolRequest(accelerator=wanted, max_nodes=wanted.hosts)
    short = [text for _, text in shortages((pool,), quotas, cloud.project)]
    if short:
        yield Finding(subject=subject, level="warning", text="; ".join(short))
    else:
        yield Finding(subject=subject, level="ok", text="no quota that Google tells is in the way")
