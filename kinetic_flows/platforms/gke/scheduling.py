"""Why a pod has no node: what the scheduler and the autoscaler say, and which node pools exist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.accelerators.model import FLEX_LABEL
from kinetic_flows.core.settings.node_variables import asked_labels
from kinetic_flows.platforms.gke.autoscaler import failed_scale_up, held_back
from kinetic_flows.platforms.gke.diagnosis import Cause, Diagnosis, KubernetesObject, latest
from kinetic_flows.platforms.gke.volume_diagnosis import explain_claims

_SHORTAGE = re.compile(r"Insufficient ([\w-]+(?:[./][\w-]+)*)")
_TOTAL = re.compile(r"\b0/(\d+) nodes are available")
_UNHELPFUL = re.compile(r"(\d+) Preemption is not helpful for scheduling")
_TAINT = re.compile(r"(\d+) node\(s\) had (?:untolerated )?taint(?:\(s\)|s)? ?(\{[^}]*\})?")
_NO_LABELS = re.compile(r"(\d+) node\(s\) didn't match Pod's node (?:affinity/selector|affinity)")
_ACCELERATOR_TAINTS = re.compile(r"\{(?:google\.com/tpu|nvidia\.com/gpu)\b")
_PASSING_TAINTS = re.compile(r"node\.kubernetes\.io/|cloudprovider\.kubernetes\.io/|autoscaler")
"""Taints by which nodes say how they are: they go by themselves.

