"""Causes within a run's processes: memory, disks, chips, and signals that ended them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kinetic_flows.core.envelope import OUT_OF_MEMORY
from kinetic_flows.core.job import (
    EXIT_CANCELLED,
    EXIT_MEANINGS,
    EXIT_RAISED,
    EXIT_RETURNED,
    EXIT_TERMINATED,
)
from kinetic_flows.runs.insight.evidence import BlackBox, ErrorLine, Evidence
from kinetic_flows.runs.insight.finding import Finding

XIDS: Mapping[int, str] = {
    13: "a kernel of the program did something that it may not, such as reading out of bounds",
    31: "the program used an address in the GPU's memory that it may not",
    43: "the program stopped a channel of the GPU",
    45: "the program was ended while it used the GPU",
    48: "a double bit error in the GPU's memory",
    62: "the GPU's power management halted",
    63: "a page of the GPU's memory was retired",
    64: "a page of the GPU's memory could not be retired",
    74: "an error of NVLink between GPUs",
    79: "the GPU has fallen off the bus",
    92: "many single bit errors in the GPU's memory",
    94: "an error in the GPU's memory, which one program alone had",
    95: "an error in the GPU's memory, which is not contained",
    119: "the GPU's system processor does not answer",
    120: "an error of the GPU's system processor",
}
"""https://docs.nvidia.com/deploy/xid-errors/xid-catalog.html, in our words."""

OF_PROGRAM = frozenset({13, 31, 43, 45})
"""Those which the program itself mostly causes; of others the machine is at fault."""

NEAR_LIMIT = 0.9
"""What part of its memory a process that was killed had taken when that is likely the reason."""

SIGNALS: Mapping[str, tuple[str, str, str]] = {
    "SIGSEGV": (
        "segmentation_fault",
        "read or wrote memory that is not its own (SIGSEGV)",
        "it is a fault of native code: of a package with compiled parts, or of two that do not fit",
    ),
    "SIGBUS": (
        "bus_error",
        "used memory that no file or device stands behind any more (SIGBUS)",
        "a full /dev/shm does that: raise shared_memory in job_variables=",
    ),
    "SIGABRT": (
        "aborted",
        "was ended by a library's own check (SIGABRT)",
        "the last lines of its log have the check's words",
    ),
    "SIGILL": (
        "illegal_instruction",
        "met an instruction that its processor does not have (SIGILL)",
        "a package was compiled for another processor: take a wheel for this machine type",
    ),
    "SIGFPE": (
        "arithmetic_fault",
        "divided integers by zero in native code (SIGFPE)",
        "it is a fault of native code: of a package with compiled parts",
    ),
}
"""What ends processes: the cause in one word, how it is told, and a hint."""

_XID = re.compile(r"[Xx][Ii][Dd]\b\D{0,40}?(?:\([^)]*\)\D{0,5})?(\d+)")
_FATAL_FRAME = re.compile(r'^\s*File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)')
_NO_STEP = (EXIT_RETURNED, EXIT_RAISED, EXIT_CANCELLED, EXIT_TERMINATED)
"""Exit codes of the runner that name no step around the function that has failed."""

_NOT_OWN = re.compile(r"(?:site|dist)-packages/|/lib/python3|\.pyz/|^<")
_GIB = 1 << 30


def gpu_fault(evidence: Evidence) -> Finding | None:
    """Say which error of a GPU its driver has reported."""
    told: list[tuple[int | None, str]] = [
        (box.host, each.line) for box in evidence.boxes for each in box.errors_of("xid")
    ]
    hosts = {end.node: end.host for end in evidence.facts.ends if end.node}
    told += [
        (hosts.get(each.node), each.text) for each in evidence.facts.nodes if each.kind == "gpu"
    ]
    found = [(host, match, line) for host, line in told if (match := _XID.search(line))]
    if not found:
        return None
    host, match, line = min(found, key=lambda each: int(each[1][1]) in OF_PROGRAM)
    number = int(match[1])
    is_named = host is not None and evidence.hosts > 1
    who = f"A GPU of host {host}" if is_named else "A GPU of the run"
    meaning = XIDS.get(number)
    is_own = number in OF_PROGRAM
    return Finding(
        cause="gpu_fault",
        sentence=f"{who} failed: its driver reported Xid {number}"
        + (f" ({meaning})." if meaning else ", which NVIDIA's catalogue of Xid errors explains."),
        host=host,
        evidence=(line,),
        hint="it is mostly the program's own doing: CUDA_LAUNCH_BLOCKING=1 shows where"
        if is_own
        else "the machine is at fault: run again, and have the node repaired if it stays",
        is_certain=False,
    )


