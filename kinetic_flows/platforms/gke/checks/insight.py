"""Whether this user may look into runs that go on: start commands in pods, and forward ports."""

from __future__ import annotations

from collections.abc import Iterator

from kinetic_flows.core.findings import Finding
from kinetic_flows.platforms.gke.access import granting
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.rights import INSIGHT, lacking_rights

SUBJECT = "looking into runs"


def insight_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield what `kinetic runs shell` and the like may not do; runs go on without it."""
    client, _ = facts.reached.need()
    namespace = facts.cloud.namespace
    lacking = client.spawn(lacking_rights(client, namespace, INSIGHT)).result()
    if not lacking:
        yield Finding(subject=SUBJECT, level="ok", text="commands in pods and ports are allowed")
        return
    text = f"of runs that go on you can only read the log: {'; '.join(lacking)}"
    yield Finding(subject=SUBJECT, level="warning", text=text, command=granting(namespace))
