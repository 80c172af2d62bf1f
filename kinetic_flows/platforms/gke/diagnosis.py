"""What is the matter with a run on Kubernetes, said in plain words.

Objects and events are plain mappings as the Kubernetes API serialises them (camel case).
`waiting` and `ending` diagnose objects, `explain_refusal` answers of the API. Nothing here asks
the cluster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kinetic_flows.clients.kubernetes.client import KubernetesRefused
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.launcher import STARTING

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"

KubernetesObject = Mapping[str, Any]


class Cause(StrEnum):
    """What a run waits for, or what ended it."""

    STARTING = STARTING
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
    VOLUME = "volume"
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
    return tuple(sorted(about, key=moment_of))


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


def uid_of(item: KubernetesObject) -> str:
    """Return the UID of an object."""
    return str(item["metadata"].get("uid"))


def created_at(item: KubernetesObject) -> str:
    """Return when an object was created, in RFC 3339; empty when it does not say."""
    return str(item["metadata"].get("creationTimestamp") or "")


def host_index(pod: KubernetesObject) -> str | None:
    """Return which host of a slice a pod is; None for a run of one host."""
    index: str | None = (pod["metadata"].get("annotations") or {}).get(INDEX_ANNOTATION)
    return index


def pod_phase(pod: KubernetesObject) -> str:
    """Return the pod's phase; Pending while it has no status."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _is_about(reference: KubernetesObject, metadata: KubernetesObject) -> bool:
    if reference.get("uid") and metadata.get("uid"):
        return bool(reference["uid"] == metadata["uid"])
    return bool(reference.get("name") == metadata.get("name"))


def moment_of(event: KubernetesObject) -> str:
    """Return when something was said last, as the API writes it; empty when that is not told."""
    # RFC 3339 in UTC, as the API writes it, sorts as text.
    moment = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    return str(moment or "")


_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request:?\s*(.*)', re.S)
_SILENT_WEBHOOK = re.compile(r'failed calling webhook "([^"]+)":?\s*(.*)', re.S)
_QUOTA = re.compile(r"exceeded quota: ([^,]+)(?:, (.*))?", re.S)
_ACCOUNT = re.compile(r'serviceaccount "([^"]+)" not found', re.I)
_NAMESPACE = re.compile(r'namespaces "([^"]+)" not found', re.I)
_POD_SECURITY = re.compile(r'violates? PodSecurity "(?P<level>\w+):[^"]*": (?P<what>.*)', re.S)
_NAMED_POD = re.compile(r'^(?:Error creating: )?pods "[^"]+" is forbidden: ')
"""What the Job controller says first; the pod's name is another at every try."""

COUNTED_JOBS = "count/jobs.batch"
"""What a quota calls the Jobs of a namespace."""

FINISHED_JOBS_COUNT = "Jobs that have finished count for as long as they are there"

LASTING = "is the work pool's template as this version's? `kinetic pool show` says how it differs"
_BUSY = 429

_RESTRICTED_BY = "job_variables={'security_context': 'restricted'}"

_USER = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]+)")?'
)


def launch_error(refusal: KubernetesRefused, action: str) -> LaunchError:
    """Return the error for a request that the API refused.

    Args:
        refusal: Its answer.
        action: What was asked for.
    """
    found = explain_refusal(refusal.status, refusal.body, action)
    error = LaunchError(found.message, value=refusal.status, hint=found.hint)
    error.is_denial = found.cause not in (Cause.FORBIDDEN, Cause.UNREACHABLE)
    return error


def explain_refusal(status: int, body: str, action: str) -> Diagnosis:
    """Say why a request failed.

    Args:
        status: HTTP status of the answer.
        body: Body of the answer: a `Status` object as JSON, or any text.
        action: What was attempted, such as `create the Job`.
    """
    message = _status_message(body)
    if status == 401:
        return Diagnosis(
            cause=Cause.FORBIDDEN,
            message=f"the cluster does not accept the credentials to {action}",
            hint="sign in again: `gcloud auth application-default login`",
            permanent=True,
        )
    if status in (400, 403, 404, 422) or _SILENT_WEBHOOK.search(message):
        return explain_denial(message, action)
    answered = f"the cluster answered {status} when asked to {action}: {message}"
    if status < 500 and status != _BUSY:
        # It is the request that it objects to, as to one that is too large.
        return _permanent(Cause.ADMISSION, answered, LASTING)
    return Diagnosis(
        cause=Cause.UNREACHABLE,
        message=answered,
        hint="try again; if it stays, look at the cluster's health",
    )


