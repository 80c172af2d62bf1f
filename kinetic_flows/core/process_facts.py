"""What is known of how a run's processes ended, and of the nodes that they were on.

It is what whoever ran them says: the cluster, or this machine. What the processes saw themselves is
in their black boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

FACTS_VERSION = 1

NodeWordKind = Literal[
    "preempted",
    "maintenance",
    "repair",
    "upgrade",
    "scaled_down",
    "drained",
    "shutdown",
    "rebooted",
    "gone",
    "not_ready",
    "memory",
    "disk",
    "gpu",
    "kernel",
    "other",
]
"""What a node is said to have gone through."""


@dataclass(frozen=True, kw_only=True)
class ProcessEnd:
    """How one process of a run ended.

    Attributes:
        host: Its host's number, counted over all slices.
        place: The pod, or the process on this machine.
        node: The pod's node; empty where that is not known, or where there is none.
        cause: The end in one word, as `Observation.cause` has it; empty where it has none.
        message: How it ended, in words; empty while it lives.
        exit_code: Its exit code; negative for a signal, None where it was not seen.
        ended: When, in ISO 8601; empty where that is not known.
        is_alive: Whether it lives.
    """

    host: int
    place: str
    node: str = ""
    cause: str = ""
    message: str = ""
    exit_code: int | None = None
    ended: str = ""
    is_alive: bool = False


@dataclass(frozen=True, kw_only=True)
class NodeWord:
    """Something that is said of a node: an event of it, a condition, a label.

    Attributes:
        node: The node's name.
        kind: What it went through.
        text: What was said, in the words of whoever said it.
        at: When, in ISO 8601; empty where that is not told.
    """

    node: str
    kind: NodeWordKind
    text: str
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class ProcessFacts:
    """What is known of a run's processes by whoever ran them.

    Attributes:
        ends: How they ended, those of starts before the last one among them; oldest first.
        nodes: What is said of their nodes, oldest first.
        unknown: What could not be found out, and why, a sentence each.
        cause: What ended the run, in one word; empty where that is not told.
        message: What ended it, in words; empty where that is not told.
    """

    ends: tuple[ProcessEnd, ...] = ()
    nodes: tuple[NodeWord, ...] = ()
    unknown: tuple[str, ...] = ()
    cause: str = ""
    message: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"version": FACTS_VERSION, **asdict(self)}


def merged(kept: ProcessFacts, later: ProcessFacts) -> ProcessFacts:
    """Return what was kept of a run's end with what is said of it later on.

    Of nodes more may be said: that one is gone, its cluster finds out after minutes.

    Args:
        kept: What was known when the run had just ended.
        later: What is known now; pods and nodes may be gone by now.
    """
    words = sorted(dict.fromkeys((*kept.nodes, *later.nodes)), key=lambda word: word.at or "~")
    return ProcessFacts(
        ends=kept.ends if len(kept.ends) >= len(later.ends) else later.ends,
        nodes=tuple(words),
        unknown=kept.unknown,
        cause=kept.cause or later.cause,
        message=kept.message or later.message,
    )


def facts_of(document: Mapping[str, Any]) -> ProcessFacts:
    """Return what a document says; what it has of another form is left out.

    Args:
        document: What `ProcessFacts.document` returned, or what somebody wrote to the store.
    """
    return ProcessFacts(
        ends=tuple(_end(each) for each in _mappings(document.get("ends"))),
        nodes=tuple(_word(each) for each in _mappings(document.get("nodes"))),
        unknown=tuple(str(each) for each in _list(document.get("unknown"))),
        cause=str(document.get("cause") or ""),
        message=str(document.get("message") or ""),
    )


def _end(fields: Mapping[str, Any]) -> ProcessEnd:
    host, code = fields.get("host"), fields.get("exit_code")
    return ProcessEnd(
        host=host if isinstance(host, int) else 0,
        exit_code=code if isinstance(code, int) else None,
        is_alive=fields.get("is_alive") is True,
        **{
            name: str(fields.get(name) or "")
            for name in ("place", "node", "cause", "message", "ended")
        },
    )


def _word(fields: Mapping[str, Any]) -> NodeWord:
    kinds: tuple[NodeWordKind, ...] = get_args(NodeWordKind)
    return NodeWord(
        kind=next((kind for kind in kinds if kind == fields.get("kind")), "other"),
        **{name: str(fields.get(name) or "") for name in ("node", "text", "at")},
    )


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in _list(value) if isinstance(each, dict)]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
