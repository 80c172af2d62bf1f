"""Which hosts of a run do the same, and which one does not.

Hosts of a slice step together: where one hangs, the others soon wait for it in the same call, so
the one that differs is the one to look at. Hosts that go on are at slightly different lines at any
moment; so they are compared as finely as most of them still agree.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from kinetic_flows.runs.insight.host_stacks import HostStacks, StackFrame, ThreadStack
from kinetic_flows.runs.insight.stack_names import without_numbers


@dataclass(frozen=True, kw_only=True)
class StackGroup:
    """Hosts that do the same.

    Attributes:
        hosts: The hosts, in order.
    """

    hosts: tuple[HostStacks, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The hosts' numbers."""
        return tuple(each.host for each in self.hosts)


def group_hosts(hosts: Sequence[HostStacks]) -> tuple[StackGroup, ...]:
    """Return hosts that have answered by what they do: the largest group first, then in order.

    Args:
        hosts: The hosts; those that have not answered are left out.
    """
    answered = [each for each in hosts if not each.why_not]
    grouped: list[StackGroup] = []
    for key in _FINENESSES:
        grouped = _grouped(answered, key)
        if len(grouped) < 2 or _agree(grouped):
            break
    if len(grouped) == 1:
        # What their other threads do counts only where most agree in that, too.
        finer = _grouped(answered, _other_threads)
        grouped = finer if _agree(finer) else grouped
    return tuple(grouped)


def _agree(groups: Sequence[StackGroup]) -> bool:
    """Whether more than half of the hosts are in the first of their groups."""
    return 2 * len(groups[0].hosts) > sum(len(group.hosts) for group in groups)


def _grouped(
    hosts: Sequence[HostStacks], key: Callable[[HostStacks], Hashable]
) -> list[StackGroup]:
    found: dict[Hashable, list[HostStacks]] = {}
    for host in hosts:
        found.setdefault(key(host), []).append(host)
    groups = [StackGroup(hosts=tuple(each)) for each in found.values()]
    return sorted(groups, key=lambda group: -len(group.hosts))


def telling(host: HostStacks) -> ThreadStack | None:
    """Return the thread of a host that tells what it does; None where it has none.

    It is the one that calls the function, unless that only waits in an event loop whose tasks are
    known.
    """
    main = host.main
    if main is not None and any(frame.is_project for frame in main.frames):
        return main
    tasks = (each for each in host.threads if any(frame.is_project for frame in each.frames))
    return next(tasks, main)


def other_threads(host: HostStacks) -> dict[Hashable, ThreadStack]:
    """Return a host's threads but the telling one, by what they do and are called.

    Those whose names differ in a number, and that do the same, count once.
    """
    main = telling(host)
    others = (each for each in host.threads if each is not main)
    return {(without_numbers(each.name), _lines(each)): each for each in others}


def _other_threads(host: HostStacks) -> Hashable:
    return frozenset(other_threads(host))


def _lines(thread: ThreadStack | None) -> Hashable:
    return tuple((each.function, _file(each), each.line) for each in _frames(thread))


def _functions(thread: ThreadStack | None) -> Hashable:
    return tuple((each.function, _file(each)) for each in _frames(thread))


def _project_functions(thread: ThreadStack | None) -> Hashable:
    return tuple((each.function, each.file) for each in _frames(thread) if each.is_project)


def _frames(thread: ThreadStack | None) -> tuple[StackFrame, ...]:
    return thread.frames if thread else ()


def _file(frame: StackFrame) -> str:
    """Return a file's name as every host has it: of others than the project's numbers differ."""
    return frame.file if frame.is_project else without_numbers(frame.file)


_FINENESSES: tuple[Callable[[HostStacks], Any], ...] = (
    lambda host: _lines(telling(host)),
    lambda host: _functions(telling(host)),
    lambda host: _project_functions(telling(host)),
)
"""What hosts are compared by: less and less of the thread that tells what they do."""
