"""Causes of runs that were stopped for taking too long: what they were doing then, host by host.

What a thread waits for is read from the innermost Python functions of its stack; what they are
called is what the libraries call them. It says what is likely, and never more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from kinetic_flows.core.envelope import IDLE
from kinetic_flows.runs.insight.evidence import BlackBox, Evidence
from kinetic_flows.runs.insight.finding import Finding
from kinetic_flows.runs.insight.host_stacks import StackFrame, ThreadStack
from kinetic_flows.runs.insight.stack_groups import group_hosts
from kinetic_flows.runs.insight.stack_names import in_words

KEEPS_LOCK = "Python's lock"
"""In a note on the stacks where native code keeps the interpreter's lock."""

BUSY_PERCENT = 50.0
"""A thread that uses more of a processor, and chips that are used more, are at work."""

IDLE_PERCENT = 5.0

LOCK, THREAD, QUEUE, EVENT, NETWORK, OTHERS, SLEEP, CHILD, DATA, INPUT = (
    *("a lock", "another thread", "something in a queue", "a word of another thread"),
    "the network",
    *("the other hosts", "time to pass (sleep)", "a process that it started", "its data"),
    "input that never comes",
)
"""What a thread may wait for."""

_LOCKS = re.compile(r"^(?:async )?with (?!open\b)[\w.\[\]]+(?:, [\w.]+)*:|\.acquire\(")
_SLEEPS = re.compile(r"\bsleep\(")
_INPUT = re.compile(r"\binput\(|stdin\.read")
_COLLECTIVES = re.compile(
    r"^_?(?:all_?reduce|all_?gather\w*|all_?to_?all\w*|reduce_scatter\w*|broadcast\w*|barrier|"
    r"monitored_barrier|sync_global_devices|wait_at_barrier|process_allgather|psum|"
    r"_?block_until_ready|init_process_group|rendezvous|_store_based_barrier|"
    r"blocking_key_value_get\w*|assert_equal|wait_for_\w*hosts?|"
    r"_synchronize|synchronize)$"
)
_DATA = re.compile(r"dataloader|data_loader|/grain/|tensorflow/python/data|/datasets/|webdataset")
_FUNCTIONS: Sequence[tuple[str, re.Pattern[str], re.Pattern[str]]] = (
    (THREAD, re.compile(r"threading\.py$"), re.compile(r"^(?:join|_wait_for_tstate_lock)$")),
    (QUEUE, re.compile(r"(?:queue|queues)\.py$"), re.compile(r"^(?:get|put)$")),
    (CHILD, re.compile(r"subprocess\.py$|popen_\w+\.py$|process\.py$"), re.compile(r".*")),
    (EVENT, re.compile(r"threading\.py$"), re.compile(r"^(?:wait|wait_for|acquire)$")),
    (
        NETWORK,
        re.compile(r"(?:socket|ssl|selectors|asyncio/\w+|http/client|connection)\.py$"),
        re.compile(r".*"),
    ),
)
_INNERMOST = 6
"""How many of the innermost functions say what a thread waits for."""


def waits_for(thread: ThreadStack) -> str:
    """Return what a thread waits for, as far as its stack says; empty where it does not."""
    innermost = thread.frames[::-1][:_INNERMOST]
    if not innermost:
        return ""
    if any(_DATA.search(frame.file.lower()) for frame in innermost):
        return DATA
    if any(_COLLECTIVES.match(frame.function) for frame in innermost):
        return OTHERS
    first = innermost[0]
    if first.is_project:
        for what, pattern in ((SLEEP, _SLEEPS), (INPUT, _INPUT), (LOCK, _LOCKS)):
            if pattern.search(first.source):
                return what
    for what, file, function in _FUNCTIONS:
        if file.search(first.file) and function.match(first.function):
            return what
    return ""


def over_budget(evidence: Evidence) -> Finding | None:
    """Say that the run was ended for what it cost."""
    # A function may raise what says the same.
    if evidence.status == "raised" or "max_cost" not in evidence.message:
        return None
    return Finding(
        cause="over_budget",
        sentence=f"It was ended for what it cost: {evidence.message}.".replace("..", "."),
        hint="raise max_cost=, or see with `kinetic runs cost` where the money went",
    )


def stuck_host(evidence: Evidence) -> Finding | None:
    """Name the host that does something else than all others, of a run that took too long."""
    boxes = [box for box in evidence.boxes if box.thread is not None]
    if not _took_too_long(evidence) or len(boxes) < 2:
        return None
    odd = _odd_one(boxes)
    if odd is None:
        return None
    others = [box for box in boxes if box is not odd]
    what = _doing(odd)
    theirs = _common(others)
    return Finding(
        cause="host_stuck",
        sentence=f"{evidence.who(odd.host)} was stuck {what}, while "
        f"{in_words([box.host for box in others])} {theirs}.",
        host=odd.host,
        evidence=tuple(f"host {box.host}: {_at(box)}" for box in boxes),
        hint="the other hosts wait for this one: look at what it was given, and at its node",
        is_certain=False,
    )


