"""What the threads of a run's hosts do, as their runners tell it (`runner/stacks.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StackFrame:
    """A function that was called, and has not returned.

    Attributes:
        function: Its name.
        file: Its file: the project's as they are on the client, others as they are in the run.
        line: The line that it is at; None where that is unknown, as it is in native code.
        source: That line; empty where it is unknown.
        is_project: Whether it is the project's own.
    """

    function: str
    file: str
    line: int | None
    source: str
    is_project: bool

    @property
    def place(self) -> str:
        """Where it is, in one word."""
        name = self.file.rpartition("/")[2]
        return name if self.line is None else f"{name}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class ThreadStack:
    """What one thread does.

    Attributes:
        name: What it is called; `main` for the one that calls the function.
        is_main: Whether it is that one.
        process: A child's process id, where it is one of a child's; None for the function's own.
        state: What the kernel says of it, such as `waiting`; empty where that is unknown.
        cpu_percent: How much of a processor it used while it was looked at; None where unknown.
        frames: The functions that it is in, the outermost first.
    """

    name: str
    is_main: bool
    process: int | None
    state: str
    cpu_percent: float | None
    frames: tuple[StackFrame, ...]

    @property
    def where(self) -> StackFrame | None:
        """The innermost function of the project, else of all; None where nothing is known."""
        frames = [frame for frame in self.frames if frame.is_project] or self.frames
        return frames[-1] if frames else None


@dataclass(frozen=True, kw_only=True)
class HostStacks:
    """What one host of a run does.

    Attributes:
        host: Its number, counted over all slices.
        place: Its pod, or its process on this machine; empty where that is not known.
        at: When it was looked at; None where it did not answer.
        how: What has told: `python` (the process itself), `faulthandler` or `py-spy`.
        notes: What else is known.
        threads: Its threads, that which calls the function first.
        why_not: Why nothing is known; empty where something is.
    """

    host: int
    place: str = ""
    at: datetime | None = None
    how: str = ""
    notes: tuple[str, ...] = ()
    threads: tuple[ThreadStack, ...] = ()
    why_not: str = ""

    @property
    def main(self) -> ThreadStack | None:
        """The thread that calls the function; None where nothing is known of it."""
        return next((each for each in self.threads if each.is_main), None)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "at": self.at and self.at.isoformat()}


def host_stacks(told: Mapping[str, Any], place: str = "") -> HostStacks:
    """Return what a runner has told of its host; what an earlier or later one does not is left out.

    Args:
        told: The document.
        place: Where the host is, as people read it.
    """
    if "error" in told:
        return HostStacks(host=told["host"], place=place, why_not=str(told["error"]))
    return HostStacks(
        host=told["host"],
        place=place,
        at=datetime.fromtimestamp(told["at"], UTC),
        how=str(told.get("how", "")),
        notes=tuple(told.get("notes", ())),
        threads=tuple(_thread(each) for each in told["threads"]),
    )


def _thread(told: Mapping[str, Any]) -> ThreadStack:
    return ThreadStack(
        name=str(told["name"]),
        is_main=bool(told["is_main"]),
        process=told.get("process"),
        state=str(told.get("state", "")),
        cpu_percent=told.get("cpu_percent"),
        frames=tuple(_frame(each) for each in told["frames"]),
    )


def _frame(told: Mapping[str, Any]) -> StackFrame:
    return StackFrame(
        function=str(told["function"]),
        file=str(told["file"]),
        line=told["line"],
        source=str(told.get("source", "")),
        is_project=bool(told.get("is_project", False)),
    )
