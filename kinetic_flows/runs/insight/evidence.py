"""What is known of how a run ended, from all who saw something of it, as plain values.

Black boxes come from the store, which others than the run may be able to write to: what is not of
the form that a runner writes is left out, and nothing of it is believed beyond being shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.core.process_facts import ProcessEnd, ProcessFacts
from kinetic_flows.runs.insight.host_stacks import HostStacks, ThreadStack, host_stacks
from kinetic_flows.runs.insight.stack_groups import telling


@dataclass(frozen=True, kw_only=True)
class ErrorLine:
    """A line of the output that tells of a fault below the function.

    Attributes:
        kind: What kind of fault, as `runner/error_lines.py` has them.
        line: The line.
    """

    kind: str
    line: str


@dataclass(frozen=True, kw_only=True)
class BlackBox:
    """What one host saw last.

    Attributes:
        host: Its number.
        start: How often the run was started before.
        place: The pod or machine, as it calls itself.
        status: How its start ended: a result's status, or `stopped` from outside.
        message: How it ended, in words.
        type_name: Type of the exception; empty for none.
        exit_code: Exit code of the function's process, negative for a signal; None otherwise.
        signal: The signal's name; empty for none.
        out_of_memory: What says that memory has run out, of the host or of a chip; empty for none.
        lines: The last lines of its output.
        errors: Lines of note of all its output.
        stacks: What its threads did when they were stopped; None where nobody looked.
        no_stacks: Why the threads could not be seen; empty where they were, or nobody looked.
        readings: What it used in its last minutes, oldest first.
        killed: What says that the kernel killed a process of it for want of memory.
    """

    host: int
    start: int = 0
    place: str = ""
    status: str = ""
    message: str = ""
    type_name: str = ""
    exit_code: int | None = None
    signal: str = ""
    out_of_memory: str = ""
    lines: tuple[str, ...] = ()
    errors: tuple[ErrorLine, ...] = ()
    stacks: HostStacks | None = None
    no_stacks: str = ""
    readings: tuple[Mapping[str, Any], ...] = ()
    killed: str = ""

    @property
    def threads(self) -> tuple[ThreadStack, ...]:
        """What its threads did; none where nobody looked."""
        return self.stacks.threads if self.stacks else ()

    @property
    def thread(self) -> ThreadStack | None:
        """The thread that tells what the function did; None where none was seen in it."""
        found = telling(self.stacks) if self.stacks else None
        return found if found is not None and found.frames else None

    def errors_of(self, *kinds: str) -> list[ErrorLine]:
        """Return its lines of note of these kinds."""
        return [each for each in self.errors if each.kind in kinds]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of how a run ended.

    Attributes:
        run_id: The run.
        name: What it is called.
        hosts: How many hosts it has.
        state: The name of its state in Prefect.
        state_type: The type of that state.
        message: The state's message.
        is_launched: Whether anything was started for it.
        status: Its result's status; empty where it left none.
        exit_code: The exit code that its result has; None for none.
        boxes: What its hosts saw last, by their numbers.
        facts: What is known of its processes by whoever ran them.
    """

    run_id: str = ""
    name: str = ""
    hosts: int = 1
    state: str = ""
    state_type: str = ""
    message: str = ""
    is_launched: bool = True
    status: str = ""
    exit_code: int | None = None
    boxes: tuple[BlackBox, ...] = ()
    facts: ProcessFacts = field(default_factory=ProcessFacts)

    @property
    def last_ends(self) -> Mapping[int, ProcessEnd]:
        """How the last process of each host ended, by the host's number."""
        return {end.host: end for end in self.facts.ends}

    def box(self, host: int) -> BlackBox | None:
        """Return what a host saw last; None where it left nothing."""
        return next((each for each in self.boxes if each.host == host), None)

    def who(self, host: int) -> str:
        """Name a host at the beginning of a sentence, with its pod and node where known."""
        end = self.last_ends.get(host)
        node = f" on node {end.node}" if end and end.node else ""
        if self.hosts > 1:
            return f"Host {host}{f' ({end.place}{node})' if end and end.place else ''}"
        return f"The run{f' ({end.place}{node})' if end and node else ''}"

    def process_of(self, host: int) -> str:
        """Name the process of a host's function at the beginning of a sentence."""
        who = self.who(host)
        name = f"{who[:1].lower()}{who[1:]}" if self.hosts > 1 else "the function"
        where = who.removeprefix("The run") if self.hosts == 1 else ""
        return f"The process of {name}{where}"


def box_of(data: bytes, run_id: str) -> BlackBox | None:
    """Return what a black box has; None where it is none of this run.

    Args:
        data: The object.
        run_id: The run.
    """
    try:
        found = json.loads(data)
    except ValueError:
        return None
    host = found.get("host") if isinstance(found, dict) else None
    if not isinstance(host, int) or found.get("run_id") != run_id:
        return None
    code, start = found.get("exit_code"), found.get("start")
    texts = ("place", "status", "message", "type_name", "signal", "out_of_memory", "no_stacks")
    return BlackBox(
        host=host,
        start=start if isinstance(start, int) else 0,
        exit_code=code if isinstance(code, int) else None,
        killed=_text(found.get("killed")),
        lines=_texts(found.get("lines")),
        errors=tuple(
            ErrorLine(kind=_text(each.get("kind")), line=_text(each.get("line")))
            for each in _mappings(found.get("errors"))
        ),
        stacks=_stacks(found.get("stacks")),
        readings=tuple(_mappings(found.get("readings"))),
        **{name: _text(found.get(name)) for name in texts},
    )


def _stacks(told: Any) -> HostStacks | None:
    try:
        return host_stacks(told) if isinstance(told, dict) else None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(each) for each in value) if isinstance(value, list) else ()


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
