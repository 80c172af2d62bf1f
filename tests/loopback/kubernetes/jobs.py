"""The Job controller: pods for Jobs, and Jobs' ends.

https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loopback.kubernetes.admission import Admission
from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.gke import add_tolerations, inject_tpu_variables
from loopback.kubernetes.store import (
    Object,
    Store,
    has_condition,
    is_finished,
    now,
    random_suffix,
    set_condition,
)
from loopback.kubernetes.volumes import inject_sidecar

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 10.0
"""Pauses between tries to make a pod that is refused; a real controller begins with a second."""

INDEX = "batch.kubernetes.io/job-completion-index"
_GO_WITH_JOBS = ("secrets", "configmaps", "podtemplates", "provisioningrequests")
TRACKING = "batch.kubernetes.io/job-tracking"
"""Keeps a pod until its Job has counted how it ended."""

SYNC_SECONDS = 0.1
"""Between a pod's end and what its Job makes of it; Kubernetes gathers changes for a second."""

BACKOFF_SECONDS = 0.3
"""Between a failure that was counted and the next pod; 10 seconds in Kubernetes."""


@dataclass
class _Tally:
    """What the controller has counted of one Job."""

    seen: set[str] = field(default_factory=set)
    accounted: set[str] = field(default_factory=set)
    backing_off: bool = False
    failed: int = 0
    succeeded: set[str] = field(default_factory=set)
    timers: set[str] = field(default_factory=set)
    refusals: int = 0
    tried: int = 0


