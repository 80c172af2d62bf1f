"""What the cluster's autoscaler says of a pod for which there is no node.

It speaks in events of the pod: `TriggeredScaleUp`, `FailedScaleUp`, `NotTriggerScaleUp`. Node
pools that it leaves alone for now (out of stock, in back-off, at their maximum) are told from
those that no pod like this one would fit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kinetic_flows.platforms.gke.diagnosis import Cause, Diagnosis, KubernetesObject, latest

_CANNOT = "the autoscaler cannot add a node"


@dataclass(frozen=True, kw_only=True)
class _Sentence:
    """Words of the autoscaler, and what they mean."""

    words: re.Pattern[str]
    cause: Cause
    message: str
    hint: str | None = None
    permanent: bool = False

    def diagnosis(self) -> Diagnosis:
        return Diagnosis(
            cause=self.cause, message=self.message, hint=self.hint, permanent=self.permanent
        )


def _sentence(
    words: str, cause: Cause, message: str, hint: str | None = None, *, permanent: bool = False
) -> _Sentence:
    pattern = re.compile(words, re.I)
    return _Sentence(words=pattern, cause=cause, message=message, hint=hint, permanent=permanent)


_FAILURES = (
    _sentence(
        r"quota",
        Cause.CLOUD_QUOTA,
        f"{_CANNOT}: the project's quota is used up",
        "ask for more under IAM & Admin > Quotas, or take another accelerator or region",
    ),
    _sentence(
        r"out of resources|stockout|RESOURCE_POOL_EXHAUSTED|failed to appear in time",
        Cause.CLOUD_CAPACITY,
        f"{_CANNOT}: the zone has none to give at the moment",
        "it keeps trying; another zone, a reservation, `:spot` or `:flex` may be had sooner",
    ),
    _sentence(
        r"IP space exhausted|IP_SPACE_EXHAUSTED",
        Cause.NO_ADDRESSES,
        f"{_CANNOT}: the cluster's network has no IP addresses left for it",
        "wait for other nodes to go, or add an IP range to the cluster",
    ),
    _sentence(
        r"Reservation capacity exceeded|Reservation not ready",
        Cause.CLOUD_CAPACITY,
        f"{_CANNOT}: the node pool's reservation has none left, or is not ready yet",
        "it keeps trying; other runs may have to end first",
    ),
    _sentence(
        r"Service Account was deleted",
        Cause.CONFIGURATION,
        f"{_CANNOT}: the node pool's service account was deleted",
        "create the node pool anew with another service account",
        permanent=True,
    ),
    _sentence(
        r"Invalid TPU|Invalid Reservation|Reservation not found|Reservation incompatible",
        Cause.CONFIGURATION,
        f"{_CANNOT}: the node pool asks for what there is not",
        "create the node pool anew",
        permanent=True,
    ),
)
"""What `FailedScaleUp` says, as GKE words it: `Node scale up in zones us-central1-a associated
with this pod failed: GCE out of resources. Pod is at risk of not being scheduled.`

https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-autoscaler-visibility#messages
"""

_SKIPPED = (
    _sentence(
        r"in backoff after failed scale-up",
        Cause.CLOUD_CAPACITY,
        "it could not add one the last time, and waits before it tries again",
        "another zone, a reservation, `:spot` or `:flex` may be had sooner",
    ),
    _sentence(
        r"max node group size reached",
        Cause.NO_ROOM,
        "the node pool is at its maximum size",
        "wait for other runs to end, or raise the node pool's maximum",
    ),
    _sentence(
        r"max cluster .*limit reached|max cluster size reached",
        Cause.NO_ROOM,
        "the cluster is at its maximum size",
        "wait for other runs to end, or raise the cluster's limits of its autoscaling",
    ),
    _sentence(
        r"not ready for scale-up",
        Cause.SCALING_UP,
        "the node pool is not ready for another node yet",
    ),
)
"""Why `NotTriggerScaleUp` leaves node pools alone that a pod like this one may fit.

https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/core/scaleup/orchestrator/skippedreasons.go
"""


def failed_scale_up(said: str) -> Diagnosis:
    """Say why a node could not be added, from what `FailedScaleUp` says."""
    for sentence in _FAILURES:
        if sentence.words.search(said):
            found = sentence.diagnosis()
            detail = said.partition("failed: ")[2] or said
            is_told = sentence.cause is not Cause.CONFIGURATION
            return found if is_told else replace(found, message=f"{found.message} ({detail})")
    return Diagnosis(cause=Cause.SCALING_UP, message=f"{_CANNOT}: {said}")


def held_back(events: Sequence[KubernetesObject]) -> Diagnosis | None:
    """Say why the autoscaler leaves node pools alone for now; None when it does not.

    Args:
        events: The pod's events, oldest first.
    """
    said = str((latest(events, "NotTriggerScaleUp") or {}).get("message") or "")
    found = next((each for each in _SKIPPED if each.words.search(said)), None)
    if found is None:
        return None
    message = f"the autoscaler adds no node: {found.message}"
    failure = latest(events, "FailedScaleUp")
    if found.cause is not Cause.CLOUD_CAPACITY or failure is None:
        return replace(found.diagnosis(), message=message)
    why = failed_scale_up(str(failure.get("message") or ""))
    return replace(why, message=f"{why.message}; it waits before it tries again", permanent=False)