def _took_too_long(evidence: Evidence) -> bool:
    return evidence.status == "timed_out" or evidence.state == "TimedOut"


def _odd_one(boxes: Sequence[BlackBox]) -> BlackBox | None:
    """Return the host that differs; None where all are alike, or nobody can tell which it is."""
    groups = group_hosts([box.stacks for box in boxes if box.stacks])
    if len(groups) < 2:
        return None
    rest = [box for box in boxes if box.thread and waits_for(box.thread) != OTHERS]
    if len(rest) == 1:
        return rest[0]
    alone = [group for group in groups[1:] if len(group.hosts) == 1]
    if len(alone) != 1 or len(groups[0].hosts) < 2:
        return None
    return next(box for box in boxes if box.host == alone[0].numbers[0])


def deadlock(evidence: Evidence) -> Finding | None:
    """Say that threads of a host waited for locks that they kept from one another."""
    if not _took_too_long(evidence):
        return None
    for box in evidence.boxes:
        stuck = [each for each in box.threads if waits_for(each) == LOCK and not _is_busy(each)]
        if not stuck or not box.thread or waits_for(box.thread) not in (LOCK, THREAD, QUEUE, EVENT):
            continue
        if len(stuck) < 2:
            return _one_lock(evidence, box, stuck[0])
        names = " and ".join(f"thread {each.name!r} {_in(each)}" for each in stuck[:2])
        more = f", and {len(stuck) - 2} more" if len(stuck) > 2 else ""
        return Finding(
            cause="deadlock",
            sentence=f"{evidence.who(box.host)} most likely had a deadlock: {names}{more} each "
            "waited for a lock.",
            host=box.host,
            evidence=tuple(_of_thread(each) for each in stuck),
            hint="have every thread take the locks in the same order",
            is_certain=False,
        )
    return None


def _one_lock(evidence: Evidence, box: BlackBox, thread: ThreadStack) -> Finding:
    return Finding(
        cause="deadlock",
        sentence=f"{evidence.who(box.host)} most likely waited for a lock that nobody gave back: "
        f"thread {thread.name!r} {_in(thread)}.",
        host=box.host,
        evidence=tuple(_of_thread(each) for each in box.threads),
        hint="a lock that one thread takes twice, or that has gone with its thread, is never given "
        "back",
        is_certain=False,
    )


def native_hang(evidence: Evidence) -> Finding | None:
    """Say that native code never came back, which keeps all of Python from running."""
    if not _took_too_long(evidence):
        return None
    for box in evidence.boxes:
        if box.thread and _keeps_lock(box):
            return Finding(
                cause="native_hang",
                sentence=f"{evidence.who(box.host)} hung in native code that "
                f"{_innermost(box.thread)} had called: it {_busy_words(box.thread)}, and no Python "
                "code could run beside it.",
                host=box.host,
                evidence=tuple(_of_thread(each) for each in box.threads),
                hint="the code that it calls there is compiled; a later version of its package may "
                "be mended",
            )
    return None


def timed_out(evidence: Evidence) -> Finding | None:
    """Say what a run did that took too long: whether it worked, or waited, and for what."""
    if not _took_too_long(evidence):
        return None
    of_limit = [box for box in evidence.boxes if box.status == "timed_out"]
    box = next(iter((*of_limit, *evidence.boxes)), None)
    is_idle = IDLE in evidence.message
    if box is None or box.thread is None:
        why = (box.no_stacks if box else "") or "its hosts left nothing that says so"
        return Finding(
            cause="chips_idle" if is_idle else "timed_out",
            sentence=f"{_sentence(evidence.message)} what it was doing is unknown: {why}.",
            host=box.host if box else None,
            evidence=_usage_words(box) if box else (),
        )
    if not is_idle and _was_working(box):
        return _at_work(evidence, box)
    return Finding(
        cause="chips_idle" if is_idle else "waiting",
        sentence=f"{_sentence(evidence.message)} {_subject(evidence, box)} {_was(box)}.",
        host=box.host,
        evidence=(*_usage_words(box), *(_of_thread(each) for each in box.threads)),
        hint="raise idle_timeout_seconds where that takes longer"
        if is_idle
        else "`kinetic runs stacks` shows the same while a run goes on",
        is_certain=False,
    )


def _sentence(message: str) -> str:
    message = message.strip().rstrip(".")
    return f"{message[:1].upper()}{message[1:]};" if message else "It took too long;"


def _subject(evidence: Evidence, box: BlackBox) -> str:
    return "it" if evidence.hosts == 1 else f"host {box.host}"


