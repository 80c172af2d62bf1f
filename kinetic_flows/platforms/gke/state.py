"""What is known of the runs in one namespace: their Jobs, pods and events, kept up to date."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.core.errors import KineticError
from kinetic_flows.platforms.gke.diagnosis import condition, pod_phase, uid_of
from kinetic_flows.platforms.gke.names import (
    is_of_launch,
    key_of_labels,
    key_of_name,
    slice_number,
    whole_key,
)

Object = dict[str, Any]

EVENTS_KEPT_PER_RUN = 40
PODS_KEPT_PER_RUN = 40
STALE_SECONDS = 30.0
ENDED = ("Succeeded", "Failed")

_METADATA = (
    *("name", "namespace", "uid", "labels", "annotations", "resourceVersion"),
    *("creationTimestamp", "deletionTimestamp", "finalizers"),
)
_SPEC = (
    *("suspend", "backoffLimit", "completions", "activeDeadlineSeconds"),
    *("nodeName", "nodeSelector", "affinity", "serviceAccountName"),
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
class _Objects:
    job: Object | None = None
    pods: dict[str, Object] = field(default_factory=dict)
    departed: dict[str, Object] = field(default_factory=dict)
    events: dict[str, Object] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.job or self.pods or self.events)

    @property
    def are_at_rest(self) -> bool:
        """Whether its Job and all of its pods have ended."""
        ended = self.job and (condition(self.job, "Complete") or condition(self.job, "Failed"))
        return bool(ended) and all(pod_phase(pod) in ENDED for pod in self.pods.values())

    def of(self, kind: str) -> list[Object]:
        """Return the Job or the pods."""
        if kind == "jobs":
            return [self.job] if self.job else []
        return list(self.pods.values()) if kind == "pods" else []


class _Run:
    """What is known of a run; that of one that has ended is kept small.

    Finished Jobs stay in their namespace for hours, and a sweep has thousands of them.
    """

    def __init__(self) -> None:
        self._objects: _Objects | None = _Objects()
        self._packed = b""
        self._view: RunView | None = None

    @property
    def objects(self) -> _Objects:
        """Its objects, to be read."""
        return self._objects or _Objects(**json.loads(zlib.decompress(self._packed)))

    @property
    def is_at_rest(self) -> bool:
        """Whether its Job and all of its pods have ended."""
        return self._objects is None

    @property
    def view(self) -> RunView:
        """Its objects as others see them; the same view until they change."""
        if self._view is not None:
            return self._view
        found = self.objects
        view = RunView(
            job=found.job,
            pods=tuple(found.pods.values()),
            departed=tuple(found.departed.values()),
            events=tuple(found.events.values()),
        )
        if self._objects is not None:
            self._view = view
        return view

    @contextmanager
    def changing(self) -> Iterator[_Objects]:
        """Give its objects to be changed."""
        self._objects, self._packed, self._view = self.objects, b"", None
        yield self._objects
        if self._objects.are_at_rest:
            self._packed = zlib.compress(json.dumps(vars(self._objects)).encode())
            self._objects = None


class NamespaceState:
    """The objects of one namespace, by the key of what was launched; safe to use from any thread.

    That is the run's id, or names the launch of one of a run's candidates, too.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._slices: dict[str, set[str]] = {}
        self._changed = threading.Condition()
        self._listed: set[str] = set()
        self._made: dict[str, float] = {}
        self._trouble: dict[str, tuple[float, KineticError]] = {}
        self._heard = time.monotonic()

    def view(self, key: str) -> RunView:
        """Return what is known of a run, or of a launch."""
        with self._changed:
            run = self._runs.get(key)
            return run.view if run else RunView()

    def slices(self, key: str) -> tuple[str, ...]:
        """Return the keys of a run's or a launch's slices, in order; its own for what has one."""
        with self._changed:
            return tuple(sorted(self._slices.get(key, ()), key=slice_number)) or (key,)

    def launches(self, run_id: str) -> tuple[str, ...]:
        """Return the keys of the Jobs that were launched for one of several candidates.

        Args:
            run_id: The run; empty for those of every run whose Jobs have not ended.
        """
        with self._changed:
            found = (
                whole_key(key)
                for key, run in self._runs.items()
                if key.startswith(run_id)
                and is_of_launch(key)
                and (run_id or not run.is_at_rest)
                and run.view.job is not None
            )
            return tuple(dict.fromkeys(found))

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

    def silent_seconds(self) -> float:
        """Return for how long nothing was heard of the cluster, be it that nothing happened."""
        with self._changed:
            return time.monotonic() - self._heard

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
            self._slices.clear()
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
                for item in run.objects.of(kind):
                    if uid_of(item) not in kept:
                        self._remove(kind, item)
            for item in objects:
                self._put(kind, item)
            self._listed.add(kind)
            self._take_note(kind)
            self._changed.notify_all()

    def put(self, kind: str, item: Object) -> None:
        """Take an object's newest version."""
        with self._changed:
            self._put(kind, item)
            self._take_note(kind)
            self._changed.notify_all()

    def remove(self, kind: str, item: Object) -> None:
        """Take note that an object is gone."""
        with self._changed:
            self._remove(kind, item)
            self._changed.notify_all()

    def heard(self, kind: str) -> None:
        """Take note that the cluster tells of a kind again."""
        with self._changed:
            self._take_note(kind)

    def failed(self, kind: str, error: KineticError) -> None:
        """Take note that the cluster does not tell of a kind, for now."""
        with self._changed:
            since = self._trouble.get(kind, (time.monotonic(), error))[0]
            self._trouble[kind] = (since, error)
            self._changed.notify_all()

    def _take_note(self, kind: str) -> None:
        self._trouble.pop(kind, None)
        self._heard = time.monotonic()

    def _put(self, kind: str, item: Object) -> None:
        key = _key(kind, item)
        if key is None:
            return
        if whole_key(key) != key:
            self._slices.setdefault(whole_key(key), set()).add(key)
        with self._runs.setdefault(key, _Run()).changing() as known:
            if kind == "jobs":
                if known.job is None or _is_newer(item, known.job):
                    known.job = slim(item)
            elif kind == "pods":
                known.pods[uid_of(item)] = slim(item)
            else:
                known.events[uid_of(item)] = slim_event(item)
                _bound(known.events, EVENTS_KEPT_PER_RUN)

    def _remove(self, kind: str, item: Object) -> None:
        key = _key(kind, item)
        run = self._runs.get(key) if key else None
        if run is None or key is None:
            return
        with run.changing() as known:
            if kind == "jobs" and known.job is not None and uid_of(known.job) == uid_of(item):
                known.job = None
                known.departed.clear()
            elif kind == "pods" and uid_of(item) in known.pods:
                del known.pods[uid_of(item)]
                # How it ended is still needed to say why the Job goes on, or does not.
                known.departed[uid_of(item)] = slim(item)
                _bound(known.departed, PODS_KEPT_PER_RUN)
            elif kind == "events":
                known.events.pop(uid_of(item), None)
        if known.is_empty:
            del self._runs[key]
            slices = self._slices.get(whole_key(key), set())
            slices.discard(key)
            if not slices:
                self._slices.pop(whole_key(key), None)


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
    # What of a pod's volumes may be missing; empty directories never are.
    volumes = [each for each in spec.get("volumes") or () if "emptyDir" not in each]
    if volumes:
        kept["volumes"] = volumes
    if spec.get("containers"):
        kept["containers"] = [_slim_container(spec["containers"][0], volumes)]
    metadata = {name: item["metadata"][name] for name in _METADATA if name in item["metadata"]}
    return {"metadata": metadata, "spec": kept, "status": item.get("status") or {}}