def out_of_memory(evidence: Evidence) -> Finding | None:
    """Say which host ran out of memory, whoever noticed it."""
    ends = [end for end in evidence.last_ends.values() if end.cause == "out_of_memory"]
    hint = (
        "say more with memory=, or take a larger machine; `kinetic runs show` has how much it used"
    )
    if ends:
        end = ends[0]
        how = end.message.partition(" was ")[2] or end.message
        return Finding(
            cause="out_of_memory",
            sentence=f"{evidence.who(end.host)} ran out of memory: it was {how}.",
            host=end.host,
            evidence=_memory_words(evidence, end.host),
            hint=hint,
        )
    for box in evidence.boxes:
        said = next((text for text in (box.out_of_memory, box.killed) if OUT_OF_MEMORY in text), "")
        if said:
            what = said.replace(OUT_OF_MEMORY, "").strip()
            part = "" if box.out_of_memory else ", and the kernel killed a process of it"
            return Finding(
                cause="out_of_memory",
                sentence=f"{evidence.who(box.host)} ran out of memory{part}{what and ' ' + what}.",
                host=box.host,
                evidence=_memory_words(evidence, box.host),
                hint=hint,
            )
    if OUT_OF_MEMORY in evidence.message and evidence.status != "raised":
        return Finding(cause="out_of_memory", sentence=f"{evidence.message}.", hint=hint)
    return None


def killed(evidence: Evidence) -> Finding | None:
    """Say what is likely behind a SIGKILL that nobody explains."""
    box = next((each for each in evidence.boxes if each.signal == "SIGKILL"), None)
    if box is None or box.status != "crashed":
        return None
    used = _used_of_memory(box)
    words = _memory_words(evidence, box.host)
    told_by_node = any(each.kind == "memory" for each in evidence.facts.nodes)
    if told_by_node or (used is not None and used >= NEAR_LIMIT):
        return Finding(
            cause="out_of_memory",
            sentence=f"{evidence.who(box.host)} most likely ran out of memory: its process was "
            "killed (SIGKILL)"
            + (f" when it used {used:.0%} of what it may." if used else ", and its node had none."),
            host=box.host,
            evidence=words,
            hint="say more with memory=, or take a larger machine",
            is_certain=False,
        )
    return Finding(
        cause="killed",
        sentence=f"The process of the function was killed (SIGKILL){_on(evidence, box)}, and who "
        "did it is unknown.",
        host=box.host,
        evidence=words or ("nothing says that memory ran out: neither its cgroup, nor its node",),
        hint="the kernel does so when a machine runs out of memory; a person or a program may, too",
        is_certain=False,
    )


def _used_of_memory(box: BlackBox) -> float | None:
    """Return which part of its memory a host used when it was last looked at."""
    for reading in reversed(box.readings):
        used, limit = reading.get("memory_bytes"), reading.get("memory_limit_bytes")
        if isinstance(used, (int, float)) and isinstance(limit, (int, float)) and limit:
            return used / limit
    return None


def _memory_words(evidence: Evidence, host: int) -> tuple[str, ...]:
    """Return what was measured of a host's memory, and what its node said about it."""
    box, end = evidence.box(host), evidence.last_ends.get(host)
    found = []
    for reading in reversed(box.readings if box else ()):
        used, limit = reading.get("memory_bytes"), reading.get("memory_limit_bytes")
        if isinstance(used, (int, float)):
            of = f" of {limit / _GIB:.1f} GiB" if isinstance(limit, (int, float)) else ""
            found.append(f"memory in use when it was last looked at: {used / _GIB:.1f} GiB{of}")
            break
    nodes = [each for each in evidence.facts.nodes if end and each.node == end.node]
    found += [f"node {each.node}: {each.text}" for each in nodes if each.kind == "memory"]
    return tuple(found)