def explain_denial(message: str, action: str) -> Diagnosis:
    """Say why something was denied, from the API server's own sentence."""
    if found := _QUOTA.search(message):
        return _over_quota(found)
    if found := _POD_SECURITY.search(message):
        return _insecure(found)
    if found := _SILENT_WEBHOOK.search(message):
        return Diagnosis(
            cause=Cause.ADMISSION,
            message=f"admission webhook {found[1]!r} does not answer: {found[2].strip()}",
            hint="try again; if it stays so, ask who runs the cluster",
        )
    if found := _WEBHOOK.search(message):
        return _permanent(
            Cause.ADMISSION,
            f"admission webhook {found[1]!r} refuses to {action}: {found[2].strip()}",
            "change what it objects to, or ask who runs the cluster",
        )
    if found := _ACCOUNT.search(message):
        return _permanent(
            Cause.CONFIGURATION,
            f"there is no service account {found[1]!r} in the namespace",
            "create it and bind it to a Google service account",
        )
    if found := _NAMESPACE.search(message):
        return _permanent(
            Cause.NAMESPACE_MISSING,
            f"the cluster has no namespace {found[1]!r}",
            f"create it with `kubectl create namespace {found[1]}`",
        )
    if found := _USER.search(message):
        return _not_allowed(found)
    message = _NAMED_POD.sub("", message)
    return _permanent(Cause.ADMISSION, f"the cluster refuses to {action}: {message}", None)


def explain_warning(text: str) -> str | None:
    """Return what a warning says that came with an answer; None when others say it.

    Args:
        text: The text of a Warning header.
    """
    # What a namespace enforces is asked, and told, apart; this may be what it only warns of.
    if found := _POD_SECURITY.search(text):
        return f"the namespace warns: pods violate Pod Security {found['level']!r}: {found['what']}"
    return f"the cluster warns: {text}"


def refused_security(level: str, namespace: str, broken: Sequence[str]) -> str:
    """Say that a namespace will not take a run's pods, and what to do."""
    return (
        f"namespace {namespace!r} enforces Pod Security {level!r}, which the run's pods violate: "
        f"{', '.join(broken)}; say {_RESTRICTED_BY}, with which an image has to run as user 1000 "
        f"and without a writable root, or use a namespace that demands less"
    )


def unknown_security(namespace: str) -> str:
    """Say what a namespace that takes only restricted pods demands of an image of one's own."""
    return (
        f"namespace {namespace!r} enforces Pod Security 'restricted': the image's USER has to be "
        f"a number other than 0, or say {_RESTRICTED_BY}"
    )


def _over_quota(found: re.Match[str]) -> Diagnosis:
    """Say which quota leaves no room: pods wait for it, Jobs and other objects are refused."""
    numbers = f" ({found[2]})" if found[2] else ""
    hint = "wait for other runs to end, or raise the quota"
    if COUNTED_JOBS in (found[2] or ""):
        hint = f"{FINISHED_JOBS_COUNT}: delete some, lower `finished_job_ttl`, or raise the quota"
    return Diagnosis(
        cause=Cause.NAMESPACE_QUOTA,
        message=f"resource quota {found[1]!r} of the namespace is used up{numbers}",
        hint=hint,
    )


def _insecure(found: re.Match[str]) -> Diagnosis:
    return _permanent(
        Cause.ADMISSION,
        f"the namespace enforces Pod Security {found['level']!r}, which the pod violates: "
        f"{found['what'].strip()}",
        f"say {_RESTRICTED_BY}, or use a namespace that demands less",
    )


def _not_allowed(found: re.Match[str]) -> Diagnosis:
    where = f" in namespace {found['namespace']!r}" if found["namespace"] else ""
    resource = f"{found['resource']}.{found['group']}" if found["group"] else found["resource"]
    return _permanent(
        Cause.FORBIDDEN,
        f"{found['user']} may not {found['verb']} {resource}{where}",
        "grant it with a Role and a RoleBinding, or the IAM role roles/container.developer",
    )


def _permanent(cause: Cause, message: str, hint: str | None) -> Diagnosis:
    return Diagnosis(cause=cause, message=message, hint=hint, permanent=True)


def _status_message(body: str) -> str:
    try:
        status = json.loads(body)
    except ValueError:
        return body.strip()
    if isinstance(status, dict) and status.get("message"):
        return str(status["message"])
    return body.strip()
