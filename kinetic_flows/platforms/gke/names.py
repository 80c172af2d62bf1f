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


def kubernetes_job_name(name: str, key: str) -> str:
    """Name of a Job; the key in it makes a repeated creation find the first.

    Args:
        name: The function's name.
        key: The key of what is launched, which begins with the run's id.
    """
    room = MAX_JOB_NAME_CHARACTERS - len(key) - 1
    return f"{slug(name)[:room].rstrip('-') or 'run'}-{key}"


def is_of_launch(key: str) -> bool:
    """Whether a key names a launch of one of several candidates, and not only a run."""
    return _LAUNCH.search(key[_RUN_ID_CHARACTERS:]) is not None


def key_of_labels(labels: Mapping[str, str]) -> str | None:
    """Return the key of what a Job or pod with these labels was launched as; None for others."""
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
    launch = _LAUNCH.match(rest.rpartition("-")[0] if kind == "Pod" else rest)
    return f"{found[0]}-{launch[1]}" if launch else found[0]


def run_secret_name(job_name: str) -> str:
    """Name of the Secret that holds a run's key and API key."""
    return f"{job_name}-keys"