https://kubernetes.io/docs/reference/labels-annotations-taints/
"""


def explain_unscheduled(
    pod: KubernetesObject,
    events: Sequence[KubernetesObject],
    pools: Sequence[NodePool] | None,
) -> Diagnosis:
    """Weigh what the autoscaler said last, then what the scheduler said.

    Args:
        pod: A pod without a node.
        events: Its events, oldest first.
        pools: The cluster's node pools; None when they are not known.
    """
    said = latest(events, "TriggeredScaleUp", "FailedScaleUp", "NotTriggerScaleUp")
    reason = said.get("reason") if said else None
    detail = str(said.get("message") or "") if said else ""
    if reason == "TriggeredScaleUp":
        return _scaling_up(pod)
    if reason == "FailedScaleUp":
        return failed_scale_up(detail)
    scheduler = _scheduler_message(pod, events)
    if unbound := explain_claims(pod, scheduler):
        return unbound
    fitting = _fitting(pod, pools)
    if _SHORTAGE.search(scheduler) and not _misses_all(scheduler):
        return _no_room(scheduler, detail, held_back(events))
    if fitting != () and (held := held_back(events)):
        return _held_back(pod, held, detail, fitting)
    if fitting != () and _SHORTAGE.search(detail):
        return _never_enough(detail)
    if fitting != () and (tainted := _tainted(pod, scheduler, detail)):
        return tainted
    if _misses_all(scheduler) or reason == "NotTriggerScaleUp":
        return _no_node_pool(pod, detail, pools, fitting)
    return Diagnosis(cause=Cause.STARTING, message=scheduler or "the pod waits for a node")


def _scaling_up(pod: KubernetesObject) -> Diagnosis:
    if FLEX_LABEL in asked_labels(pod["spec"]):
        said = "flex-start has been asked for a node, which comes as soon as the zone has one"
        return Diagnosis(cause=Cause.SCALING_UP, message=said)
    return Diagnosis(
        cause=Cause.SCALING_UP,
        message="the cluster's autoscaler is adding a node; TPU and GPU nodes take minutes",
    )


def _scheduler_message(pod: KubernetesObject, events: Sequence[KubernetesObject]) -> str:
    event = latest(events, "FailedScheduling")
    if event is not None:
        return str(event.get("message") or "")
    conditions = (pod.get("status") or {}).get("conditions") or ()
    unscheduled = (c for c in conditions if c.get("type") == "PodScheduled")
    return str(next((c.get("message") or "" for c in unscheduled), ""))


def _fitting(
    pod: KubernetesObject, pools: Sequence[NodePool] | None
) -> tuple[NodePool, ...] | None:
    """Return the node pools whose nodes have the labels that a pod asks for, as far as known."""
    if pools is None:
        return None
    wanted = asked_labels(pod["spec"])
    return tuple(pool for pool in pools if pool.may_have(wanted))


def _misses_all(message: str) -> bool:
    """Whether no node has what is asked for, however free it were."""
    total = _TOTAL.search(message)
    if total is None:
        return "no nodes available" in message
    filtered = message.partition("preemption:")[0]
    missed = sum(int(found[1]) for found in _NO_LABELS.finditer(filtered))
    tainted = sum(int(found[1]) for found in _TAINT.finditer(filtered))
    return missed + tainted >= int(total[1])


def _no_room(scheduler: str, autoscaler: str, held: Diagnosis | None) -> Diagnosis:
    lacking = _lacking(scheduler)
    if held is None and _SHORTAGE.search(autoscaler):
        return _never_enough(autoscaler)
    if _is_too_much(scheduler):
        besides = f" ({held.message})" if held else ""
        return Diagnosis(
            cause=Cause.NO_NODE_POOL,
            message=f"no node has enough {lacking} for what the run requests, however free it "
            f"were{besides}",
            hint=_less(lacking),
        )
    if held is not None:
        return replace(held, message=f"no fitting node has enough free {lacking}: {held.message}")
    return Diagnosis(
        cause=Cause.NO_ROOM,
        message=f"no fitting node has enough free {lacking}",
        hint="wait for other runs to end",
    )


def _never_enough(autoscaler: str) -> Diagnosis:
    never = _lacking(autoscaler)
    return Diagnosis(
        cause=Cause.NO_NODE_POOL,
        message=f"no node has enough {never} for what the run requests, and none that the "
        "autoscaler could add has",
        hint=_less(never),
        permanent=True,
    )


def _less(lacking: str) -> str:
    options = [f"{name}=" for name in lacking.split(", ") if name in ("cpu", "memory")]
    where = " and ".join(options) or "job_variables"
    return f"ask for less {lacking} with {where}, or take a larger machine"


def _lacking(said: str) -> str:
    return ", ".join(sorted(set(_SHORTAGE.findall(said))))


def _is_too_much(scheduler: str) -> bool:
    """Whether not even an empty node has what is requested: taking its pods away helps nowhere.

    https://github.com/kubernetes/kubernetes/blob/v1.36.2/pkg/scheduler/framework/plugins/noderesources/fit.go
    """
    total, unhelpful = _TOTAL.search(scheduler), _UNHELPFUL.search(scheduler)
    return bool(total and unhelpful and total[1] == unhelpful[1])


def _held_back(
    pod: KubernetesObject,
    held: Diagnosis,
    autoscaler: str,
    fitting: Sequence[NodePool] | None,
) -> Diagnosis:
    if fitting is not None:
        named = f"{_named(fitting)} would have {_wanted(pod)}"
        return replace(held, message=f"{held.message} ({named})")
    if held.cause is not Cause.NO_ROOM:
        return held
    # Which pools are left alone is not told: the one that would fit may not be among them.
    return Diagnosis(
        cause=Cause.NO_NODE_POOL,
        message=f"no node pool has {_wanted(pod)} that can get a node now ({autoscaler})",
        hint="wait for other runs to end, raise the node pool's maximum, create such a node pool, "
        "or take an accelerator that the cluster has",
    )


def _tainted(pod: KubernetesObject, scheduler: str, autoscaler: str) -> Diagnosis | None:
    """Say which taints keep a pod off all nodes that are not ruled out by their labels."""
    filtered = scheduler.partition("preemption:")[0]
    found = [*_TAINT.finditer(filtered), *_TAINT.finditer(autoscaler)]
    names = {taint for each in found if (taint := (each[2] or "").strip())}
    asks_for_some = bool(asked_labels(pod["spec"]))
    if asks_for_some:
        # Nodes of another accelerator are kept for those who ask for it.
        names = {name for name in names if not _ACCELERATOR_TAINTS.match(name)}
    if not found or not _misses_all(scheduler) or (asks_for_some and not names):
        return None
    listed = f": {', '.join(sorted(names))}" if names else ""
    if names and all(_PASSING_TAINTS.search(name) for name in names):
        return Diagnosis(
            cause=Cause.STARTING, message=f"the nodes that fit are not ready for pods{listed}"
        )
    return Diagnosis(
        cause=Cause.TAINTED,
        message=f"the nodes that could fit have taints that the run does not tolerate{listed}",
        hint="add to tolerations in job_variables, or take another accelerator",
    )


def _no_node_pool(
    pod: KubernetesObject,
    autoscaler: str,
    pools: Sequence[NodePool] | None,
    fitting: Sequence[NodePool] | None,
) -> Diagnosis:
    if fitting:
        return Diagnosis(
            cause=Cause.NO_ROOM,
            message=f"no node has {_wanted(pod)}, though {_named(fitting)} would"
            + (f" ({autoscaler})" if autoscaler else ""),
            hint="raise the node pool's size, or let it be autoscaled",
        )
    message = f"no node pool has {_wanted(pod)}"
    if pools is not None:
        message += f"; the cluster has: {', '.join(map(str, pools)) or 'none'}"
    elif autoscaler:
        message += f" ({autoscaler})"
    return Diagnosis(
        cause=Cause.NO_NODE_POOL,
        message=message,
        hint="create such a node pool, or take an accelerator that the cluster has",
        permanent=pools is not None,
    )


def _wanted(pod: KubernetesObject) -> str:
    labels = asked_labels(pod["spec"])
    words = ", ".join(
        f"{name.rpartition('/')[2]}={' or '.join(values)}" for name, values in labels.items()
    )
    return words or "room for the pod"


def _named(pools: Sequence[NodePool]) -> str:
    names = ", ".join(pool.name for pool in pools)
    return f"node pool{'s' if len(pools) > 1 else ''} {names}"
