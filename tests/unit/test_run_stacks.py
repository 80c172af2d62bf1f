"""Stacks of a run's hosts as a person reads them: those that agree once, the one that differs."""

from __future__ import annotations

import json
from typing import Any

from kinetic_flows.runs.insight.host_stacks import HostStacks, host_stacks
from kinetic_flows.runs.insight.stack_groups import group_hosts
from kinetic_flows.runs.insight.stack_names import in_words
from kinetic_flows.runs.insight.stack_words import shown_stacks, summary
from kinetic_flows.runs.insight.stacks import RunStacks

TRAIN = ("train", "/home/ada/project/train.py", 88, "loss = step(batch)", True)
STEP = ("step", "/home/ada/project/train.py", 41, "return all_reduce(loss)", True)
REDUCE = ("all_reduce", "torch/distributed/distributed_c10d.py", 2501, "work.wait()", False)
LOAD = ("next_batch", "/home/ada/project/data.py", 17, "return self.queue.get()", True)
GET = ("get", "/usr/local/lib/python3.12/queue.py", 171, "self.not_empty.wait()", False)

Told = tuple[str, str, int | None, str, bool]


def thread(*frames: Told, name: str = "main", **fields: Any) -> dict[str, Any]:
    names = ("function", "file", "line", "source", "is_project")
    return {
        "name": name,
        "is_main": name == "main",
        "process": None,
        "state": "waiting",
        "cpu_percent": 0.0,
        "frames": [dict(zip(names, frame, strict=True)) for frame in frames],
        **fields,
    }


def host(number: int, *threads: dict[str, Any], **fields: Any) -> HostStacks:
    told = {"host": number, "at": 1.0, "how": "faulthandler", "notes": [], "threads": threads}
    return host_stacks({**told, **fields}, f"pod train-{number}")


def reducing(number: int) -> HostStacks:
    return host(number, thread(TRAIN, STEP, REDUCE), thread(GET, name=f"pin memory {number}"))


def loading(number: int) -> HostStacks:
    return host(number, thread(TRAIN, LOAD, GET))


def test_the_host_that_differs_is_named_first() -> None:
    hosts = [reducing(0), reducing(1), loading(2), reducing(3)]
    assert summary(hosts) == (
        "host 2 differs: in next_batch (data.py:17), there in get (queue.py:171); "
        "hosts 0, 1, 3: in step (train.py:41), there in all_reduce (distributed_c10d.py:2501)"
    )
    shown = shown_stacks(hosts)
    assert shown.count("return all_reduce(loss)") == 1
    assert shown.index("host 2 (pod train-2)\n") < shown.index("hosts 0, 1, 3: what host 0")


def test_hosts_that_all_do_the_same_are_shown_once() -> None:
    hosts = [reducing(number) for number in range(512)]
    assert summary(hosts).startswith("hosts 0 to 511 are all in step (train.py:41), there in all_r")
    assert shown_stacks(hosts).count("work.wait()") == 1


def test_hosts_that_go_on_are_alike_although_each_is_at_a_line_of_its_own() -> None:
    steps = [("step", "/home/ada/project/train.py", 40 + at, "", True) for at in range(4)]
    hosts = [host(at, thread(TRAIN, step)) for at, step in enumerate(steps)]
    assert [group.numbers for group in group_hosts([*hosts, loading(4)])] == [(0, 1, 2, 3), (4,)]


def test_a_host_of_which_only_another_thread_differs_is_named_by_that() -> None:
    stuck = host(2, thread(TRAIN, STEP, REDUCE), thread(LOAD, name="pin memory 2"))
    assert summary([reducing(0), reducing(1), stuck]).startswith(
        "host 2 differs: the thread pin memory 2 is in next_batch (data.py:17); hosts 0, 1: in step"
    )
    lone = host(2, thread(TRAIN, STEP, REDUCE))
    shown = summary([reducing(0), reducing(1), lone])
    assert shown.startswith("host 2 differs: it has no thread pin memory 0; hosts 0, 1: in step")


def test_threads_of_which_every_host_has_others_make_none_differ() -> None:
    hosts = [host(at, thread(TRAIN), thread(LOAD, name="a" * at)) for at in range(4)]
    assert [group.numbers for group in group_hosts(hosts)] == [(0, 1, 2, 3)]


def test_hosts_of_which_no_more_than_half_agree_are_all_told() -> None:
    assert summary([reducing(0), loading(1)]) == (
        "host 0: in step (train.py:41), there in all_reduce (distributed_c10d.py:2501); "
        "host 1: in next_batch (data.py:17), there in get (queue.py:171)"
    )


def test_a_host_that_tells_nothing_says_why() -> None:
    silent = HostStacks(host=1, place="pod train-1", why_not="its pod is gone")
    assert summary([loading(0), silent]).endswith("; host 1 tells nothing: its pod is gone")
    assert summary([silent]) == "host 1 tells nothing: its pod is gone"


def test_threads_that_do_the_same_are_shown_once_and_busy_ones_say_so() -> None:
    workers = [thread(GET, name=f"worker_{number}") for number in range(8)]
    busy = thread(TRAIN, state="running", cpu_percent=99.6)
    shown = shown_stacks([host(0, busy, *workers)])
    assert "main thread: running, uses 100 % of a processor\n" in shown
    assert "  worker_0 and 7 others like it: waiting\n" in shown


def test_where_the_main_thread_only_runs_an_event_loop_its_task_tells_what_it_does() -> None:
    select = ("select", "/usr/local/lib/python3.12/selectors.py", 468, "", False)
    hosts = [host(0, thread(select), thread(TRAIN, name="task fetch", state=""))]
    assert summary(hosts) == "it is in train (train.py:88)"


def test_notes_are_told_and_stand_for_what_is_not_in_the_function() -> None:
    note = "the function has returned, and its value is being stored"
    hosts = [host(0, thread(), notes=[note])]
    assert summary(hosts) == f"it is {note}"
    assert f"note: {note}" in shown_stacks(hosts)


def test_what_an_earlier_or_later_runner_does_not_tell_is_left_out() -> None:
    frame = {"function": "f", "file": "f.py", "line": None}
    told = {"name": "main", "is_main": True, "frames": [frame], "later": 1}
    seen = host_stacks({"host": 0, "at": 0, "threads": [told]})
    assert seen.main is not None
    assert (seen.main.state, seen.main.frames[0].place) == ("", "f.py")


def test_a_runs_stacks_are_shown_as_text_for_a_terminal_and_told_as_json() -> None:
    odd = ("load\x1b[2J", "/home/ada/project/data.py", 3, "", True)
    seen = RunStacks(hosts=(reducing(0), reducing(1), host(2, thread(odd))))
    assert repr(seen).startswith("host 2 differs: in load\\x1b[2J (data.py:3); hosts 0, 1: in step")
    told = json.loads(json.dumps(seen.document()))
    assert (told["groups"], told["summary"]) == ([[0, 1], [2]], seen.summary)
    assert told["hosts"][2]["threads"][0]["frames"][0]["is_project"] is True


def test_numbers_of_hosts_are_folded() -> None:
    assert in_words([3]) == "host 3"
    assert in_words([5, 4, 0, 1, 2, 9]) == "hosts 0 to 2, 4, 5, 9"
