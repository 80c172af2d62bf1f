"""How long a run waited for its pod: for a node, and then for its image."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from kinetic_flows.platforms.gke.diagnosis import (
    condition,
    container_state,
    created_at,
    pod_phase,
)
from kinetic_flows.platforms.gke.state import RunView


def pod_waits(view: RunView) -> Mapping[str, float]:
    """Return how many seconds a run's newest pod that runs waited, by `node` and `pull`.

    Kubernetes tells whole seconds: when it bound the pod to a node, and when its container began,
    for which the image has to be there. The first pod waits from its Job's creation on, as pods may
    be kept from being created.

    Args:
        view: What is known of the run.
    """
    running = [pod for pod in view.pods if pod_phase(pod) == "Running"]
    newest = max(running, key=created_at, default=None)
    if newest is None or view.job is None:
        return {}
    is_first = not view.departed and len(running) == len(view.pods)
    created = created_at(view.job if is_first else newest)
    scheduled = (condition(newest, "PodScheduled") or {}).get("lastTransitionTime") or ""
    begun = (container_state(newest, "running") or {}).get("startedAt") or ""
    if not (created and scheduled and begun):
        return {}
    moments = [datetime.fromisoformat(each) for each in (created, scheduled, begun)]
    node, pull = moments[1] - moments[0], moments[2] - moments[1]
    return {"node": max(node.total_seconds(), 0.0), "pull": max(pull.total_seconds(), 0.0)}
