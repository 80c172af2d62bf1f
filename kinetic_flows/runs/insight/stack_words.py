"""The stacks of a run's hosts as people read them: one sentence, then each that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kinetic_flows.core.display import counted
from kinetic_flows.runs.insight.host_stacks import HostStacks, StackFrame, ThreadStack
from kinetic_flows.runs.insight.stack_groups import StackGroup, group_hosts, other_threads, telling
from kinetic_flows.runs.insight.stack_names import in_words, without_numbers

LONGEST_SOURCE = 120
BUSY_PERCENT = 1.0
"""From which use of a processor on it is told."""


def summary(hosts: Sequence[HostStacks]) -> str:
    """Return what a run's hosts do, in a sentence that names those that differ.

    Args:
        hosts: All hosts that were asked.
    """
    groups = group_hosts(hosts)
    silent = [each for each in hosts if each.why_not]
    if len(hosts) == 1 and groups and not hosts[0].host:
        return f"it is {_where(hosts[0])}"
    parts = [_of_groups(groups)] if groups else []
    parts += [f"host {each.host} tells nothing: {each.why_not}" for each in silent]
    return "; ".join(parts)


def _of_groups(groups: Sequence[StackGroup]) -> str:
    first, *others = groups
    where = {group: _where(group.hosts[0]) for group in groups}
    if not others:
        names = in_words(first.numbers)
        verb = "is" if len(first.hosts) == 1 else "are all"
        return f"{names} {verb} {where[first]}"
    has_most = len(first.hosts) > sum(len(group.hosts) for group in others)
    if not has_most:
        return "; ".join(f"{in_words(group.numbers)}: {where[group]}" for group in groups)
    differing = "; ".join(_differing(group, first) for group in others)
    return f"{differing}; {in_words(first.numbers)}: {where[first]}"


def _differing(group: StackGroup, most: StackGroup) -> str:
    """Return how hosts differ from most: in the thread that tells what they do, or in another."""
    names = f"{in_words(group.numbers)} {'differs' if len(group.hosts) == 1 else 'differ'}"
    here, there = group.hosts[0], most.hosts[0]
    if _where(here) != _where(there):
        return f"{names}: {_where(here)}"
    common = other_threads(there)
    for key, thread in other_threads(here).items():
        if key not in common:
            return f"{names}: the thread {thread.name} is {_of_thread(thread)}"
    lacking = [each.name for key, each in common.items() if key not in other_threads(here)]
    return f"{names}: it has no thread {lacking[0]}" if lacking else f"{names}: {_where(here)}"


def _where(host: HostStacks) -> str:
    thread = telling(host)
    if thread is None or not thread.frames:
        return host.notes[0] if host.notes else "not in the function"
    return _of_thread(thread)


def _of_thread(thread: ThreadStack) -> str:
    frame = thread.where
    if frame is None:
        return thread.state or "not known"
    inner = thread.frames[-1]
    beneath = "" if inner is frame else f", there in {_named(inner)}"
    return f"in {_named(frame)}{beneath}"


def _named(frame: StackFrame) -> str:
    return f"{frame.function} ({frame.place})"


def shown_stacks(hosts: Sequence[HostStacks]) -> str:
    """Return all that is known of what a run's hosts do; hosts that do the same are shown once.

    Args:
        hosts: All hosts that were asked.
    """
    groups = group_hosts(hosts)
    # The ones that differ first: they are what is looked for.
    ordered = (*groups[1:], *groups[:1])
    return "\n\n".join([summary(hosts), *("\n".join(_group(group)) for group in ordered)])


def _group(group: StackGroup) -> Iterator[str]:
    first = group.hosts[0]
    place = f" ({first.place})" if first.place else ""
    if len(group.hosts) == 1:
        yield f"host {first.host}{place}"
    else:
        yield f"{in_words(group.numbers)}: what host {first.host}{place} does"
    for note in dict.fromkeys(note for host in group.hosts for note in host.notes):
        yield f"  note: {note}"
    for threads in _alike(first.threads).values():
        yield from _threads(threads)


def _alike(threads: Sequence[ThreadStack]) -> Mapping[object, list[ThreadStack]]:
    """Return a host's threads by what they do, in their order."""
    found: dict[object, list[ThreadStack]] = {}
    for each in threads:
        found.setdefault(
            (each.process is None, without_numbers(each.name), each.frames), []
        ).append(each)
    return found


def _threads(threads: Sequence[ThreadStack]) -> Iterator[str]:
    first = threads[0]
    name = f"process {first.process} ({first.name})" if first.process else first.name
    name = f"{name} thread" if first.is_main else name
    more = f" and {counted(len(threads) - 1, 'other')} like it" if len(threads) > 1 else ""
    percent = max((each.cpu_percent or 0.0 for each in threads), default=0.0)
    used = f", uses {percent:.0f} % of a processor" if percent >= BUSY_PERCENT else ""
    state = f": {first.state}{used}" if first.state else ""
    yield f"  {name}{more}{state}"
    for frame in first.frames:
        yield from _frame(frame)


def _frame(frame: StackFrame) -> Iterator[str]:
    if not frame.file:
        yield f"    {frame.function}"
        return
    line = "" if frame.line is None else f", line {frame.line}"
    yield f'    File "{frame.file}"{line}, in {frame.function}'
    if frame.source:
        yield f"      {frame.source[:LONGEST_SOURCE]}"
