"""What a run uses of its host: CPU, memory, disk and network, as the kernel counts them.

In a container of its own its cgroup tells, of either version, and the pod's network interfaces do.
Elsewhere, as on a developer's machine, the run's own processes are counted one by one; which of
the network's bytes are theirs the kernel does not say.

https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/admin-guide/cgroup-v1/, https://man7.org/linux/man-pages/man5/proc.5.html
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from .memory import limit_bytes
from .readings import Reading

CONTAINER, PROCESSES = "container", "processes"

_OTHER_NETWORKS = ("veth", "cni", "gke", "cali", "docker")
"""How interfaces of pods and containers are called where the machine's own network is seen."""


class Counts(NamedTuple):
    """What the kernel has counted so far; None for what it does not tell.

    Attributes:
        cpu_seconds: Time that CPUs took.
        memory_bytes: Memory in use now.
        disk_read_bytes: Read from disks.
        disk_written_bytes: Written to disks.
        received_bytes: Come over the network.
        sent_bytes: Sent over the network.
    """

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


class HostUse:
    """Reads what a run uses of its host, from one look to the next.

    Args:
        directory: Where the run keeps its files.
        root: Where the file system's root is.
        process: The process that the run's others descend from; None for this one.
        in_pod: Whether this is a pod, which has no processes but the run's, and of those who look
            into it for a moment.
    """

    def __init__(
        self,
        directory: str,
        root: str = "/",
        process: int | None = None,
        *,
        in_pod: bool = False,
    ) -> None:
        self._in_pod = in_pod
        self._directory = directory
        self._root = root
        self._process = process or os.getpid()
        self._last: tuple[float, Counts] | None = None
        self.scope = CONTAINER if self._has_container() else PROCESSES
        """Whose use is counted: that of its container, or of its processes."""
        self.cpus = _cpu_limit(os.path.join(root, "sys/fs/cgroup"), self.scope)
        """How many CPUs it may use."""
        self._limit_bytes = self._memory_limit()

    def begin(self) -> HostUse:
        """Count from here on."""
        self._last = (time.monotonic(), self._counts())
        return self

    def read(self, at: float) -> Reading:
        """Return what was used since it was read, or begun, before.

        Args:
            at: The time of day, in seconds since the epoch.
        """
        now, counts = time.monotonic(), self._counts()
        since, before = self._last or (now, counts)
        self._last = (now, counts)
        seconds = now - since
        return Reading(
            at=round(at, 3),
            seconds=round(seconds, 3),
            cpus=_rate(before.cpu_seconds, counts.cpu_seconds, seconds, digits=3),
            memory_bytes=counts.memory_bytes,
            memory_limit_bytes=self._limit_bytes,
            disk_read_bytes_per_second=_rate(
                before.disk_read_bytes, counts.disk_read_bytes, seconds
            ),
            disk_written_bytes_per_second=_rate(
                before.disk_written_bytes, counts.disk_written_bytes, seconds
            ),
            disk_free_bytes=_free_bytes(self._directory),
            network_received_bytes_per_second=_rate(
                before.received_bytes, counts.received_bytes, seconds
            ),
            network_sent_bytes_per_second=_rate(before.sent_bytes, counts.sent_bytes, seconds),
        )

    def _counts(self) -> Counts:
        proc = os.path.join(self._root, "proc")
        if self.scope == PROCESSES:
            return _counts_of(proc, self._process)
        counts = _container_counts(os.path.join(self._root, "sys/fs/cgroup"))
        if counts.disk_read_bytes is None:
            own = _counts_of(proc, self._process)
            counts = counts._replace(
                disk_read_bytes=own.disk_read_bytes, disk_written_bytes=own.disk_written_bytes
            )
        received, sent = _network(os.path.join(proc, "net/dev"))
        return counts._replace(received_bytes=received, sent_bytes=sent)

    def _has_container(self) -> bool:
        """Whether every process of the cgroup that is seen here is one of the run's."""
        cgroup = os.path.join(self._root, "sys/fs/cgroup")
        named = _read(os.path.join(cgroup, "cgroup.procs")) if _is_version_2(cgroup) else ""
        named = named or _read(os.path.join(cgroup, "memory/cgroup.procs"))
        parents = _parents(os.path.join(self._root, "proc"))
        own = {self._process, *_ancestors(self._process, parents)}
        processes = [int(each) for each in named.split() if each.isdigit()]
        return bool(processes) and all(
            each in own
            or self._process in _ancestors(each, parents)
            or (self._in_pod and _came_from_outside(each, parents))
            for each in processes
        )

    def _memory_limit(self) -> int | None:
        limit = limit_bytes(os.path.join(self._root, "sys/fs/cgroup"))
        if limit is not None and self.scope == CONTAINER:
            return limit
        for line in _read(os.path.join(self._root, "proc/meminfo")).splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) << 10
        return None


# A container


def _is_version_2(cgroup: str) -> bool:
    return os.path.exists(os.path.join(cgroup, "cgroup.controllers"))


def _container_counts(cgroup: str) -> Counts:
    return _counts_2(cgroup) if _is_version_2(cgroup) else _counts_1(cgroup)


def _counts_2(cgroup: str) -> Counts:
    cpu = _table(os.path.join(cgroup, "cpu.stat")).get("usage_usec")
    memory = _number(os.path.join(cgroup, "memory.current"))
    files = _table(os.path.join(cgroup, "memory.stat")).get("inactive_file", 0)
    read, written = None, None
    for line in _read(os.path.join(cgroup, "io.stat")).splitlines():
        fields = dict(each.split("=", 1) for each in line.split()[1:] if "=" in each)
        read = (read or 0) + int(fields.get("rbytes", 0))
        written = (written or 0) + int(fields.get("wbytes", 0))
    return Counts(
        cpu_seconds=None if cpu is None else cpu / 1e6,
        memory_bytes=None if memory is None else max(memory - files, 0),
        disk_read_bytes=read,
        disk_written_bytes=written,
    )