class JobController:
    """Makes the pods that Jobs want, and decides when Jobs have ended."""

    def __init__(self, store: Store, admission: Admission, spawn: Callable[[Any], object]) -> None:
        self._store = store
        self._admission = admission
        self._spawn = spawn
        self._tallies: dict[str, _Tally] = {}

    def account(self, pod: Object) -> None:
        """Take note of a pod that has ended; called for every version of every pod, in order.

        What follows from it is decided a little later, and the pod is kept until then.
        """
        if pod["status"].get("phase") not in ("Succeeded", "Failed"):
            return
        job = self._owner(pod)
        if job is None or _is_over(job):
            self._release(pod)
            return
        tally, uid = self._tally(job), pod["metadata"]["uid"]
        if uid not in tally.seen:
            tally.seen.add(uid)
            self._spawn(self._decide(pod))

    async def _decide(self, pod: Object) -> None:
        await asyncio.sleep(SYNC_SECONDS)
        job = self._owner(pod)
        if job is not None and not _is_over(job):
            self._count_end(job, pod)
        self._release(pod)
        self.reconcile()

    def _count_end(self, job: Object, pod: Object) -> None:
        tally, uid = self._tally(job), pod["metadata"]["uid"]
        tally.accounted.add(uid)
        if pod["status"]["phase"] == "Succeeded":
            tally.succeeded.add(_index(pod) or uid)
        else:
            self._account_failure(job, pod, tally)

    def _release(self, pod: Object) -> None:
        """Let a pod go that has been counted, or that no Job counts any more."""
        if TRACKING in (pod["metadata"].get("finalizers") or ()):
            metadata = pod["metadata"]
            if self._store.current("pods", pod) is not None:
                self._store.edit("pods", metadata["namespace"], metadata["name"], _untrack)

    def reconcile(self) -> None:
        """Bring every Job nearer to what its specification wants."""
        for job in self._store.list("jobs"):
            if is_finished(job):
                self._expire(job)
            elif not job["metadata"].get("deletionTimestamp"):
                self._advance(job)

    def _advance(self, job: Object) -> None:
        pods = self._store.owned("pods", job)
        tally, spec = self._tally(job), job["spec"]
        active = [pod for pod in pods if pod["status"].get("phase") in ("Pending", "Running")]
        # That a pod has ended may be in the store before the controller has heard of it.
        undecided = [
            pod
            for pod in pods
            if pod["status"].get("phase") in ("Succeeded", "Failed")
            and pod["metadata"]["uid"] not in tally.accounted
        ]
        self._count(job, active)
        if has_condition(job, "FailureTarget"):
            self._finish_failing(job, active)
        elif spec.get("suspend"):
            self._stop(active)
            self._edit(job, lambda item: set_condition(item, "Suspended", "True", "JobSuspended"))
        elif len(tally.succeeded) >= spec.get("completions", 1):
            self._complete(job)
        else:
            self._watch_deadline(job)
            if not tally.backing_off:
                self._make_missing(job, [*active, *undecided])

    def _make_missing(self, job: Object, active: list[Object]) -> None:
        spec, tally = job["spec"], self._tally(job)
        if tally.tried < tally.refusals:
            return
        missing = spec.get("completions", 1) - len(tally.succeeded)
        if spec.get("completionMode") == "Indexed":
            taken = {_index(pod) for pod in active} | tally.succeeded
            wanted = [str(i) for i in range(spec.get("completions", 1)) if str(i) not in taken]
            indexes: list[str | None] = [*wanted]
        else:
            indexes = [None] * max(0, min(missing, spec.get("parallelism", 1)) - len(active))
        room = spec.get("parallelism", 1) - len(active)
        for index in indexes[:room]:
            if not self._make_pod(job, index):
                return

    def _make_pod(self, job: Object, index: str | None) -> bool:
        pod = _pod_of(job, index)
        inject_tpu_variables(job, pod, index)
        inject_sidecar(pod)
        add_tolerations(pod)
        self._admission.autopilot.adjust(pod)
        try:
            self._admission.check_pod(job["metadata"]["namespace"], pod)
        except ApiError as refusal:
            self._refused(job, refusal.message)
            return False
        self._store.create("pods", job["metadata"]["namespace"], pod)
        name = pod["metadata"]["name"]
        self._store.record_event(job, "Normal", "SuccessfulCreate", f"Created pod: {name}")
        return True

    def _refused(self, job: Object, message: str) -> None:
        """Record a try that failed, with the name its pod would have had, and try again later."""
        tally = self._tally(job)
        self._store.record_event(job, "Warning", "FailedCreate", f"Error creating: {message}")
        tally.refusals += 1
        again = min(FIRST_RETRY_SECONDS * 2 ** (tally.refusals - 1), LAST_RETRY_SECONDS)
        self._once(job, f"try {tally.refusals}", again, lambda: self._try_again(job))

    def _try_again(self, job: Object) -> None:
        self._tally(job).tried = self._tally(job).refusals
        current = self._store.current("jobs", job)
        if current is not None and not current["metadata"].get("deletionTimestamp"):
            self._advance(current)

    def _account_failure(self, job: Object, pod: Object, tally: _Tally) -> None:
        action, index = _policy(job, pod)
        if action == "Ignore":
            return
        tally.failed += 1
        if action == "FailJob":
            status = pod["status"]["containerStatuses"][0]
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            self._fail(
                job,
                "PodFailurePolicy",
                f"Container {status['name']} for pod {name} failed with exit code "
                f"{_exit_code(pod)} matching FailJob rule at index {index}",
            )
        elif tally.failed > job["spec"].get("backoffLimit", 6):
            self._fail(job, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        else:
            tally.backing_off = True
            self._spawn(self._back_off(tally))

    async def _back_off(self, tally: _Tally) -> None:
        await asyncio.sleep(BACKOFF_SECONDS)
        tally.backing_off = False
        self.reconcile()

    def _fail(self, job: Object, reason: str, message: str) -> None:
        failed = self._tally(job).failed

        def fail(item: Object) -> None:
            set_condition(item, "FailureTarget", "True", reason, message)
            item["status"]["failed"] = failed

        self._edit(job, fail)

    def _finish_failing(self, job: Object, active: list[Object]) -> None:
        """Say that a Job has failed once all its pods have ended."""
        self._stop(active)
        if active:
            return
        cause = next(c for c in job["status"]["conditions"] if c["type"] == "FailureTarget")
        reason, message = cause["reason"], cause["message"]
        self._edit(job, lambda item: set_condition(item, "Failed", "True", reason, message))
        self._store.record_event(job, "Warning", reason, message)

    def _complete(self, job: Object) -> None:
        def complete(item: Object) -> None:
            set_condition(item, "Complete", "True", "CompletionsReached")
            item["status"]["completionTime"] = now()

        self._edit(job, complete)
        self._store.record_event(job, "Normal", "Completed", "Job completed")

    def _stop(self, pods: list[Object]) -> None:
        for pod in pods:
            mark_deleted(self._store, pod)

    def _count(self, job: Object, active: list[Object]) -> None:
        tally = self._tally(job)
        counts = {
            "active": len(active),
            "failed": tally.failed,
            "succeeded": len(tally.succeeded),
        }

        def write(item: Object) -> None:
            status = item.setdefault("status", {})
            status.setdefault("startTime", now())
            status.update({name: count for name, count in counts.items() if count})
            for name in [name for name, count in counts.items() if not count]:
                status.pop(name, None)

        self._edit(job, write)

    def _watch_deadline(self, job: Object) -> None:
        seconds = job["spec"].get("activeDeadlineSeconds")
        if seconds is not None:
            message = "Job was active longer than specified deadline"
            self._once(
                job, "deadline", seconds, lambda: self._fail(job, "DeadlineExceeded", message)
            )

    def _expire(self, job: Object) -> None:
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is not None:
            self._once(job, "ttl", seconds, lambda: delete_job(self._store, job))

    def _once(self, job: Object, name: str, seconds: float, act: Callable[[], None]) -> None:
        tally = self._tally(job)
        if name not in tally.timers:
            tally.timers.add(name)
            self._spawn(self._later(job, name, seconds, act))

    async def _later(self, job: Object, name: str, seconds: float, act: Callable[[], None]) -> None:
        await asyncio.sleep(seconds)
        current = self._store.current("jobs", job)
        if current is not None and (name == "ttl" or not is_finished(current)):
            act()

    def _owner(self, pod: Object) -> Object | None:
        owners = pod["metadata"].get("ownerReferences") or []
        jobs = self._store.list("jobs", pod["metadata"]["namespace"]) if owners else []
        return next((j for j in jobs if j["metadata"]["uid"] == owners[0]["uid"]), None)

    def _tally(self, job: Object) -> _Tally:
        return self._tallies.setdefault(job["metadata"]["uid"], _Tally())

    def _edit(self, job: Object, change: Callable[[Object], None]) -> None:
        metadata = job["metadata"]
        self._store.edit("jobs", metadata["namespace"], metadata["name"], change)


def mark_deleted(store: Store, item: Object, grace_seconds: float | None = None) -> None:
    """Ask for an object's end; the kubelet takes pods away once they have stopped."""
    metadata = item["metadata"]
    given = item.get("spec", {}).get("terminationGracePeriodSeconds", 30)

    def mark(stored: Object) -> None:
        if not stored["metadata"].get("deletionTimestamp"):
            stored["metadata"]["deletionTimestamp"] = now()
            grace = given if grace_seconds is None else grace_seconds
            stored["metadata"]["deletionGracePeriodSeconds"] = grace

    store.edit(item["kind"].lower() + "s", metadata["namespace"], metadata["name"], mark)


def delete_job(store: Store, job: Object, policy: str = "Background") -> None:
    """Delete a Job, and what belongs to it as the policy says."""
    owned = [] if policy == "Orphan" else store.owned("pods", job)
    for pod in owned:
        mark_deleted(store, pod)
    if owned and policy == "Foreground":
        mark_deleted(store, job, 0)
        return
    metadata = job["metadata"]
    store.remove("jobs", metadata["namespace"], metadata["name"])
    for plural in _GO_WITH_JOBS if policy != "Orphan" else ():
        for item in store.owned(plural, job):
            store.remove(plural, item["metadata"]["namespace"], item["metadata"]["name"])


def _pod_of(job: Object, index: str | None) -> Object:
    template = copy.deepcopy(job["spec"]["template"])
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    labels = {"batch.kubernetes.io/job-name": name, "job-name": name, "controller-uid": uid}
    metadata = template.get("metadata") or {}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    metadata["name"] = f"{name}-{random_suffix()}"
    if index is not None:
        metadata["name"] = f"{name}-{index}-{random_suffix()}"
        metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: index}
        metadata["labels"][INDEX] = index
        template["spec"]["hostname"] = f"{name}-{index}"
        for container in template["spec"]["containers"]:
            container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": index})
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True}
    metadata["ownerReferences"] = [owner]
    metadata["finalizers"] = [TRACKING]
    return {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}}