def _at_work(evidence: Evidence, box: BlackBox) -> Finding:
    percent = _chips_used(box)
    how = f", its chips used {percent:.0f} % in its last minute" if percent is not None else ""
    at = _named(_own(box.thread)) if box.thread else ""
    return Finding(
        cause="too_slow",
        sentence=f"{_sentence(evidence.message)} {_subject(evidence, box)} was still at work{how}, "
        f"in {at}.",
        host=box.host,
        evidence=(*_usage_words(box), *(_of_thread(each) for each in box.threads[:3])),
        hint="raise timeout_seconds, or make the function do less",
        is_certain=False,
    )


def _was_working(box: BlackBox) -> bool:
    used = _chips_used(box)
    if used is not None:
        return used >= BUSY_PERCENT
    return any(_is_busy(thread) for thread in box.threads)


def _is_busy(thread: ThreadStack) -> bool:
    """Whether a thread computes; one that has to share its processors does so, too."""
    used = thread.cpu_percent or 0.0
    return used >= BUSY_PERCENT or (thread.state == "running" and used >= IDLE_PERCENT)


def _chips_used(box: BlackBox) -> float | None:
    """Return how much of its last minute a host's chips were used; None where that is unknown."""
    if not box.readings:
        return None
    last = box.readings[-1].get("at")
    recent = [
        reading
        for reading in box.readings
        if isinstance(last, (int, float))
        and isinstance(reading.get("at"), (int, float))
        and reading["at"] > last - 60
    ]
    return _mean_use(recent)


def _mean_use(readings: Sequence[Mapping[str, object]]) -> float | None:
    used = []
    for reading in readings:
        chips = reading.get("chips")
        for chip in chips if isinstance(chips, list) else ():
            percent = chip.get("used_percent") if isinstance(chip, dict) else None
            if isinstance(percent, (int, float)):
                used.append(float(percent))
    return fmean(used) if used else None


def _usage_words(box: BlackBox) -> tuple[str, ...]:
    used = _chips_used(box)
    cpus = [each["cpus"] for each in box.readings[-12:] if isinstance(each.get("cpus"), float)]
    found = []
    if used is not None:
        found.append(f"its chips were used {used:.0f} % of its last minute")
    if cpus:
        found.append(f"it kept {fmean(cpus):.1f} CPUs busy in its last minute")
    return tuple(found)


def _doing(box: BlackBox) -> str:
    """Say what an odd host did, in words that follow "was stuck"."""
    thread = box.thread
    if thread is None:
        return ""
    if _keeps_lock(box):
        return f"in native code that {_innermost(thread)} had called"
    what = waits_for(thread)
    return f"waiting for {what} {_in(thread)}" if what else _in(thread)


def _common(boxes: Sequence[BlackBox]) -> str:
    """Say what most of several hosts did, in words that follow them."""
    threads = [box.thread for box in boxes if box.thread]
    what = Counter(waits_for(thread) for thread in threads).most_common(1)[0][0]
    at = Counter(_in(thread) for thread in threads).most_common(1)[0][0]
    verb = "was" if len(boxes) == 1 else "were"
    return f"waited for {'it' if what == OTHERS else what} {at}" if what else f"{verb} {at}"


def _was(box: BlackBox) -> str:
    thread = box.thread
    what = waits_for(thread) if thread else ""
    at = _in(thread) if thread else ""
    return f"waited for {what} {at}" if what else f"was {at}"


def _keeps_lock(box: BlackBox) -> bool:
    return any(KEEPS_LOCK in note for note in (box.stacks.notes if box.stacks else ()))


def _at(box: BlackBox) -> str:
    return _of_thread(box.thread) if box.thread else ""


def _own(thread: ThreadStack) -> StackFrame:
    """Return the innermost function of the project; the innermost of all where none is."""
    return thread.where or thread.frames[-1]


def _in(thread: ThreadStack) -> str:
    own, inner = _own(thread), thread.frames[-1]
    beneath = "" if inner is own else f", there in {_named(inner)}"
    return f"in {_named(own)}{beneath}"


def _innermost(thread: ThreadStack) -> str:
    """Name the innermost function of Python code; what lies beneath has no line."""
    python = [frame for frame in thread.frames if frame.line is not None] or [*thread.frames]
    return _named(python[-1])


def _named(frame: StackFrame) -> str:
    return f"{frame.function} ({frame.place})" if frame.place else frame.function


def _of_thread(thread: ThreadStack) -> str:
    inner = " < ".join(_named(frame) for frame in thread.frames[::-1][:3])
    return f"thread {thread.name!r} {_busy_words(thread)}: {inner}"


def _busy_words(thread: ThreadStack) -> str:
    if thread.cpu_percent is None:
        return thread.state or "was there"
    if thread.cpu_percent < IDLE_PERCENT:
        return "used no processor"
    return f"used {thread.cpu_percent:.0f} % of a processor"