def fatal_signal(evidence: Evidence) -> Finding | None:
    """Say what a signal means by which native code ends a process, and where that was."""
    box = next((each for each in evidence.boxes if each.signal in SIGNALS), None)
    if box is None or box.status != "crashed":
        return None
    cause, what, hint = SIGNALS[box.signal]
    where = _fatal_frame(box)
    own = [each.line for each in box.errors_of("python_fatal", "abort", "shared_memory")]
    return Finding(
        cause=cause,
        sentence=f"{evidence.process_of(box.host)} {what}"
        + (f", in native code that {where} had called." if where else "."),
        host=box.host,
        evidence=tuple(own[-3:]),
        hint=hint,
    )


def _fatal_frame(box: BlackBox) -> str:
    """Return the innermost Python function, as the process told when it was ended.

    Of the project, where one is: a library that leads to native code says less.
    """
    lines = list(box.lines)
    begun = next((at for at, line in enumerate(lines) if "Fatal Python error" in line), len(lines))
    found = [match for line in lines[begun:] if (match := _FATAL_FRAME.match(line))]
    own = [match for match in found if not _NOT_OWN.search(match["file"])]
    frame = next(iter((*own, *found)), None)
    if frame is None:
        return ""
    number = "" if frame["line"] == "???" else f":{frame['line']}"
    return f"{frame['function']} ({frame['file'].rpartition('/')[2]}{number})"


CHIP_MEMORY, DISK, SHARED, TPU, NCCL, LOST, CUDA, HOST_MEMORY = (
    *("chip_memory", "disk", "shared_memory", "tpu"),
    *("nccl", "lost_process", "cuda", "host_memory"),
)

_TOLD: Mapping[str, tuple[str, str, str]] = {
    CHIP_MEMORY: (
        "chip_out_of_memory",
        "ran out of the memory of its chips",
        "make batches or the model smaller, shard them over more chips, or take larger ones",
    ),
    DISK: (
        "out_of_disk",
        "found its disk full",
        "raise ephemeral_storage in job_variables=, or write to KINETIC_OUTPUT_DIR",
    ),
    SHARED: (
        "shared_memory_full",
        "found /dev/shm full",
        "raise shared_memory in job_variables=, or have fewer data loader processes",
    ),
    HOST_MEMORY: (
        "out_of_memory",
        "ran out of memory",
        "say more with memory=, or take a larger machine",
    ),
    TPU: (
        "tpu_fault",
        "had trouble with its TPU",
        "the machine may be at fault: run again; if it stays, have the node repaired",
    ),
    CUDA: (
        "gpu_fault",
        "had an error of CUDA",
        "CUDA_LAUNCH_BLOCKING=1 shows where; if it stays on one node only, that is at fault",
    ),
    LOST: (
        "host_lost",
        "lost another process of the run",
        "look at the log of the process that is named: it ended first",
    ),
    NCCL: (
        "nccl_fault",
        "had trouble with the network between its GPUs (NCCL)",
        "NCCL_DEBUG=INFO has it say more; a host that ended first has the same look",
    ),
}
"""Faults that a run's own output tells of: the cause, how it is told, and a hint; first come."""

_PEER = re.compile(r"by (?:remote )?peer\b")
_BETWEEN_PROCESSES = re.compile(r"(?i:gloo|nccl|\brank|/task:|coordination|tcpstore)")
"""What says of a connection that it was one between the processes of a run."""

_TASK = re.compile(r"/task:(\d+)|\b[Rr]ank (\d+)\b")


def told_by_output(evidence: Evidence) -> Finding | None:
    """Say which fault the output tells of, where it is what ended the run."""
    for kind, (cause, what, hint) in _TOLD.items():
        for box in evidence.boxes:
            lines = [each for each in box.errors_of(kind) if _is_decisive(box, each)]
            if kind == LOST:
                lines = [each for each in lines if _is_of_run(evidence, each)]
            if box.status == "raised" and kind == CHIP_MEMORY and box.out_of_memory:
                lines = lines or [ErrorLine(kind=kind, line=box.out_of_memory)]
            if lines:
                return _told(evidence, box, lines[0], (cause, what, hint))
    return None


