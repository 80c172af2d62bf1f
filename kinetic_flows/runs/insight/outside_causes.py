"""Causes outside of a run's processes: what its nodes, its cluster or a person did to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kinetic_flows.core.process_facts import NodeWord, NodeWordKind, ProcessEnd
from kinetic_flows.runs.insight.evidence import Evidence
from kinetic_flows.runs.insight.finding import Finding

STORIES: Mapping[NodeWordKind, tuple[str, str]] = {
    "preempted": ("preempted", "Google took its Spot VM back"),
    "maintenance": ("maintenance", "Google maintains the host of its machine"),
    "repair": ("node_repaired", "GKE repaired its node, which had not been healthy"),
    "upgrade": ("node_upgraded", "GKE upgraded its node"),
    "scaled_down": ("scaled_down", "the cluster's autoscaler removed its node"),
    "rebooted": ("node_rebooted", "its node was rebooted"),
    "gone": ("node_lost", "its node is gone"),
    "not_ready": ("node_lost", "its node stopped answering"),
    "shutdown": ("node_shut_down", "its node shut down"),
}
"""What befell a node: the cause in one word, and how it is told. Of several the first counts."""

HINTS: Mapping[str, str] = {
    "preempted": "max_preemptions= says how often a run starts again by itself; checkpoints in "
    "KINETIC_OUTPUT_DIR are there for the next start",
    "maintenance": "max_preemptions= has runs start again after it; checkpoints in "
    "KINETIC_OUTPUT_DIR are there for the next start",
    "node_repaired": "run it again: `run.retry()`; max_preemptions= does so by itself",
    "node_upgraded": "a maintenance window or exclusion of the cluster keeps upgrades away from "
    "long runs; max_preemptions= has them start again",
    "node_lost": "run it again: `run.retry()`; max_preemptions= does so by itself",
    "node_rebooted": "run it again: `run.retry()`; max_preemptions= does so by itself",
    "node_shut_down": "run it again: `run.retry()`; max_preemptions= does so by itself",
    "scaled_down": "run it again; the autoscaler leaves nodes alone whose pods have the annotation "
    "cluster-autoscaler.kubernetes.io/safe-to-evict: 'false' (`annotations` in job_variables=)",
    "evicted": "say what it needs with memory= and ephemeral_storage, so that it gets a node with "
    "enough",
    "outranked": "give it a priority class, or wait until what is more urgent has ended",
    "drained": "run it again: `run.retry()`; max_preemptions= does so by itself",
    "deleted": "`run.retry()` starts it once more",
    "out_of_disk": "raise ephemeral_storage (or shared_memory) in job_variables=, or write to "
    "KINETIC_OUTPUT_DIR",
    "deadline": "raise active_deadline_seconds in job_variables=; waiting for a node counts, too",
    "no_room": "run it again: another node may have room",
}

DELETED = "deleted"
_DISTURBANCES = ("preempted", "node_lost", "evicted", "no_room", DELETED)
_LOST_SIBLING = re.compile(r"the process of host (\d+) was killed, or never began")
_ORDER = tuple(STORIES)


def disturbed(evidence: Evidence) -> Finding | None:
    """Say what became of the node of a host that was stopped from outside."""
    end = _decisive_end(evidence)
    if end is None:
        return None
    words = [each for each in evidence.facts.nodes if each.node == end.node]
    told = _story(words)
    if told is None or end.cause == DELETED:
        return _as_told(evidence, end)
    word, cause, story = told
    if end.cause == "preempted" and "Spot VM" in end.message:
        cause, story = STORIES["preempted"]
    return Finding(
        cause=cause,
        sentence=f"{evidence.who(end.host)} was stopped: {story}.",
        host=end.host,
        evidence=(end.message, *(_shown(each) for each in [word, *_others(words, word)])),
        hint=HINTS.get(cause, ""),
    )


def _decisive_end(evidence: Evidence) -> ProcessEnd | None:
    """Return the end that ended the run; None where it ended by itself.

    Once one host is lost or has failed, the others are stopped, and look as if somebody had deleted
    them: that counts only where nothing else is known.
    """
    ends = [each for each in evidence.last_ends.values() if each.cause in _DISTURBANCES]
    taken = [each for each in ends if each.cause != DELETED]
    if not taken and (evidence.status or evidence.facts.cause != DELETED):
        return None
    named = evidence.facts.cause
    ordered = sorted(taken or ends, key=lambda each: (each.cause != named, each.ended or "~"))
    return ordered[0]


def _story(words: Sequence[NodeWord]) -> tuple[NodeWord, str, str] | None:
    known = [each for each in words if each.kind in STORIES]
    if not known:
        return None
    word = min(known, key=lambda each: _ORDER.index(each.kind))
    return (word, *STORIES[word.kind])


def _as_told(evidence: Evidence, end: ProcessEnd) -> Finding:
    """Tell an end in the words that the cluster has for it."""
    cause = end.cause
    if "higher priority" in end.message:
        cause = "outranked"
    elif "being drained" in end.message:
        cause = "drained"
    words = [each for each in evidence.facts.nodes if each.node == end.node]
    return Finding(
        cause=cause,
        sentence=f"{evidence.who(end.host)} {predicate(end.message)}.",
        host=end.host,
        evidence=tuple(map(_shown, words)),
        hint=HINTS.get(cause, ""),
    )


def predicate(message: str) -> str:
    """Return what is said of a pod, without the pod: hosts are counted over all slices here."""
    said = message.rstrip(". ")
    found = re.fullmatch(r"(?:the pod|host \d+|it) ((?:was|ended) .*)", said, re.DOTALL)
    return found[1] if found else f"ended: {said}"


def lost_host(evidence: Evidence) -> Finding | None:
    """Say which host's process was gone, where the others noticed that."""
    texts = [evidence.message, *(box.message for box in evidence.boxes)]
    found = next((match for text in texts if (match := _LOST_SIBLING.search(text))), None)
    if found is None:
        return None
    host = int(found[1])
    end = evidence.last_ends.get(host)
    how = f": {end.message}" if end and end.message and end.exit_code is not None else ""
    return Finding(
        cause="host_lost",
        sentence=f"The process of host {host} was killed from outside, and said nothing{how}.",
        host=host,
        evidence=tuple(f"host {box.host}: {box.message}" for box in evidence.boxes if box.message),
        hint="the kernel kills the largest process of a machine that runs out of memory; its log "
        "(`dmesg`) says so",
        is_certain=False,
    )


