"""Why runs ended, concluded from what is known: a table of evidence and sentences."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.core.process_facts import NodeWord, ProcessEnd, ProcessFacts, facts_of, merged
from kinetic_flows.runs.insight.causes import RULES, explain
from kinetic_flows.runs.insight.evidence import BlackBox, ErrorLine, Evidence
from kinetic_flows.runs.insight.host_stacks import HostStacks, StackFrame, ThreadStack
from kinetic_flows.runs.insight.process_causes import OF_PROGRAM, SIGNALS, XIDS
from kinetic_flows.runs.insight.stuck_causes import waits_for
from kinetic_flows.runs.insight.why import explanation

GIB = 1 << 30
NODE = "gke-tpus-1"


def frame(function: str, file: str = "train.py", line: int = 3, source: str = "") -> StackFrame:
    return StackFrame(
        function=function,
        file=file,
        line=line,
        source=source,
        is_project="/" not in file and not file.startswith("threading"),
    )


def thread(*frames: StackFrame, name: str = "main", cpu: float | None = 0.0) -> ThreadStack:
    return ThreadStack(
        name=name,
        is_main=name == "main",
        process=None,
        state="waiting",
        cpu_percent=cpu,
        frames=frames,
    )


def box(
    host: int = 0, *threads: ThreadStack, notes: tuple[str, ...] = (), **fields: Any
) -> BlackBox:
    stacks = HostStacks(host=host, threads=threads, notes=notes) if threads else None
    return BlackBox(host=host, stacks=stacks, **fields)


def errors(kind: str, *lines: str) -> tuple[ErrorLine, ...]:
    return tuple(ErrorLine(kind=kind, line=line) for line in lines)


def end(host: int = 0, cause: str = "", message: str = "", **fields: Any) -> ProcessEnd:
    return ProcessEnd(
        host=host, place=f"train-{host}", node=NODE, cause=cause, message=message, **fields
    )


def crashed(*boxes: BlackBox, **fields: Any) -> Evidence:
    return Evidence(
        **{
            "run_id": "r",
            "state": "Crashed",
            "state_type": "CRASHED",
            "status": "crashed",
            "boxes": boxes,
            "hosts": max([each.host + 1 for each in boxes], default=1),
            **fields,
        }
    )


def late(*boxes: BlackBox, **fields: Any) -> Evidence:
    message = {"message": "it ran longer than 60 s"}
    return crashed(
        *boxes,
        **{"state": "TimedOut", "state_type": "FAILED", "status": "timed_out", **message} | fields,
    )


def failed(*boxes: BlackBox, **fields: Any) -> Evidence:
    return crashed(
        *boxes, **{"state": "Failed", "state_type": "FAILED", "status": "raised"} | fields
    )


def lost(*ends: ProcessEnd, words: tuple[NodeWord, ...] = (), **fields: Any) -> Evidence:
    facts = ProcessFacts(ends=ends, nodes=words, cause=ends[0].cause, message=ends[0].message)
    hosts = max(each.host + 1 for each in ends)
    return crashed(**{"status": "", "facts": facts, "hosts": hosts} | fields)


def word(kind: Any, text: str = "said so") -> NodeWord:
    return NodeWord(node=NODE, kind=kind, text=text, at="2026-01-31T10:00:00Z")


WHERE = f"(train-0 on node {NODE})"
ALL_REDUCE = frame("all_reduce", "/usr/lib/python3/site-packages/torch/distributed.py", 9)

TABLE: dict[str, tuple[Evidence, str, str]] = {
    "returned": (
        Evidence(state="Completed", state_type="COMPLETED"),
        "returned",
        "Nothing went wrong: the function returned.",
    ),
    "cancelled": (
        Evidence(state="Cancelled", state_type="CANCELLED", message="cancelled while it ran"),
        "cancelled",
        "Somebody cancelled it: cancelled while it ran.",
    ),
    "running": (
        Evidence(state="Running", state_type="RUNNING"),
        "not_over",
        "It has not ended: it is Running.",
    ),
    "spot": (
        lost(end(0, "preempted", "the pod was preempted: Google took its Spot VM")),
        "preempted",
        f"The run {WHERE} was preempted: Google took its Spot VM.",
    ),
    "spot, as the node says": (
        lost(
            end(0, "node_lost", "the pod was stopped: its node shut down"),
            words=(word("shutdown"), word("preempted"), word("gone")),
        ),
        "preempted",
        f"The run {WHERE} was stopped: Google took its Spot VM back.",
    ),
    "maintenance": (
        lost(end(0, "node_lost", "the pod was stopped: ..."), words=(word("maintenance"),)),
        "maintenance",
        f"The run {WHERE} was stopped: Google maintains the host of its machine.",
    ),
    "repair": (
        lost(
            end(0, "evicted", "the pod was stopped: its node is being drained"),
            words=(word("not_ready"), word("repair")),
        ),
        "node_repaired",
        f"The run {WHERE} was stopped: GKE repaired its node, which had not been healthy.",
    ),
    "upgrade": (
        lost(end(0, "evicted", "the pod was stopped: ..."), words=(word("upgrade"),)),
        "node_upgraded",
        f"The run {WHERE} was stopped: GKE upgraded its node.",
    ),
    "scaled down": (
        lost(end(0, "evicted", "the pod was stopped: ..."), words=(word("scaled_down"),)),
        "scaled_down",
        f"The run {WHERE} was stopped: the cluster's autoscaler removed its node.",
    ),
    "node not ready": (
        lost(end(0, "node_lost", "the pod was stopped: ..."), words=(word("not_ready"),)),
        "node_lost",
        f"The run {WHERE} was stopped: its node stopped answering.",
    ),
    "node lost, and nothing is said of it": (
        lost(end(0, "node_lost", "the pod was stopped: its node is gone")),
        "node_lost",
        f"The run {WHERE} was stopped: its node is gone.",
    ),
    "the other hosts are deleted when one is lost": (
        lost(
            end(0, "deleted", "host 0 was deleted (exit code 143)", ended="2026-01-31T09:00:00Z"),
            end(1, "node_lost", "host 1 was stopped: its node is gone"),
        ),
        "node_lost",
        f"Host 1 (train-1 on node {NODE}) was stopped: its node is gone.",
    ),
    "evicted for pressure": (
        lost(end(0, "evicted", "the pod was evicted: The node was low on resource: memory.")),
        "evicted",
        f"The run {WHERE} was evicted: The node was low on resource: memory.",
    ),
    "outranked": (
        lost(end(0, "preempted", "the pod was stopped: a pod of higher priority took its place")),
        "outranked",
        f"The run {WHERE} was stopped: a pod of higher priority took its place.",
    ),
    "drained": (
        lost(end(0, "evicted", "the pod was stopped: its node is being drained")),
        "drained",
        f"The run {WHERE} was stopped: its node is being drained.",
    ),
    "deleted": (
        lost(end(0, "deleted", "the pod was deleted (exit code 143)")),
        "deleted",
        f"The run {WHERE} was deleted (exit code 143).",
    ),
    "refused by its node": (
        lost(end(0, "no_room", "its node refused the pod: OutOfcpu")),
        "no_room",
        f"The run {WHERE} ended: its node refused the pod: OutOfcpu.",
    ),
    "disk": (
        lost(
            end(0, "out_of_disk", "the pod was evicted: Pod ephemeral local storage usage exceeds")
        ),
        "out_of_disk",
        f"The run {WHERE} was evicted: Pod ephemeral local storage usage exceeds.",
    ),
    "deadline": (
        crashed(
            status="",
            facts=ProcessFacts(cause="deadline", message="the Job was ended after its deadline"),
        ),
        "deadline",
        "The Job was ended after its deadline.",
    ),
    "not launched": (
        failed(status="", is_launched=False, message="no lock can be made: x is not to be had"),
        "never_launched",
        "It was never launched: no lock can be made: x is not to be had.",
    ),
    "no node": (
        crashed(
            status="",
            message="run r of f crashed: it did not start within 60 seconds: no node pool has it",
        ),
        "never_started",
        "It never started: it did not start within 60 seconds: no node pool has it.",
    ),
    "xid": (
        crashed(
            box(0, status="crashed", signal="SIGABRT"),
            box(
                1, status="crashed", errors=errors("xid", "NVRM: Xid (PCI:0000:3b:00): 79, GPU has")
            ),
        ),
        "gpu_fault",
        "A GPU of host 1 failed: its driver reported Xid 79 (the GPU has fallen off the bus).",
    ),
    "xid that the node tells of": (
        lost(end(0, "failed"), words=(word("gpu", "XidCriticalError: Xid 48 on GPU 3"),)),
        "gpu_fault",
        (
            "A GPU of the run failed: its driver reported Xid 48 (a double bit error in the GPU's "
            "memory)."
        ),
    ),
    "xid that is not known here": (
        crashed(box(0, status="crashed", errors=errors("xid", "NVRM: Xid (PCI:0:1): 7777"))),
        "gpu_fault",
        (
            "A GPU of the run failed: its driver reported Xid 7777, which NVIDIA's catalogue of "
            "Xid errors explains."
        ),
    ),
    "of two Xid errors the machine's own counts": (
        crashed(
            box(0, status="crashed", errors=errors("xid", "NVRM: Xid (PCI:0:1): 31", "Xid (0): 95"))
        ),
        "gpu_fault",
        (
            "A GPU of the run failed: its driver reported Xid 95 (an error in the GPU's memory, "
            "which is not contained)."
        ),
    ),
    "memory, as its pod says": (
        lost(
            end(
                0, "out_of_memory", "the pod was killed for using more memory than its limit of 2Gi"
            )
        ),
        "out_of_memory",
        (
            f"The run {WHERE} ran out of memory: it was killed for using more memory than its "
            "limit of 2Gi."
        ),
    ),
    "memory, as its cgroup says": (
        crashed(
            box(
                1,
                status="crashed",
                signal="SIGKILL",
                out_of_memory="the container ran out of memory (limit 2.0 GiB)",
            )
        ),
        "out_of_memory",
        "Host 1 ran out of memory (limit 2.0 GiB).",
    ),
    "memory of a process that the function started": (
        failed(
            box(0, status="raised", killed="the container ran out of memory (limit 2.0 GiB)"),
        ),
        "out_of_memory",
        "The run ran out of memory, and the kernel killed a process of it (limit 2.0 GiB).",
    ),
    "memory, by what was measured": (
        crashed(
            box(
                0,
                status="crashed",
                signal="SIGKILL",
                readings=({"at": 1.0, "memory_bytes": 31 * GIB, "memory_limit_bytes": 32 * GIB},),
            )
        ),
        "out_of_memory",
        (
            "The run most likely ran out of memory: its process was killed (SIGKILL) when it used "
            "97% of what it may."
        ),
    ),
    "killed by nobody knows whom": (
        crashed(box(0, status="crashed", signal="SIGKILL")),
        "killed",
        "The process of the function was killed (SIGKILL), and who did it is unknown.",
    ),
    "segmentation fault": (
        crashed(
            box(
                0,
                status="crashed",
                signal="SIGSEGV",
                lines=(
                    "Fatal Python error: Segmentation fault",
                    '  File "/x/site-packages/lib/a.py", line 3 in load',
                    '  File "/home/me/train.py", line 8 in read',
                ),
            )
        ),
        "segmentation_fault",
        (
            "The process of the function read or wrote memory that is not its own (SIGSEGV), in "
            "native code that read (train.py:8) had called."
        ),
    ),
    "illegal instruction": (
        crashed(box(0), box(1, status="crashed", signal="SIGILL")),
        "illegal_instruction",
        "The process of host 1 met an instruction that its processor does not have (SIGILL).",
    ),
    "exit": (
        crashed(box(0, status="crashed", exit_code=7, lines=("bye",))),
        "exited",
        (
            "The function's process exited with 7 while the function ran: something in it called "
            "os._exit, or a library did."
        ),
    ),
    "memory of chips": (
        failed(
            box(
                0,
                status="raised",
                message="RESOURCE_EXHAUSTED: Out of memory allocating 3 bytes",
                out_of_memory="XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory",
            )
        ),
        "chip_out_of_memory",
        (
            "The run ran out of the memory of its chips: XlaRuntimeError: RESOURCE_EXHAUSTED: Out "
            "of memory"
        ),
    ),
    "disk, as the exception says": (
        failed(
            box(
                0,
                status="raised",
                message="[Errno 28] No space left on device",
                errors=errors("disk", "OSError: [Errno 28] No space left on device"),
            )
        ),
        "out_of_disk",
        "The run found its disk full: OSError: [Errno 28] No space left on device",
    ),
    "a lost process that is named": (
        failed(
            box(
                0,
                status="raised",
                message="UNAVAILABLE: /job:jax_worker/replica:0/task:1 stopped sending heartbeats",
                errors=errors(
                    "lost_process",
                    "UNAVAILABLE: /job:jax_worker/replica:0/task:1 stopped sending heartbeats",
                ),
            ),
            hosts=2,
        ),
        "host_lost",
        (
            "Host 1 was lost to the others, as host 0 says: UNAVAILABLE: "
            "/job:jax_worker/replica:0/task:1 stopped sending heartbeats"
        ),
    ),
    "a server that has closed its connection": (
        failed(
            box(
                0,
                status="raised",
                type_name="ConnectionResetError",
                message="[Errno 104] Connection reset by peer",
                errors=errors(
                    "lost_process",
                    "ConnectionResetError: [Errno 104] Connection reset by peer",
                ),
            ),
            hosts=2,
        ),
        "raised",
        (
            "The function raised ConnectionResetError: [Errno 104] Connection reset by peer, on "
            "host 0."
        ),
    ),
    "a process that was lost in a collective call": (
        failed(
            box(
                1,
                status="raised",
                message="[gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]",
                errors=errors(
                    "lost_process",
                    "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer "
                    "[10.0.0.2]",
                ),
            )
        ),
        "host_lost",
        (
            "Host 1 lost another process of the run: RuntimeError: "
            "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]"
        ),
    ),
    "a pod that was preempted, and whose next one raised": (
        failed(
            box(0, status="raised", type_name="ValueError", message="no such layer"),
            facts=ProcessFacts(
                ends=(
                    end(0, "preempted", "the pod was preempted: Google took its Spot VM"),
                    end(0, "failed", "the pod ended with exit code 1", exit_code=1),
                ),
                nodes=(word("preempted"), word("gone")),
                cause="failed",
            ),
        ),
        "raised",
        "The function raised ValueError: no such layer.",
    ),
    "an image that cannot be pulled": (
        crashed(
            status="",
            message="run r of f crashed: it cannot start: its image cannot be pulled: not found",
            facts=ProcessFacts(ends=(end(0, message="", is_alive=True),)),
        ),
        "never_started",
        "It never started: its image cannot be pulled: not found.",
    ),
    "an exception in words of a cost": (
        failed(message="max_cost has to be positive"),
        "raised",
        "The function raised max_cost has to be positive.",
    ),
    "an exception in words of a pod": (
        failed(message="the container of web could not be found"),
        "raised",
        "The function raised the container of web could not be found.",
    ),
    "an exception in words of memory": (
        failed(message="the container ran out of memory"),
        "raised",
        "The function raised the container ran out of memory.",
    ),
    "a fault that the function has got over": (
        failed(
            box(
                0,
                status="raised",
                type_name="ValueError",
                message="no such layer",
                errors=errors("chip_memory", "CUDA out of memory"),
            )
        ),
        "raised",
        "The function raised ValueError: no such layer.",
    ),
    "raised on another host": (
        failed(
            box(0, status="stopped"), box(1, status="raised", type_name="KeyError", message="'x'")
        ),
        "raised",
        "The function raised KeyError: 'x', on host 1.",
    ),
    "a sibling that is gone": (
        crashed(
            box(0, status="crashed", message="the process of host 2 was killed, or never began"),
            hosts=3,
        ),
        "host_lost",
        "The process of host 2 was killed from outside, and said nothing.",
    ),
    "before the function": (
        crashed(
            box(0, status="crashed", exit_code=49, message="there is no /dev/accel0"), exit_code=49
        ),
        "not_called",
        "The run could not be brought to its end: there is no /dev/accel0.",
    ),
    "cost": (
        late(message="it has cost about $2, and max_cost is $2"),
        "over_budget",
        "It was ended for what it cost: it has cost about $2, and max_cost is $2.",
    ),
    "one host does something else": (
        late(
            box(0, thread(frame("step"), ALL_REDUCE)),
            box(1, thread(frame("load", line=5))),
            box(2, thread(frame("step"), ALL_REDUCE)),
        ),
        "host_stuck",
        (
            "Host 1 was stuck in load (train.py:5), while hosts 0, 2 waited for it in step "
            "(train.py:3), there in all_reduce (distributed.py:9)."
        ),
    ),
    "of two hosts the one that waits for the other is not stuck": (
        late(box(0, thread(frame("step"), ALL_REDUCE)), box(1, thread(frame("load", line=5)))),
        "host_stuck",
        (
            "Host 1 was stuck in load (train.py:5), while host 0 waited for it in step "
            "(train.py:3), there in all_reduce (distributed.py:9)."
        ),
    ),
    "native code": (
        late(
            box(
                0,
                thread(frame("load"), cpu=100.0),
                notes=("no Python code can run: a thread keeps Python's lock (GIL)",),
            )
        ),
        "native_hang",
        (
            "The run hung in native code that load (train.py:3) had called: it used 100 % of a "
            "processor, and no Python code could run beside it."
        ),
    ),
    "deadlock": (
        late(
            box(
                0,
                thread(frame("main", source="with second:")),
                thread(frame("load", line=9, source="with first:"), name="loader"),
            )
        ),
        "deadlock",
        (
            "The run most likely had a deadlock: thread 'main' in main (train.py:3) and thread "
            "'loader' in load (train.py:9) each waited for a lock."
        ),
    ),
    "one lock": (
        late(box(0, thread(frame("main", source="with lock:")))),
        "deadlock",
        (
            "The run most likely waited for a lock that nobody gave back: thread 'main' in main "
            "(train.py:3)."
        ),
    ),
    "work": (
        late(
            box(
                0,
                thread(frame("step"), cpu=3.0),
                readings=({"at": 1.0, "chips": [{"used_percent": 90.0}, {"used_percent": 100.0}]},),
            )
        ),
        "too_slow",
        (
            "It ran longer than 60 s; it was still at work, its chips used 95 % in its last "
            "minute, in step (train.py:3)."
        ),
    ),
    "waiting": (
        late(box(0, thread(frame("read"), frame("recv_into", "/lib/python3.11/socket.py", 7)))),
        "waiting",
        (
            "It ran longer than 60 s; it waited for the network in read (train.py:3), there in "
            "recv_into (socket.py:7)."
        ),
    ),
    "idle chips": (
        late(
            box(0, thread(frame("read", source="time.sleep(9)"))),
            message="its chips did nothing for 60 s: they were last used at 0:01",
        ),
        "chips_idle",
        (
            "Its chips did nothing for 60 s: they were last used at 0:01; it waited for time to "
            "pass (sleep) in read (train.py:3)."
        ),
    ),
    "time-out of which nothing was seen": (
        late(box(0, status="timed_out", no_stacks="it does not answer a signal")),
        "timed_out",
        "It ran longer than 60 s; what it was doing is unknown: it does not answer a signal.",
    ),
    "unknown": (
        crashed(status="", message="run r of f crashed: its process ended unseen."),
        "unknown",
        (
            "Why it ended is unknown; all that was said of it is: run r of f crashed: its process "
            "ended unseen."
        ),
    ),
    "unknown altogether": (crashed(status=""), "unknown", "Why it ended is unknown."),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_is_known_leads_to_one_sentence(name):
    evidence, cause, sentence = TABLE[name]
    found = explain(evidence)
    assert (found.cause, found.sentence) == (cause, sentence)


def test_every_rule_is_needed():
    """Each is what names the cause of some evidence of the table."""
    named = {
        next((rule for rule in RULES if rule(evidence)), None)
        for evidence, cause, _ in TABLE.values()
        if cause not in ("returned", "cancelled", "not_over")
    }
    assert named - {None} == set(RULES)


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_of_native_code_has_a_cause(signal):
    found = explain(crashed(box(0, status="crashed", signal=signal)))
    assert found.cause == SIGNALS[signal][0]
    assert f"({signal})" in found.sentence
    assert found.hint


@pytest.mark.parametrize("number", XIDS)
def test_an_xid_error_says_whether_the_machine_is_at_fault(number):
    line = f"NVRM: Xid (PCI:0000:3b:00): {number}, pid=7"
    found = explain(crashed(box(0, status="crashed", errors=errors("xid", line))))
    assert f"Xid {number} ({XIDS[number]})" in found.sentence
    assert ("the machine is at fault" in found.hint) == (number not in OF_PROGRAM)


@pytest.mark.parametrize(
    ("frames", "what"),
    [
        ((frame("main", source="with lock:"),), "a lock"),
        ((frame("main", source="lock.acquire()"),), "a lock"),
        ((frame("main", source="with open(path) as file:"),), ""),
        ((frame("main"), frame("join", "threading.py")), "another thread"),
        ((frame("main"), frame("get", "/lib/python3/queue.py")), "something in a queue"),
        ((frame("main"), frame("wait", "threading.py")), "a word of another thread"),
        ((frame("main"), frame("communicate", "/lib/subprocess.py")), "a process that it started"),
        ((frame("main"), frame("read", "/lib/ssl.py")), "the network"),
        ((frame("main", source="input('?')"),), "input that never comes"),
        ((frame("f"), frame("_next_data", "/x/torch/utils/data/dataloader.py")), "its data"),
        ((frame("f"), frame("psum", "/x/jax/lax.py")), "the other hosts"),
        ((frame("step"),), ""),
        ((), ""),
    ],
)
def test_what_a_thread_waits_for_is_read_from_its_stack(frames, what):
    assert waits_for(thread(*frames)) == what


def test_hosts_that_all_do_the_same_name_none():
    evidence = late(*(box(host, thread(frame("step"), ALL_REDUCE)) for host in range(3)))
    found = explain(evidence)
    assert (found.cause, found.host) == ("waiting", 0)
    assert "host 0 waited for the other hosts in step (train.py:3)" in found.sentence


def test_what_is_unknown_is_called_unknown():
    facts = ProcessFacts(unknown=("the events of its nodes: you may not list events",))
    evidence = crashed(box(0, status="crashed", exit_code=1), hosts=2, facts=facts)
    found = explanation(evidence)
    assert found.unknown == (
        "the events of its nodes: you may not list events",
        "what host 1 saw last: nothing was left, as nothing is by what is killed at once",
    )
    told = str(found)
    assert "\nunknown\n  the events of its nodes" in told
    assert "\nhosts\n  hosts 0, 1: nothing is known\n" in told
    assert repr(found) == f"<Explanation exited: {found.sentence}>"
    assert "That is likely, and not certain." in told


def test_what_a_cluster_says_later_is_added_to_what_was_kept():
    kept = ProcessFacts(ends=(end(0, "node_lost", "lost"),), nodes=(word("not_ready"),), cause="x")
    later = ProcessFacts(nodes=(word("not_ready"), word("gone")), unknown=("its pods are gone",))
    told = merged(kept, later)
    assert (told.ends, told.cause, told.unknown) == (kept.ends, "x", ())
    assert [each.kind for each in told.nodes] == ["not_ready", "gone"]


def test_facts_are_read_as_they_were_written_and_what_is_no_fact_is_left_out():
    facts = ProcessFacts(
        ends=(end(1, "node_lost", "lost", exit_code=3),),
        nodes=(word("repair"),),
        unknown=("x",),
        cause="node_lost",
        message="lost",
    )
    document = facts.document()
    assert facts_of(document) == facts
    odd = {"ends": [3, {"host": "x", "exit_code": "y"}], "nodes": [{"kind": "?"}], "unknown": 3}
    read = facts_of(odd)
    assert read.ends == (ProcessEnd(host=0, place=""),)
    assert read.nodes == (NodeWord(node="", kind="other", text=""),)
