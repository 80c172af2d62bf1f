"""What a cluster knows of how a run's pods ended, and of what became of their nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from kinetic_flows.clients.kubernetes.client import KubernetesClient, core_path
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.process_facts import NodeWord, ProcessEnd, ProcessFacts
from kinetic_flows.platforms.gke.capacity import list_if_allowed, told_within
from kinetic_flows.platforms.gke.diagnosis import (
    Cause,
    KubernetesObject,
    container_state,
    created_at,
    events_about,
    host_index,
    pod_phase,
)
from kinetic_flows.platforms.gke.ending import explain_end, explain_pod
from kinetic_flows.platforms.gke.names import slice_number
from kinetic_flows.platforms.gke.node_words import node_words
from kinetic_flows.platforms.gke.state import RunView

NODES_SECONDS = 5.0
MAX_NODES = 32
"""Of how many nodes is asked, first of those whose pods were not ended by themselves."""

NODE_EVENTS_NAMESPACE = "default"
"""Where events of nodes are, which have no namespace themselves."""

_BY_ITSELF = (Cause.SUCCEEDED, Cause.FAILED, Cause.OUT_OF_MEMORY)
_GONE = "its pod is gone, and nothing was seen of its end"


def pod_ends(views: Mapping[str, RunView]) -> tuple[ProcessEnd, ...]:
    """Return how the pods of a run ended, oldest first.

    Args:
        views: What is known of the run's slices, by their keys.
    """
    found: list[tuple[str, ProcessEnd]] = []
    for key, view in views.items():
        of_slice = _hosts_of_slice(view)
        gone = {str(pod["metadata"].get("uid")) for pod in view.departed}
        for pod in (*view.departed, *view.pods):
            number = slice_number(key) * of_slice + int(host_index(pod) or 0)
            is_gone = str(pod["metadata"].get("uid")) in gone
            found.append((created_at(pod), _end(pod, number, view.events, is_gone=is_gone)))
    return tuple(end for _, end in sorted(found, key=lambda each: each[0]))


def _hosts_of_slice(view: RunView) -> int:
    return int(((view.job or {}).get("spec") or {}).get("completions") or 1)


def _end(
    pod: KubernetesObject, host: int, events: Iterable[KubernetesObject], *, is_gone: bool
) -> ProcessEnd:
    found = explain_pod(pod, events_about(events, pod))
    terminated = container_state(pod, "terminated") or {}
    message = found.message if found else ""
    if found is None and is_gone:
        message = _GONE
    return ProcessEnd(
        host=host,
        place=str(pod["metadata"].get("name") or ""),
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        cause=found.cause if found else "",
        message=message,
        exit_code=terminated.get("exitCode"),
        ended=str(terminated.get("finishedAt") or ""),
        is_alive=not message and pod_phase(pod) in ("Pending", "Running"),
    )


def read_facts(client: KubernetesClient, views: Mapping[str, RunView]) -> ProcessFacts:
    """Return what a cluster knows of a run; what it does not tell is named.

    Args:
        client: The cluster.
        views: What is known of the run's slices, by their keys.
    """
    ends = pod_ends(views)
    found = [
        explain_end(view.job, (*view.departed, *view.pods), view.events)
        for view in views.values()
        if view.job is not None
    ]
    ended = [each for each in found if each is not None and each.cause is not Cause.SUCCEEDED]
    unknown = []
    if not ends:
        unknown.append("how its pods ended: the cluster has none of them any more")
    asked = _nodes_to_ask(ends, views)
    try:
        words, not_told = told_within(NODES_SECONDS, client, _read_nodes(client, asked))
    except KineticError as error:
        words, not_told = (), (f"what became of its nodes: {error.message}",)
    return ProcessFacts(
        ends=ends,
        nodes=words,
        unknown=(*unknown, *not_told),
        cause=ended[0].cause if ended else "",
        message=ended[0].message if ended else "",
    )


def _nodes_to_ask(ends: Sequence[ProcessEnd], views: Mapping[str, RunView]) -> Mapping[str, str]:
    """Return the nodes to ask about, and since when the run was on each."""
    ordered = sorted(ends, key=lambda end: end.cause in _BY_ITSELF or end.is_alive)
    names = list(dict.fromkeys(end.node for end in ordered if end.node))[:MAX_NODES]
    since: dict[str, str] = {}
    for view in views.values():
        for pod in (*view.departed, *view.pods):
            node = str((pod.get("spec") or {}).get("nodeName") or "")
            since[node] = min(since.get(node, created_at(pod)), created_at(pod))
    return {name: since[name] for name in names}


async def _read_nodes(
    client: KubernetesClient, asked: Mapping[str, str]
) -> tuple[tuple[NodeWord, ...], tuple[str, ...]]:
    """Return what is said of nodes, and what may not be looked up of them."""
    names = tuple(asked)
    events_path = core_path(NODE_EVENTS_NAMESPACE, "events")
    found = await asyncio.gather(
        *(list_if_allowed(client, "/api/v1/nodes", _named(name)) for name in names),
        *(list_if_allowed(client, events_path, _about(name)) for name in names),
    )
    nodes, events = found[: len(names)], found[len(names) :]
    words: list[NodeWord] = []
    for name, listed, about in zip(names, nodes, events, strict=True):
        # A node that may not be looked at is not gone.
        node = {} if listed is None else next(iter(listed), None)
        words += node_words(name, node, about or (), since=asked[name])
    unknown = []
    if None in nodes:
        unknown.append("the state of its nodes: you may not list nodes")
    if None in events:
        unknown.append(
            f"the events of its nodes: you may not list events in {NODE_EVENTS_NAMESPACE!r}"
        )
    return tuple(sorted(words, key=lambda each: each.at or "~")), tuple(unknown)


def _named(node: str) -> Mapping[str, str]:
    return {"fieldSelector": f"metadata.name={node}"}


def _about(node: str) -> Mapping[str, str]:
    selector = f"involvedObject.kind=Node,involvedObject.name={node}"
    return {"fieldSelector": selector}