def _slim_container(main: Mapping[str, Any], volumes: Sequence[Mapping[str, Any]]) -> Object:
    """Return what is read of a pod's container, and where it has those of its volumes."""
    kept: Object = {name: main[name] for name in ("name", "image", "resources") if name in main}
    names = {volume["name"] for volume in volumes}
    mounts = [each for each in main.get("volumeMounts") or () if each["name"] in names]
    return {**kept, "volumeMounts": mounts} if mounts else kept


def slim_event(item: Mapping[str, Any]) -> Object:
    """Return what is read of an event."""
    names = ("involvedObject", "reason", "message", "lastTimestamp", "eventTime", "firstTimestamp")
    kept = {name: item[name] for name in names if item.get(name)}
    return {"metadata": {"uid": item["metadata"].get("uid")}, **kept}


def _key(kind: str, item: Object) -> str | None:
    """Return by what an object is filed: names of Jobs hold it, and so do their pods'."""
    if kind != "events":
        return key_of_labels(item["metadata"].get("labels") or {})
    about = item.get("involvedObject") or {}
    return key_of_name(str(about.get("name") or ""), str(about.get("kind") or ""))


def _bound(items: dict[str, Object], limit: int) -> None:
    while len(items) > limit:
        del items[next(iter(items))]


def _is_newer(item: Object, known: Object) -> bool:
    return uid_of(item) != uid_of(known) or _version(item) >= _version(known)


def _version(item: Object) -> int:
    # Compared only to keep the answer to a creation from hiding what the watch told since.
    text = str(item["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0
