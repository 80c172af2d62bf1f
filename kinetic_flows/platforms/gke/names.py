"""Names, labels and annotations of a run's objects in the cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kinetic_flows.core.slug import slug

HEADLESS_SERVICE = "kinetic-hosts"
"""Service under which the hosts of a slice find one another; one per namespace."""

RUN_ID_POD_LABEL = "prefect.io/flow-run-id"
"""Label by which Prefect marks a run's Job and pods."""

LAUNCH_LABEL = "kinetic-flows/launch"
"""Label of the Job and pods of a launch of one of a run's candidates, such as `r0c1`."""

SLICE_LABEL = "kinetic-flows/slice"
"""Label of the Job and pods of one of several slices: its key."""

COORDINATOR_PORT = 8476
"""Port of host 0 on which JAX's distributed service listens by default."""

SCHEDULE_TIMEOUT_ANNOTATION = "kinetic-flows/schedule-timeout-seconds"
"""Annotation of a Job that says how long it may wait for its pods; `none` for ever."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Label of a Job that waits in a queue of Kueue's.

https://kueue.sigs.k8s.io/docs/tasks/run/jobs/
"""

MAX_JOB_NAME_CHARACTERS = 57
"""Leaves room for `-` and a host's number within the 63 characters of a host name."""


_RUN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RUN_ID_CHARACTERS = 36
_LAUNCH = re.compile(r"-(r\d+c\d+)(?=-|$)")
_SLICE = re.compile(r"-s(\d+)$")
_REST_OF_KEY = re.compile(r"((?:-r\d+c\d+)?(?:-s\d+)?)(?=-|$)")


def kubernetes_job_name(name: str, key: str) -> str:
    """Name of a Job; the key in it makes a repeated creation find the first.

    Args:
        name: The function's name.
        key: The key of what is launched, which begins with the run's id.
    """
    room = MAX_JOB_NAME_CHARACTERS - len(key) - 1
    return f"{slug(name)[:room].rstrip('-') or 'run'}-{key}"


def first_job_name(name: str, run_id: str, slices: int) -> str:
    """Name of a run's Job; of its first one where it has several slices.

    Args:
        name: The function's name.
        run_id: The run.
        slices: How many slices it has.
    """
    return kubernetes_job_name(name, f"{run_id}-s0" if slices > 1 else run_id)


def is_of_launch(key: str) -> bool:
    """Whether a key names a launch of one of several candidates, and not only a run."""
    return _LAUNCH.search(key[_RUN_ID_CHARACTERS:]) is not None


def whole_key(key: str) -> str:
    """Return the key of what is launched in all its slices; that of one slice itself.

    Args:
        key: A key, which may be one slice's.
    """
    return key[:_RUN_ID_CHARACTERS] + _SLICE.sub("", key[_RUN_ID_CHARACTERS:])


def slice_number(key: str) -> int:
    """Return which of several slices a key names; 0 for what has one."""
    found = _SLICE.search(key[_RUN_ID_CHARACTERS:])
    return int(found[1]) if found else 0


def key_of_labels(labels: Mapping[str, str]) -> str | None:
    """Return the key of what a Job or pod with these labels was launched as; None for others."""
    if SLICE_LABEL in labels:
        return labels[SLICE_LABEL]
    run_id, launch = labels.get(RUN_ID_POD_LABEL), labels.get(LAUNCH_LABEL)
    return f"{run_id}-{launch}" if run_id and launch else run_id


def key_of_name(name: str, kind: str) -> str | None:
    """Return the key of what an object was launched as, from its name alone; None for others.

    Args:
        name: The object's name, which begins with its Job's.
        kind: Its kind. The last five characters of a pod's name are random: they name no launch.
    """
    found = _RUN_ID.search(name)
    if found is None:
        return None
    rest = name[found.end() :]
    of_key = _REST_OF_KEY.match(rest.rpartition("-")[0] if kind == "Pod" else rest)
    return f"{found[0]}{of_key[1]}" if of_key else found[0]


def run_secret_name(job_name: str) -> str:
    """Name of the Secret that holds a run's key and API key."""
    return f"{job_name}-keys"
