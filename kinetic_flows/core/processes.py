"""Processes that outlive the one that started them: who they are, and whether they live.

Their records may lie in a directory that other hosts and containers see, too. A process number
means something only where the process was started, so a record names that place; elsewhere a
lock that the process holds for its life tells, as far as the file system can be believed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from kinetic_flows.core.files import PRIVATE_FILE, open_private

Liveness: TypeAlias = Literal["alive", "dead", "unknown"]

LIFE_DESCRIPTOR = 3
"""The descriptor under which a detached process holds the lock that tells it lives."""

LISTENER_DESCRIPTOR = 4
"""The descriptor under which a detached process finds the socket that it is to listen on."""

LOCK_SECONDS = 2.0
"""How long a lock may be held by a process that only looks whether it is."""

OF_ONE_HOST = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "tmpfs", "ramfs", "apfs"}
)
"""File systems that no two hosts see at once."""

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
        host: The host or container that it was started on.
        boot: Which start of that host's kernel it belongs to; empty where that is not known.
        pid_namespace: Where its number means this process; empty where there is one for all.
    """

    pid: int
    started: str
    host: str = ""
    boot: str = ""
    pid_namespace: str = ""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Identify a process that lives now, here."""
        return cls(
            pid=pid,
            started=_start_mark(pid),
            host=_host(),
            boot=_boot(),
            pid_namespace=_pid_namespace(),
        )

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> ProcessIdentity:
        """Return the process that a record speaks of; earlier versions wrote less.

        Raises:
            KeyError: A field is missing that all versions write.
            TypeError: It is no record.
            ValueError: The number of the process is none.
        """
        pid, started = int(fields["pid"]), str(fields["started"])
        places = {name: str(fields.get(name, "")) for name in ("host", "boot", "pid_namespace")}
        return cls(pid=pid, started=started, **places)

    @property
    def is_of_here(self) -> bool:
        """Whether its number means something here; records of earlier versions do not say."""
        if not self.host:
            return True
        if self.boot or self.pid_namespace:
            # Numbers of namespaces are given again, but only once the first one is gone.
            return (self.boot, self.pid_namespace) == (_boot(), _pid_namespace())
        return self.host == _host()

    @property
    def where(self) -> str:
        """The host or container that it was started on, for people to read."""
        return self.host.partition("/")[0]

    def is_alive(self) -> bool:
        """Whether this very process lives (a zombie does not), as far as it is of here."""
        return bool(self.started) and self.is_of_here and _start_mark(self.pid) == self.started


def liveness(process: ProcessIdentity, life_file: Path) -> Liveness:
    """Say whether a process lives, wherever it was started; unknown where this host cannot tell.

    Args:
        process: The process.
        life_file: The file that it holds a lock on while it lives.
    """
    if process.is_of_here:
        return "alive" if process.is_alive() else "dead"
    held = is_held(life_file)
    if held:
        return "alive"
    if process.boot == _boot():
        # One kernel knows all locks on its files.
        return "unknown" if held is None else "dead"
    has_restarted = process.host == _host()
    return "dead" if has_restarted or _is_of_one_host(life_file) else "unknown"


def is_held(life_file: Path) -> bool | None:
    """Return whether some process holds a lock on a file; None when that cannot be told."""
    try:
        descriptor = os.open(life_file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def hold(life_file: Path) -> int:
    """Return the descriptor of a file that is locked until it is closed.

    Where there are no locks, they tell nothing.

    Raises:
        BlockingIOError: Another process holds the lock.
    """
    descriptor = open_private(life_file)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise
            time.sleep(0.01)
        except OSError:
            return descriptor
        else:
            return descriptor


def _host() -> str:
    """Name this host: by the name of the host or container, and its installation's number."""
    return f"{socket.gethostname()}/{_read('/etc/machine-id')}"


def _boot() -> str:
    """Return what each start of a Linux kernel has for itself (random(4)); empty elsewhere."""
    return _read("/proc/sys/kernel/random/boot_id")


def _pid_namespace() -> str:
    """Return the namespace of process numbers, see pid_namespaces(7); empty where all is one."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _is_of_one_host(path: Path) -> bool:
    """Whether the file system of a path is one that no other host sees; see proc(5)."""
    found, kind = "", ""
    for line in _read("/proc/self/mounts").splitlines():
        _, point, name, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if path.absolute().is_relative_to(point) and len(point) >= len(found):
            found, kind = point, name
    return kind in OF_ONE_HOST


def _start_mark(pid: int) -> str:
    """Return the start time of a living process, empty for none.

    Not psutil's (7.2; 35 ms to import): of a process it tells the start by the wall clock, which
    moves when that is set, and neither the boot nor the namespace that its number belongs to.
    """
    if Path("/proc/self/stat").exists():
        return _linux_start_mark(pid)
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = shown.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


def _linux_start_mark(pid: int) -> str:
    stat, boot = _read(f"/proc/{pid}/stat"), _boot()
    if not stat or not boot:
        return ""
    # The second field is the command in parentheses and may hold spaces: see proc(5).
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot}:{start_ticks}"


def current_process() -> ProcessIdentity:
    """Identify this process."""
    return ProcessIdentity.of(os.getpid())


def start_detached(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    log_file: Path,
    life_file: Path,
    listener: socket.socket | None = None,
) -> ProcessIdentity:
    """Start a process that goes on when this one ends, its output appended to a file.

    Args:
        arguments: The program's path and its arguments.
        environment: All of its environment variables.
        log_file: File that receives what it prints on standard output and error.
        life_file: File that it holds a lock on while it lives.
        listener: A bound socket that it gets as `LISTENER_DESCRIPTOR`; None for none.

    Raises:
        BlockingIOError: A process that lives holds the lock.
        OSError: The program cannot be started.
    """
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    lock = hold(life_file)
    passed = []
    if listener is not None:
        # A number that none of the others below takes the place of.
        passed.append(fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, LISTENER_DESCRIPTOR + 1))
    try:
        # Not subprocess.Popen, which warns about a process that it did not see ending.
        pid = os.posix_spawn(
            arguments[0],
            list(arguments),
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log_file), append, PRIVATE_FILE),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                # The lock belongs to what was opened, and stays with the process that has it open.
                (os.POSIX_SPAWN_DUP2, lock, LIFE_DESCRIPTOR),
                *((os.POSIX_SPAWN_DUP2, each, LISTENER_DESCRIPTOR) for each in passed),
            ],
            setsid=True,
        )
    finally:
        for descriptor in (lock, *passed):
            os.close(descriptor)
    with _children_lock:
        _children[pid] = None
    return ProcessIdentity.of(pid)


def exit_code(process: ProcessIdentity) -> int | None:
    """Return the exit code of an ended process that was started here, else None.

    A negative code is the signal that ended it. None, too, when it was collected elsewhere.
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
