"""Events of runs, which Prefect's automations react to and its Event Feed shows.

Facts from https://docs.prefect.io/v3/api-ref/rest-api/server/events/create-events and from what
Prefect tells of flow runs itself (`prefect.server.models.events`, 3.8.8): the flow run is the
resource, its flow, its deployment and its tags are related to it.

The runner tells the same events of what it sees itself (`runner/events.py`);
`tests/unit/test_contract.py` holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.errors import translated
from kinetic_flows.clients.prefect.labels import (
    ACCELERATOR_LABEL,
    FUNCTION_LABEL,
    ORIGIN_LABELS,
    PARENT_LABEL,
    PLATFORM_LABEL,
)
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.errors import KineticError

EventKind = Literal["built", "pending", "preempted", "oom"]

EVENT_PREFIX = "kinetic.run."
"""Beginning of the names of events, which their kind follows."""

SHOWN_LABELS = (
    FUNCTION_LABEL,
    ACCELERATOR_LABEL,
    PLATFORM_LABEL,
    PARENT_LABEL,
    ORIGIN_LABELS["user"],
)
"""Labels of a run that its events have, too, for automations to tell them apart by."""

MOST_TAGS = 50
"""Of a run's tags; Prefect takes 100 related resources with an event."""


def tell_event(
    api: PrefectApi, run_id: str, kind: EventKind, which: str = "", **payload: str | int
) -> None:
    """Tell Prefect of something that happened to a run; nothing happens where that fails.

    Args:
        api: The API.
        run_id: The flow run.
        kind: What happened.
        which: What tells it from other events of its kind: what is told again has the same id.
        **payload: What is known of it.
    """
    with suppress(KineticError):
        if not _is_told(api, event_id(run_id, kind, which)):
            _send(api, event_of(api.read_run(run_id), kind, which, payload))


def event_of(
    run: RunRecord, kind: EventKind, which: str, payload: Mapping[str, str | int]
) -> dict[str, Any]:
    """Return an event as Prefect takes it; see `tell_event`."""
    labels = {name: str(run.labels[name]) for name in SHOWN_LABELS if run.labels.get(name)}
    related = [
        _related("flow", run.flow_id, run.function),
        _related("deployment", run.deployment_id),
        *(_related("tag", tag) for tag in sorted(run.tags)[:MOST_TAGS]),
    ]
    return {
        "id": event_id(run.id, kind, which),
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENT_PREFIX + kind,
        "resource": {
            "prefect.resource.id": f"prefect.flow-run.{run.id}",
            "prefect.resource.name": run.shown_name,
            **labels,
        },
        "related": [each for each in related if each],
        "payload": dict(payload),
    }


def event_id(run_id: str, kind: str, which: str) -> str:
    """Return the id of an event, which is the same whoever tells it."""
    return str(uuid5(NAMESPACE_URL, f"{EVENT_PREFIX}{kind}/{run_id}/{which}"))


def _related(role: str, identity: str | None, name: str = "") -> dict[str, str]:
    """Return a related resource; empty for one that is not there."""
    if not identity:
        return {}
    resource = {"prefect.resource.id": f"prefect.{role}.{identity}", "prefect.resource.role": role}
    return {**resource, "prefect.resource.name": name} if name else resource


@translated
def _is_told(api: PrefectApi, identity: str) -> bool:
    """Whether Prefect has an event: it would have automations react to one that comes again."""
    wanted = {"filter": {"id": {"id": [identity]}}, "limit": 1}
    return bool(api.client.request("POST", "/events/filter", json=wanted).json()["events"])


@translated
def _send(api: PrefectApi, event: dict[str, Any]) -> None:
    # Prefect's own emitter holds a thread and a websocket of its own for the whole process.
    api.client.request("POST", "/events", json=[event])
