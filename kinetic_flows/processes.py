"""Processes that outlive the one that started them: who they are, and whether they live."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHELL_SIGNAL_BASE = 128
"""Exit codes above this one tell of a signal, by the convention of shells and of Kubernetes."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Processes started here, kept so that their exit codes can be collected."""


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """A process, told apart from a later one that was given the same number.

    Attributes:
        pid: Process id.
        started: When it started, in the operating system's own unit; empty when it had
            already ended.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Identify a process that lives now."""
        return cls(pid=pid, started=_start_mark(pid))

    def is_alive(self) -> bool:
        """Whether this very process lives (a zombie does not)."""
        return bool(self.started) and _start_mark(self.pid) == self.started


def _start_mark(pid: int) -> str:
    """Return the start time of a living process, empty for none."""
    if Path("/proc/self/stat").exists():
        return _linux_start_mark(pid)
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = shown.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


def _linux_start_mark(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    # The second field is the command in parentheses and may hold spaces: see proc(5).
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot}:{start_ticks}"


def current_process() -> ProcessIdentity:
    """Identify this process."""
    return ProcessIdentity.of(os.getpid())


def start_detached(
    arguments: Sequence[str], *, environment: Mapping[str, str], directory: Path, log_file: Path
) -> ProcessIdentity:
    """Start a process that goes on when this one ends, its output appended to a file.

    Args:
        arguments: The program and its arguments.
        environment: All of its environment variables.
        directory: Where it runs.
        log_file: File that receives what it prints on standard output and error.
    """
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            list(arguments),
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[process.pid] = process
    return ProcessIdentity.of(process.pid)


def exit_code(process: ProcessIdentity) -> int | None:
    """Return the exit code of an ended process that was started here, else None.

    A negative code is the signal that ended it.
    """
    child = _children.get(process.pid)
    return child.poll() if child else None


def describe_exit(code: int | None) -> str:
    """Say how a process ended, in words that follow "its process"."""
    if code is None:
        return "ended unseen"
    by_shell_convention = code - SHELL_SIGNAL_BASE
    number = -code if code < 0 else max(by_shell_convention, 0)
    try:
        return f"was killed by {signal.Signals(number).name}" if number else f"exited with {code}"
    except ValueError:
        return f"exited with {code}"