def _counts_1(cgroup: str) -> Counts:
    cpu = _number(os.path.join(cgroup, "cpuacct/cpuacct.usage"))
    memory = _number(os.path.join(cgroup, "memory/memory.usage_in_bytes"))
    files = _table(os.path.join(cgroup, "memory/memory.stat")).get("total_inactive_file", 0)
    moved: dict[str, int] = {}
    name = os.path.join(cgroup, "blkio/blkio.throttle.io_service_bytes")
    for line in _read(name).splitlines():
        device, _, rest = line.partition(" ")
        kind, _, number = rest.partition(" ")
        if ":" in device and number.isdigit():
            moved[kind] = moved.get(kind, 0) + int(number)
    return Counts(
        cpu_seconds=None if cpu is None else cpu / 1e9,
        memory_bytes=None if memory is None else max(memory - files, 0),
        disk_read_bytes=moved.get("Read"),
        disk_written_bytes=moved.get("Write"),
    )


def _cpu_limit(cgroup: str, scope: str) -> float:
    """Return how many CPUs may be used: the container's limit, else those of the machine."""
    there = len(os.sched_getaffinity(0))
    if scope != CONTAINER:
        return there
    if _is_version_2(cgroup):
        quota, _, period = _read(os.path.join(cgroup, "cpu.max")).strip().partition(" ")
    else:
        quota = _read(os.path.join(cgroup, "cpu/cpu.cfs_quota_us")).strip()
        period = _read(os.path.join(cgroup, "cpu/cpu.cfs_period_us")).strip()
    if quota.isdigit() and period.isdigit() and int(period):
        return min(round(int(quota) / int(period), 2), there)
    return there


def _network(path: str) -> tuple[int | None, int | None]:
    """Return what came and went over the network that a container has for itself."""
    received, sent, is_there = 0, 0, False
    for line in _read(path).splitlines():
        name, colon, rest = line.strip().partition(":")
        fields = rest.split()
        if not colon or name == "lo" or len(fields) < 9:
            continue
        if name.startswith(_OTHER_NETWORKS):
            return None, None
        is_there = True
        received += int(fields[0])
        sent += int(fields[8])
    return (received, sent) if is_there else (None, None)


# Processes


def resident_bytes_of(process: int, proc: str = "/proc") -> int:
    """Return how much memory a process and those that descend from it take now.

    Args:
        process: Its id.
        proc: Where the kernel tells of processes.
    """
    return _counts_of(proc, process).memory_bytes or 0


class _Process(NamedTuple):
    parent: int
    cpu_ticks: int


def _counts_of(proc: str, process: int) -> Counts:
    """Return what a process and those that descend from it have used."""
    processes = _processes(proc)
    parents = {pid: each.parent for pid, each in processes.items()}
    own = [pid for pid in processes if pid == process or process in _ancestors(pid, parents)]
    moved = [_table(os.path.join(proc, str(pid), "io")) for pid in own]
    resident = [_resident_bytes(os.path.join(proc, str(pid), "statm")) for pid in own]
    return Counts(
        cpu_seconds=sum(processes[pid].cpu_ticks for pid in own) / os.sysconf("SC_CLK_TCK"),
        memory_bytes=sum(resident),
        disk_read_bytes=sum(each.get("read_bytes:", 0) for each in moved),
        disk_written_bytes=sum(each.get("write_bytes:", 0) for each in moved),
    )


def _processes(proc: str) -> dict[int, _Process]:
    return dict(_each_process(proc))


def _each_process(proc: str) -> Iterator[tuple[int, _Process]]:
    try:
        names = os.listdir(proc)
    except OSError:
        return
    for name in names:
        if name.isdigit():
            # The name of a program may have blanks and brackets in it.
            fields = _read(os.path.join(proc, name, "stat")).rpartition(")")[2].split()
            if len(fields) > 14:
                # Those of its children that have ended are counted in it.
                ticks = sum(int(each) for each in fields[11:15])
                yield int(name), _Process(int(fields[1]), ticks)


def _parents(proc: str) -> dict[int, int]:
    return {pid: each.parent for pid, each in _each_process(proc)}


def _came_from_outside(process: int, parents: Mapping[int, int]) -> bool:
    """Whether a process was put into the container, as is done by exec of the Kubernetes API."""
    return [process, *_ancestors(process, parents)][-1] != 1


def _ancestors(process: int, parents: Mapping[int, int]) -> list[int]:
    found: list[int] = []
    while (process := parents.get(process, 0)) and process not in found:
        found.append(process)
    return found


def _resident_bytes(path: str) -> int:
    fields = _read(path).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


# Files


def _rate(
    before: float | None, after: float | None, seconds: float, digits: int = 0
) -> float | None:
    """Return how much was used a second; what has ended may have taken its numbers along."""
    if before is None or after is None or seconds <= 0:
        return None
    return round(max(after - before, 0) / seconds, digits)


def _free_bytes(directory: str) -> int | None:
    with suppress(OSError):
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize
    return None


def _table(path: str) -> dict[str, int]:
    """Return the numbers of a file whose lines are a name and a number."""
    fields = (line.split() for line in _read(path).splitlines())
    return {each[0]: int(each[1]) for each in fields if len(each) == 2 and each[1].isdigit()}


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
