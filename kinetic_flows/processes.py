"""Processes that outlive the one that started them: who they are, and whether they live."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SHELL_SIGNAL_BASE = 128
"""Exit codes above this one tell of a signal, by the convention of shells and of Kubernetes."""

_children: dict[int, int | None] = {}
"""Exit codes of the processes that were started here; None while they are not collected."""

_children_lock = threading.Lock()


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
    arguments: Sequence[str], *, environment: Mapping[str, str], log_file: Path
) -> ProcessIdentity:
    """Start a process that goes on when this one ends, its output appended to a file.

    Args:
        arguments: The program's path and its arguments.
        environment: All of its environment variables.
        log_file: File that receives what it prints on standard output and error.

    Raises:
        OSError: The program cannot be started.
    """
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # Not subprocess.Popen, which warns about a process that it did not see ending.
    pid = os.posix_spawn(
        arguments[0],
        list(arguments),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_file), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    with _children_lock:
        _children[pid] = None
    return ProcessIdentity.of(pid)


def exit_code(process: ProcessIdentity) -> int | None:
    """Return the exit code of an ended process that was started here, else None.

    A negative code is the signal that ended it. None, too, when somebody else collected it.
    """
    with _children_lock:
        if process.pid in _children and _children[process.pid] is None:
            # A fork of the process that started it, or one that ignores SIGCHLD, has no such
            # child: who else looks for children here may have taken its exit code, too.
            with suppress(ChildProcessError):
                ended, status = os.waitpid(process.pid, os.WNOHANG)
                if ended:
                    _children[process.pid] = os.waitstatus_to_exitcode(status)
        return _children.get(process.pid)


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
