"""Events of a run, as Prefect's automations take them.

The client tells the same ones of what it sees (`clients/prefect/events.py` in `kinetic_flows`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EVENT_PREFIX = "kinetic.run."
SHOWN_LABELS = (
    "kinetic.function",
    "kinetic.accelerator",
    "kinetic.platform",
    "kinetic.group",
    "kinetic.user",
)
MOST_TAGS = 50


def event_of(
    flow_run: Mapping[str, Any], kind: str, which: str, payload: Mapping[str, Any], occurred: str
) -> dict[str, Any]:
    """Return an event as Prefect takes it.

    Args:
        flow_run: The flow run, as Prefect's API describes it.
        kind: What happened.
        which: What tells it from other events of its kind: what is told again has the same id.
        payload: What is known of it.
        occurred: When, as Prefect takes times.
    """
    run_id, labels = str(flow_run["id"]), flow_run.get("labels") or {}
    function = str(labels.get("kinetic.function") or "")
    related = [
        _related("flow", flow_run.get("flow_id"), function),
        _related("deployment", flow_run.get("deployment_id")),
        *(_related("tag", tag) for tag in sorted(flow_run.get("tags") or ())[:MOST_TAGS]),
    ]
    return {
        "id": event_id(run_id, kind, which),
        "occurred": occurred,
        "event": EVENT_PREFIX + kind,
        "resource": {
            "prefect.resource.id": f"prefect.flow-run.{run_id}",
            "prefect.resource.name": str(flow_run.get("name") or function),
            **{name: str(labels[name]) for name in SHOWN_LABELS if labels.get(name)},
        },
        "related": [each for each in related if each],
        "payload": dict(payload),
    }


def event_id(run_id: str, kind: str, which: str) -> str:
    """Return the id of an event, which is the same whoever tells it."""
    # Imported late: no run that nothing happens to needs it.
    from uuid import NAMESPACE_URL, uuid5

    return str(uuid5(NAMESPACE_URL, f"{EVENT_PREFIX}{kind}/{run_id}/{which}"))


def _related(role: str, identity: Any, name: str = "") -> dict[str, str]:
    """Return a related resource; empty for one that is not there."""
    if not identity:
        return {}
    resource = {"prefect.resource.id": f"prefect.{role}.{identity}", "prefect.resource.role": role}
    return {**resource, "prefect.resource.name": name} if name else resource
