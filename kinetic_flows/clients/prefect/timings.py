"""How long the phases of a run took, from what its flow run says of them.

Its client writes what it measured among the labels when it launches the run, its runner what it
measured when the function begins; the rest follows from the flow run's own times.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kinetic_flows.clients.prefect.labels import LAUNCHED_LABEL, SECONDS_LABEL
from kinetic_flows.clients.prefect.records import RunRecord

PHASES: Mapping[str, str] = {
    "plan": "planned",
    "lock": "locked and resolved",
    "build": "built",
    "upload": "uploaded",
    "wait": "waited to start",
    "node": "of that, for a node",
    "pull": "of that, pulled",
    "fetch": "fetched code and call",
    "install": "installed",
    "data": "brought its data",
    "run": "ran",
}
"""The phases of a run in their order, and how each is told."""

_OF_RUNNER = ("fetch", "install", "data")


def seconds_labels(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the labels that tell how long phases took."""
    return {f"{SECONDS_LABEL}{phase}": round(took, 3) for phase, took in seconds.items()}


def without_seconds(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return labels without those that tell how long phases of one run took."""
    return {name: value for name, value in labels.items() if not name.startswith(SECONDS_LABEL)}


def timings_of(record: RunRecord) -> dict[str, float]:
    """Return how many seconds each phase of a run took, in their order; those that are known.

    Args:
        record: Its flow run, which may not have ended.
    """
    told = {phase: record.labels.get(f"{SECONDS_LABEL}{phase}") for phase in PHASES}
    found = {phase: float(took) for phase, took in told.items() if isinstance(took, int | float)}
    if record.started and "wait" not in found:
        since = max(record.created, record.expected or record.created, _launched(record))
        found["wait"] = max((record.started - since).total_seconds(), 0.0)
    if record.started and record.ended:
        before = sum(found.get(phase, 0.0) for phase in _OF_RUNNER)
        found["run"] = max((record.ended - record.started).total_seconds() - before, 0.0)
    return {phase: found[phase] for phase in PHASES if phase in found}


def _launched(record: RunRecord) -> datetime:
    """Return when the client began to start the process; long ago where it does not say."""
    try:
        return datetime.fromisoformat(str(record.labels.get(LAUNCHED_LABEL, "")))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
