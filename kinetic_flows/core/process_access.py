"""The way to a run's live processes: what runs beside them, and ports of theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True)
class HostProcess:
    """One host of a run, where it is.

    Attributes:
        host: Its number, counted over all slices.
        place: The pod, or the process on this machine, as people read it.
        is_running: Whether something can be started beside it.
        why_not: Why nothing can; empty where something can.
    """

    host: int
    place: str
    is_running: bool
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What became of a command beside a run's process.

    Attributes:
        exit_code: Its exit code; negative for a signal.
        output: What it wrote to its standard output.
        errors: What it wrote to its standard error.
    """

    exit_code: int
    output: bytes
    errors: bytes


class ProcessAccess(Protocol):
    """Starts commands beside a run's processes, and leads to their ports.

    Runs are known by the key of their launch request, as launchers know them.
    """

    def hosts(self, key: str) -> tuple[HostProcess, ...]:
        """Return the hosts of a run, in order; none where nothing of it is there any more."""
        ...

    def execute(
        self, key: str, host: int, command: Sequence[str], *, limit_seconds: float
    ) -> Executed:
        """Run a command beside a host's process, and return what it printed.

        Args:
            key: The run.
            host: The host's number.
            command: The program and its arguments.
            limit_seconds: How long it may take.

        Raises:
            LaunchError: It could not be started, was not allowed, or took too long.
        """
        ...

    def stream(
        self, key: str, host: int, command: Sequence[str], source: BinaryIO, target: BinaryIO
    ) -> Executed:
        """Run a command whose input and output are streams; its `output` is empty.

        Args:
            key: The run.
            host: The host's number.
            command: The program and its arguments.
            source: What it reads.
            target: Where its output goes.
        """
        ...

    def attach(
        self, key: str, host: int, command: Sequence[str], *, terminal: bool, reads: bool = True
    ) -> int:
        """Run a command with this process's own streams; return its exit code.

        Args:
            key: The run.
            host: The host's number.
            command: The program and its arguments.
            terminal: Whether it gets a terminal, of this one's size, to which keys are passed.
            reads: Whether it reads this process's input; else its own says nothing, and ends when
                nobody waits for the command any more.
        """
        ...

    def forward(
        self, key: str, host: int, port: int, local_port: int, tell: Callable[[str], None]
    ) -> AbstractContextManager[int]:
        """Lead a port of this machine to one of a host; the context's value is this machine's.

        Args:
            key: The run.
            host: The host's number.
            port: The port on the host's loopback address.
            local_port: The port here; 0 for one that is free.
            tell: Told when connections cannot be made, and when they can again.
        """
        ...