def ended_by_cluster(evidence: Evidence) -> Finding | None:
    """Say that a limit of the Job or of its pods ended the run."""
    cause, message = evidence.facts.cause, evidence.facts.message
    if cause not in ("out_of_disk", "deadline"):
        return None
    end = next((each for each in evidence.last_ends.values() if each.cause == cause), None)
    sentence = (
        f"{evidence.who(end.host)} {predicate(end.message)}."
        if end and cause == "out_of_disk"
        else f"{message[:1].upper()}{message[1:]}."
    )
    return Finding(
        cause=cause, sentence=sentence, host=end.host if end else None, hint=HINTS.get(cause, "")
    )


def never_launched(evidence: Evidence) -> Finding | None:
    """Say that the run failed before anything was started for it."""
    if evidence.is_launched:
        return None
    first, *more = evidence.message.strip().splitlines() or [""]
    why = first.rstrip(".: ")
    return Finding(
        cause="never_launched",
        sentence=f"It was never launched: {why}." if why else "It was never launched.",
        evidence=tuple(line.strip() for line in more),
        hint="what its client did before is in the run's log, and its steps are on its page",
    )


def never_started(evidence: Evidence) -> Finding | None:
    """Say why a run's container never ran, or why it found no node."""
    # One that began has left a word of its own, such as what the function raised.
    if evidence.boxes or evidence.status == "raised":
        return None
    waited = re.search(
        r"(it did not start within .*|it cannot start: .*|the container of .* could not be .*)",
        evidence.message,
    )
    if waited is None:
        return None
    return Finding(
        cause="never_started",
        sentence=f"It never started: {waited[1].removeprefix('it cannot start: ')}.",
        hint="`kinetic plan` looks at the same beforehand; `kinetic accelerators --live` shows "
        "what is free",
    )


def _others(words: Sequence[NodeWord], word: NodeWord) -> list[NodeWord]:
    return [each for each in words if each != word]


def _shown(word: NodeWord) -> str:
    when = f"{word.at[:19].replace('T', ' ')} " if word.at else ""
    return f"{when}node {word.node}: {word.text}"
