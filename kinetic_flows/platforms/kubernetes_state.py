"""What is known of the runs in one namespace: their Jobs, pods and events, kept up to date."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.errors import KineticError
from kinetic_flows.naming import RUN_ID_POD_LABEL

Object = dict[str, Any]

EVENTS_KEPT_PER_RUN = 40
PODS_KEPT_PER_RUN = 40
STALE_SECONDS = 30.0

_RUN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_METADATA = (
    *("name", "namespace", "uid", "labels", "annotations", "resourceVersion"),
    *("creationTimestamp", "deletionTimestamp"),
)
_SPEC = (
    *("suspend", "backoffLimit", "completions", "activeDeadlineSeconds"),
    *("nodeName", "nodeSelector"),
)


@dataclass(frozen=True, kw_only=True)
class RunView:
    """What is known of one run at one moment.

    Attributes:
        job: Its Job; None when there is none.
        pods: Its pods.
        departed: Pods of its Job that are gone, as they were last seen.
        events: Events about its Job and pods.
    """

    job: Object | None = None
    pods: tuple[Object, ...] = ()
    departed: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()


@dataclass
class _Run:
    job: Object | None = None
    pods: dict[str, Object] = field(default_factory=dict)
    departed: dict[str, Object] = field(default_factory=dict)
    events: dict[str, Object] = field(default_factory=dict)
    view: RunView | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.job or self.pods or self.events)


class NamespaceState:
    """The objects of one namespace, by run; safe to use from any thread."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._changed = threading.Condition()
        self._listed: set[str] = set()
        self._made: dict[str, float] = {}
        self._trouble: dict[str, tuple[float, KineticError]] = {}

    def view(self, run_id: str) -> RunView:
        """Return what is known of a run."""
        with self._changed:
            run = self._runs.get(run_id)
            if run is None:
                return RunView()
            if run.view is None:
                run.view = RunView(
                    job=run.job,
                    pods=tuple(run.pods.values()),
                    departed=tuple(run.departed.values()),
                    events=tuple(run.events.values()),
                )
            return run.view

    def wait(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds, looking whenever anything changes."""
        with self._changed:
            return self._changed.wait_for(holds, seconds)

    def notify(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def is_listed(self, kinds: Sequence[str]) -> bool:
        """Whether these kinds of objects were listed at least once."""
        return self._listed.issuperset(kinds)

    def trouble(self, kinds: Sequence[str]) -> KineticError | None:
        """Return why nothing is heard of some kinds; None when all is well."""
        with self._changed:
            found = (self._trouble[kind][1] for kind in kinds if kind in self._trouble)
            return next(found, None)

    def is_stale(self) -> bool:
        """Whether nothing was heard of the cluster for a while."""
        with self._changed:
            now = time.monotonic()
            return any(now - since > STALE_SECONDS for since, _ in self._trouble.values())

    def made(self, job: Object) -> None:
        """Take note of a Job that was just created, before the watch tells of it."""
        with self._changed:
            self._made[job["metadata"]["uid"]] = time.monotonic()
            self._put("jobs", job)
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._runs.clear()
            self._listed.clear()
            self._trouble.clear()

    # What followers tell

    def replace(self, kind: str, objects: Sequence[Object], began: float) -> None:
        """Take these objects for all there are of a kind."""
        with self._changed:
            kept = {item["metadata"]["uid"] for item in objects}
            kept |= {uid for uid, moment in self._made.items() if moment >= began}
            self._made = {uid: moment for uid, moment in self._made.items() if moment >= began}
            for run in list(self._runs.values()):
                for item in [each for each in _objects(run, kind) if _uid(each) not in kept]:
                    self._remove(kind, item)
            for item in objects:
                self._put(kind, item)
            self._listed.add(kind)
            self._trouble.pop(kind, None)
            self._changed.notify_all()

    def put(self, kind: str, item: Object) -> None:
        """Take an object's newest version."""
        with self._changed:
            self._put(kind, item)
            self._trouble.pop(kind, None)
            self._changed.notify_all()

    def remove(self, kind: str, item: Object) -> None:
        """Take note that an object is gone."""
        with self._changed:
            self._remove(kind, item)
            self._changed.notify_all()

    def heard(self, kind: str) -> None:
        """Take note that the cluster tells of a kind again."""
        with self._changed:
            self._trouble.pop(kind, None)

    def failed(self, kind: str, error: KineticError) -> None:
        """Take note that the cluster does not tell of a kind, for now."""
        with self._changed:
            since = self._trouble.get(kind, (time.monotonic(), error))[0]
            self._trouble[kind] = (since, error)
            self._changed.notify_all()

    def _put(self, kind: str, item: Object) -> None:
        run_id = _run_id(kind, item)
        if run_id is None:
            return
        run = self._runs.setdefault(run_id, _Run())
        run.view = None
        if kind == "jobs":
            if (
                run.job is None
                or _version(run.job) <= _version(item)
                or _uid(run.job) != _uid(item)
            ):
                run.job = slim(item)
        elif kind == "pods":
            run.pods[_uid(item)] = slim(item)
        else:
            run.events[_uid(item)] = slim_event(item)
            _bound(run.events, EVENTS_KEPT_PER_RUN)

    def _remove(self, kind: str, item: Object) -> None:
        run_id = _run_id(kind, item)
        run = self._runs.get(run_id) if run_id else None
        if run is None or run_id is None:
            return
        run.view = None
        if kind == "jobs" and run.job is not None and _uid(run.job) == _uid(item):
            run.job = None
            run.departed.clear()
        elif kind == "pods" and _uid(item) in run.pods:
            del run.pods[_uid(item)]
            # How it ended is still needed to say why the Job goes on, or does not.
            run.departed[_uid(item)] = slim(item)
            _bound(run.departed, PODS_KEPT_PER_RUN)
        elif kind == "events":
            run.events.pop(_uid(item), None)
        if run.is_empty:
            del self._runs[run_id]


@dataclass(frozen=True, kw_only=True)
class KindSink:
    """The side of a namespace's state that one kind of objects goes to."""

    state: NamespaceState
    kind: str

    def replace(self, objects: Sequence[Object], began: float) -> None:
        """Take these objects for all there are."""
        self.state.replace(self.kind, objects, began)

    def put(self, item: Object) -> None:
        """Take an object's newest version."""
        self.state.put(self.kind, item)

    def remove(self, item: Object) -> None:
        """Take note that an object is gone."""
        self.state.remove(self.kind, item)

    def heard(self) -> None:
        """Take note that the cluster tells what changes from now on."""
        self.state.heard(self.kind)

    def failed(self, error: KineticError) -> None:
        """Take note that the cluster does not tell, for now."""
        self.state.failed(self.kind, error)


def slim(item: Mapping[str, Any]) -> Object:
    """Return what is read of a Job or pod, without the bulk that is not."""
    spec = item.get("spec") or {}
    kept = {name: spec[name] for name in _SPEC if name in spec}
    if spec.get("containers"):
        main = spec["containers"][0]
        kept["containers"] = [
            {name: main[name] for name in ("name", "image", "resources") if name in main}
        ]
    metadata = {name: item["metadata"][name] for name in _METADATA if name in item["metadata"]}
    return {"metadata": metadata, "spec": kept, "status": item.get("status") or {}}


def slim_event(item: Mapping[str, Any]) -> Object:
    """Return what is read of an event."""
    names = ("involvedObject", "reason", "message", "lastTimestamp", "eventTime", "firstTimestamp")
    kept = {name: item[name] for name in names if item.get(name)}
    return {"metadata": {"uid": item["metadata"].get("uid")}, **kept}


def _run_id(kind: str, item: Object) -> str | None:
    """Return the run an object belongs to: names of Jobs hold it, and so do their pods'."""
    if kind != "events":
        labels: Mapping[str, str] = item["metadata"].get("labels") or {}
        return labels.get(RUN_ID_POD_LABEL)
    found = _RUN_ID.search(str((item.get("involvedObject") or {}).get("name") or ""))
    return found[0] if found else None


def _objects(run: _Run, kind: str) -> list[Object]:
    if kind == "jobs":
        return [run.job] if run.job else []
    if kind == "pods":
        return list(run.pods.values())
    return []


def _bound(items: dict[str, Object], limit: int) -> None:
    while len(items) > limit:
        del items[next(iter(items))]


def _uid(item: Object) -> str:
    return str(item["metadata"].get("uid"))


def _version(item: Object) -> int:
    # Compared only to keep the answer to a creation from hiding what the watch told since.
    text = str(item["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0