def _told(
    evidence: Evidence, box: BlackBox, line: ErrorLine, words: tuple[str, str, str]
) -> Finding:
    cause, what, hint = words
    task = _TASK.search(line.line) if line.kind == LOST else None
    other = int(task[1] or task[2]) if task else None
    host = other if other is not None and other < evidence.hosts else box.host
    sentence = f"{evidence.who(box.host)} {what}: {line.line.strip()}"
    if host != box.host:
        sentence = (
            f"Host {host} was lost to the others, as host {box.host} says: {line.line.strip()}"
        )
    return Finding(
        cause=cause, sentence=sentence, host=host, evidence=(), hint=hint, is_certain=False
    )


def _is_of_run(evidence: Evidence, error: ErrorLine) -> bool:
    """Whether a process that was lost is the run's own, and not some server of others."""
    return evidence.hosts > 1 and (
        _PEER.search(error.line) is None or _BETWEEN_PROCESSES.search(error.line) is not None
    )


def _is_decisive(box: BlackBox, error: ErrorLine) -> bool:
    """Whether a line is about what ended the run, and not about what it has got over."""
    if box.status == "raised":
        first = box.message.partition("\n")[0].strip()[:80]
        return bool(first) and (first in error.line or error.line[:80] in box.message)
    if box.status == "crashed":
        return error.line in {line.strip()[: len(error.line)] for line in box.lines}
    return box.status == "timed_out" and error.kind in (TPU, CUDA)


def before_function(evidence: Evidence) -> Finding | None:
    """Say which step around the function failed, in the runner's own words."""
    codes = [evidence.exit_code, *(end.exit_code for end in evidence.last_ends.values())]
    named = [each for each in codes if each is not None and each not in _NO_STEP]
    code = next((each for each in named if each in EXIT_MEANINGS), None)
    if code is None:
        return None
    box = next((each for each in evidence.boxes if each.exit_code == code), None)
    message = (box.message if box else "") or evidence.message or EXIT_MEANINGS[code]
    return Finding(
        cause="not_called",
        sentence=f"{evidence.who(box.host if box else 0)} could not be brought to its end: "
        f"{message}.",
        host=box.host if box else None,
        evidence=(f"exit code {code}: {EXIT_MEANINGS[code]}",),
    )


def exited(evidence: Evidence) -> Finding | None:
    """Say that the function's process ended without a word to the runner."""
    box = next(
        (
            each
            for each in evidence.boxes
            if each.status == "crashed" and each.exit_code is not None and not each.signal
        ),
        None,
    )
    if box is None:
        return None
    return Finding(
        cause="exited",
        sentence=f"The function's process exited with {box.exit_code}{_on(evidence, box)} while "
        "the function ran: something in it called os._exit, or a library did.",
        host=box.host,
        evidence=tuple(box.lines[-3:]),
        hint="the last lines of its log are the best lead",
        is_certain=False,
    )


def raised(evidence: Evidence) -> Finding | None:
    """Say what the function raised, and on which host."""
    box = next((each for each in evidence.boxes if each.status == "raised"), None)
    if box is None and evidence.status != "raised":
        return None
    kind = f"{box.type_name}: " if box and box.type_name else ""
    message = (box.message if box else evidence.message).partition("\n")[0]
    where = f" on host {box.host}" if box and evidence.hosts > 1 else ""
    return Finding(
        cause="raised",
        sentence=f"The function raised {kind}{message}{where and ',' + where}.".replace("..", "."),
        host=box.host if box else None,
        evidence=tuple(each.line for each in (box.errors[-3:] if box else ())),
        hint=f"its traceback is at the end of `kinetic runs logs {evidence.run_id}`",
    )


def _on(evidence: Evidence, box: BlackBox) -> str:
    return f" on host {box.host}" if evidence.hosts > 1 else ""