def _is_over(job: Object) -> bool:
    """Whether how pods end changes nothing any more for a Job."""
    deleted = bool(job["metadata"].get("deletionTimestamp"))
    return deleted or is_finished(job) or has_condition(job, "FailureTarget")


def _untrack(pod: Object) -> None:
    pod["metadata"].pop("finalizers", None)


def _policy(job: Object, pod: Object) -> tuple[str, int | None]:
    """Return what the first fitting rule of the pod failure policy says, and its index."""
    rules = job["spec"].get("podFailurePolicy", {}).get("rules", ())
    for index, rule in enumerate(rules):
        conditions = rule.get("onPodConditions") or ()
        if any(has_condition(pod, each["type"]) for each in conditions):
            return rule["action"], index
        codes, code = rule.get("onExitCodes"), _exit_code(pod)
        if codes and code and (code in codes["values"]) is (codes["operator"] == "In"):
            return rule["action"], index
    return "Count", None


def _exit_code(pod: Object) -> int | None:
    statuses = pod["status"].get("containerStatuses") or [{}]
    terminated = statuses[0].get("state", {}).get("terminated") or {}
    return terminated.get("exitCode")


def _index(pod: Object) -> str | None:
    annotations = pod["metadata"].get("annotations") or {}
    value: str | None = annotations.get(INDEX)
    return value
