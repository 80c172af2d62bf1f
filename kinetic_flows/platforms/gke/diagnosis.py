"""What is the matter with a run on Kubernetes, said in plain words.

Objects and events are plain mappings as the Kubernetes API serialises them (camel case).
`waiting`, `ending` and `refusal` make diagnoses; all of it is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

KubernetesObject = Mapping[str, Any]


class Cause(StrEnum):
    """What a run waits for, or what ended it."""

    STARTING = "starting"
    QUEUE = "queue"
    SCALING_UP = "scaling_up"
    NO_NODE_POOL = "no_node_pool"
    NO_ROOM = "no_room"
    TAINTED = "tainted"
    NO_ADDRESSES = "no_addresses"
    CLOUD_QUOTA = "cloud_quota"
    CLOUD_CAPACITY = "cloud_capacity"
    NAMESPACE_QUOTA = "namespace_quota"
    IMAGE_PULL = "image_pull"
    CONFIGURATION = "configuration"
    ADMISSION = "admission"
    FORBIDDEN = "forbidden"
    NAMESPACE_MISSING = "namespace_missing"
    UNREACHABLE = "unreachable"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node_lost"
    DEADLINE = "deadline"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One finding.

    Attributes:
        cause: What it is, for programs.
        message: What it is, for people.
        hint: What to do about it; None when there is nothing to do.
        permanent: Whether waiting longer cannot help.
        exit_code: The container's exit code, when it ended; None otherwise.
    """

    cause: Cause
    message: str
    hint: str | None = None
    permanent: bool = False
    exit_code: int | None = None

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def events_about(
    events: Iterable[KubernetesObject], subject: KubernetesObject
) -> tuple[KubernetesObject, ...]:
    """Return the events of one object, oldest first."""
    metadata = subject["metadata"]
    about = (event for event in events if _is_about(event.get("involvedObject") or {}, metadata))
    return tuple(sorted(about, key=_when))


def latest(events: Sequence[KubernetesObject], *reasons: str) -> KubernetesObject | None:
    """Return the newest event with one of these reasons; events are oldest first."""
    return next((event for event in reversed(events) if event.get("reason") in reasons), None)


def condition(subject: KubernetesObject, kind: str) -> KubernetesObject | None:
    """Return a condition that holds, or None."""
    found = (subject.get("status") or {}).get("conditions") or ()
    return next((c for c in found if c.get("type") == kind and c.get("status") == "True"), None)


def container_status(pod: KubernetesObject) -> KubernetesObject:
    """Return the status of the pod's only container; empty while there is none."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return statuses[0] if statuses else {}


def container_state(pod: KubernetesObject, kind: str) -> KubernetesObject | None:
    """Return the container's `waiting`, `running` or `terminated` state, or None."""
    state: KubernetesObject | None = (container_status(pod).get("state") or {}).get(kind)
    return state


def pod_phase(pod: KubernetesObject) -> str:
    """Return the pod's phase; Pending while it has no status."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _is_about(reference: KubernetesObject, metadata: KubernetesObject) -> bool:
    if reference.get("uid") and metadata.get("uid"):
        return bool(reference["uid"] == metadata["uid"])
    return bool(reference.get("name") == metadata.get("name"))


def _when(event: KubernetesObject) -> str:
    # RFC 3339 in UTC, as the API writes it, sorts as text.
    moment = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    return str(moment or "")
