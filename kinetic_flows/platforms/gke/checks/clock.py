"""Whether this machine's clock is Google's."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kinetic_flows.clients.web import answered_date
from kinetic_flows.core.clocks import ServerTime, clock_finding
from kinetic_flows.core.findings import Finding, NotAsked
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts

STORAGE = "https://storage.googleapis.com"


def clock_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield how far the clock is from that of Cloud Storage, which anybody may ask."""
    asked_at = time.time()
    date = answered_date(facts.cloud.storage_endpoint or STORAGE)
    if date is None:
        raise NotAsked("an answer of Cloud Storage's")
    told = ServerTime(server="Google", date=date, asked_at=asked_at, answered_at=time.time())
    yield clock_finding(told)
