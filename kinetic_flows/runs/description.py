"""What there is to say of a run, from its flow run: as plain JSON values and in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from kinetic_flows.clients.prefect.labels import (
    ACCELERATOR_LABEL,
    CACHED_FROM_LABEL,
    IMAGE_LABEL,
    INDEX_LABEL,
    ORIGIN_LABELS,
    OUTPUT_DIR_LABEL,
    OUTPUTS_LABEL,
    PACKAGES_LABEL,
    PARENT_LABEL,
    RETRY_LABEL,
    SECRETS_LABEL,
)
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.clients.prefect.timings import timings_of

BUCKETS = "https://console.cloud.google.com/storage/browser/"

_VALUE = re.compile(r"^returned (\S+: )?")


def described(record: RunRecord, url: str) -> dict[str, Any]:
    """Return a run as plain JSON values; None for what is not known.

    Args:
        record: Its flow run.
        url: Where a browser shows it.
    """
    labels = record.labels
    return {
        "id": record.id,
        "name": record.shown_name,
        "function": record.function or record.shown_name.partition("(")[0],
        "state": record.state_name,
        "message": record.message,
        "created": record.created.isoformat(),
        "started": _iso(record.started),
        "ended": _iso(record.ended),
        "seconds": seconds_of(record),
        "arguments": dict(record.parameters),
        "accelerator": labels.get(ACCELERATOR_LABEL),
        "image": labels.get(IMAGE_LABEL) or record.job_variables.get("image"),
        "packages_image": labels.get(PACKAGES_LABEL),
        "secrets": str(labels.get(SECRETS_LABEL) or "") or None,
        "tags": list(record.tags),
        "outputs": outputs_of(record),
        "group": labels.get(PARENT_LABEL),
        "input": labels.get(INDEX_LABEL),
        "retry_of": labels.get(RETRY_LABEL),
        "cached_from": labels.get(CACHED_FROM_LABEL),
        "deployment": record.deployment_id,
        "origin": {name: labels.get(label) for name, label in ORIGIN_LABELS.items()},
        "timings": {phase: round(took, 3) for phase, took in timings_of(record).items()},
        "url": url,
    }


def seconds_of(record: RunRecord, now: datetime | None = None) -> float | None:
    """Return for how long a run has run by now, or did; None before it began.

    Args:
        record: Its flow run.
        now: The moment to count to while it runs; None for this one.
    """
    if record.started is None:
        return None
    end = record.ended or now or datetime.now(UTC)
    return round((end - record.started).total_seconds(), 1)


def outputs_of(record: RunRecord) -> str | None:
    """Return where a run keeps its outputs; None when its flow run does not say."""
    exact = record.labels.get(OUTPUT_DIR_LABEL)
    if exact:
        return str(exact)
    base = record.labels.get(OUTPUTS_LABEL)
    return f"{base}/{record.labels.get(CACHED_FROM_LABEL) or record.id}" if base else None


def outputs_page(outputs: str | None) -> str | None:
    """Return where a browser shows outputs; None for those that are not in Cloud Storage."""
    scheme, _, place = (outputs or "").partition("://")
    return f"{BUCKETS}{quote(place)}" if scheme == "gs" else None


def reason_of(state: Mapping[str, Any]) -> str:
    """Return a run's state and, in one line, why it is in it or what came of it.

    Args:
        state: `state` and `message` of a described run.
    """
    message = str(state["message"]).partition("\n")[0].strip()
    # Of a value, its type says least.
    message = _VALUE.sub("", message).removeprefix("waiting to be launched")
    return f"{state['state']}: {message}" if message else str(state["state"])


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
