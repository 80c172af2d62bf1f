"""Events about pods, each written when it is new: not again at every look."""

from __future__ import annotations

from loopback.kubernetes.store import Object, Store

SCHEDULER, AUTOSCALER = "default-scheduler", "cluster-autoscaler"


class Sayings:
    """What scheduler and autoscaler have said of pods.

    Args:
        store: The cluster's objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: dict[tuple[str, str], str] = {}

    def say(self, pod: Object, reason: str, message: str) -> None:
        """Write an event of a pod, unless it is what was said of it last."""
        if self._store.current("pods", pod) is None:
            return
        who = SCHEDULER if reason == "FailedScheduling" else AUTOSCALER
        key = (pod["metadata"]["uid"], who)
        if self._last.get(key) != f"{reason} {message}":
            self._last[key] = f"{reason} {message}"
            kind = "Normal" if reason in ("TriggeredScaleUp", "NotTriggerScaleUp") else "Warning"
            self._store.record_event(pod, kind, reason, message)
