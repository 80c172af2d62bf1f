"""Black boxes of real runners, and what is concluded from them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from kinetic_flows.runner_image.runner.black_box import MOST_BYTES, encoded, shown

from kinetic_flows.core.object_names import BLACK_BOX
from kinetic_flows.runs.insight.causes import explain
from kinetic_flows.runs.insight.evidence import BlackBox, Evidence, box_of
from kinetic_flows.runs.insight.finding import Finding
from kinetic_flows.runs.insight.why import explanation
from loopback.tools import find_tool
from runner_jobs import RUN_ID, Job, wait

HANG = """
    import ctypes
    def main(library):
        train(ctypes.PyDLL(library).hang)
    def train(step):
        print("step 1")
        step()
    """
CRASHES = """
    import ctypes
    def main():
        read_weights(ctypes.string_at)
    def read_weights(load):
        load(0)
    """
DEADLOCK = """
    import threading
    first, second = threading.Lock(), threading.Lock()
    both = threading.Barrier(2)
    def main():
        other = threading.Thread(target=load, name="loader")
        other.start()
        with first:
            both.wait()
            with second:
                other.join()
    def load():
        with second:
            both.wait()
            with first:
                pass
    """
SLICE = """
    import os, threading
    def main():
        if os.environ["KINETIC_HOST"] == "1":
            load_batch()
        all_reduce()
    def load_batch():
        threading.Event().wait()
    def all_reduce():
        threading.Event().wait()
    """


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library whose function never returns."""
    directory = tmp_path_factory.mktemp("native")
    (directory / "hang.c").write_text("void hang(void) { for (;;) ; }")
    library, source = str(directory / "hang.so"), str(directory / "hang.c")
    subprocess.run([find_tool("tcc"), "-shared", "-o", library, source], check=True)
    return library


def boxes_of(job: Job) -> list[BlackBox]:
    """Return what the hosts of a run left."""
    paths = sorted((job.root / "runs" / RUN_ID / BLACK_BOX).glob("host-*.json"))
    return [box for path in paths if (box := box_of(path.read_bytes(), RUN_ID)) is not None]


def why(job: Job, hosts: int = 1) -> Finding:
    """Say why a run ended, from its result and its black boxes."""
    return explain(known_of(job, hosts))


def known_of(job: Job, hosts: int = 1) -> Evidence:
    """Return what is known of a run's end from its result and its black boxes."""
    header = job.envelope().header
    state = {"timed_out": "TimedOut", "crashed": "Crashed"}.get(header.status, "Failed")
    return Evidence(
        run_id=RUN_ID,
        hosts=hosts,
        state=state,
        state_type="CRASHED" if state == "Crashed" else "FAILED",
        message=header.message,
        status=header.status,
        exit_code=header.exit_code,
        boxes=tuple(boxes_of(job)),
    )


def a_job(root: Path, source: str, *args: Any, **changes: Any) -> Job:
    return Job(root / "store", dedent(source), args=args, changes={"grace_seconds": 0.5, **changes})


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, native: str) -> dict[str, Job]:
    """Runs that took too long, side by side: they wait for their limits together."""
    root = tmp_path_factory.mktemp("late")
    jobs = {
        "hang": a_job(root / "hang", HANG, native, timeout_seconds=3),
        "deadlock": a_job(root / "deadlock", DEADLOCK, timeout_seconds=3),
    }
    started = [job.start() for job in jobs.values()]
    for each in started:
        wait(each)
    return jobs


def test_a_native_call_that_never_returns_is_named(late):
    [box] = boxes_of(late["hang"])
    assert (box.status, box.message) == ("timed_out", "it ran longer than 3 s")
    assert box.lines[-1] == "step 1"
    found = why(late["hang"])
    assert found.cause == "native_hang"
    assert found.sentence.startswith(
        "The run hung in native code that train (app.py:7) had called: it used "
    )
    assert found.sentence.endswith(" of a processor, and no Python code could run beside it.")


def test_a_deadlock_names_its_threads(late):
    found = why(late["deadlock"])
    assert found.cause == "deadlock"
    assert found.sentence == (
        "The run most likely had a deadlock: thread 'main' in main (app.py:10) and thread 'loader' "
        "in load (app.py:15) each waited for a lock."
    )
    assert found.evidence[0] == ("thread 'main' used no processor: main (app.py:10)")


def test_the_host_that_is_stuck_while_others_wait_for_it_is_named(tmp_path):
    job = a_job(tmp_path, SLICE, timeout_seconds=1.5, hosts=3)
    for each in [job.start(JOB_COMPLETION_INDEX=host) for host in "012"]:
        wait(each)
    assert [box.host for box in boxes_of(job)] == [0, 1, 2]
    found = why(job, hosts=3)
    assert (found.cause, found.host) == ("host_stuck", 1)
    waits = r"there in wait \(threading\.py:\d+\)"
    assert re.fullmatch(
        r"Host 1 was stuck waiting for a word of another thread in load_batch \(app\.py:8\), "
        rf"{waits}, while hosts 0, 2 waited for it in all_reduce \(app\.py:10\), {waits}\.",
        found.sentence,
    )


def test_a_segmentation_fault_names_the_function_that_called_native_code(tmp_path):
    job = a_job(tmp_path, CRASHES)
    assert job.run().exit_code == 139
    [box] = boxes_of(job)
    assert (box.signal, box.exit_code) == ("SIGSEGV", -11)
    assert [each.kind for each in box.errors] == ["python_fatal"]
    found = why(job)
    assert found.cause == "segmentation_fault"
    assert found.sentence == (
        "The process of the function read or wrote memory that is not its own (SIGSEGV), in native "
        "code that read_weights (app.py:6) had called."
    )
    last = str(explanation(known_of(job))).split("last lines", 1)[1]
    assert "in read_weights" in last
    assert "runner.pyz" not in last
    assert "runpy" not in last


def test_a_process_that_leaves_by_itself_is_told_of(tmp_path):
    job = a_job(tmp_path, "import os\ndef main():\n    print('bye')\n    os._exit(7)")
    job.run()
    found = why(job)
    assert found.cause == "exited"
    assert found.sentence.startswith("The function's process exited with 7 while the function ran")
    assert "bye" in found.evidence


def test_what_a_function_raises_is_told_with_the_faults_of_its_output(tmp_path):
    source = """
        def main():
            print("NCCL WARN the network is slow")
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        """
    job = a_job(tmp_path, source)
    job.run()
    [box] = boxes_of(job)
    assert (box.status, box.type_name) == ("raised", "RuntimeError")
    assert {each.kind for each in box.errors} == {"nccl", "cuda"}
    assert box.stacks is None
    found = why(job)
    assert found.cause == "gpu_fault"
    assert "CUDA error: an illegal memory access was encountered" in found.sentence


def test_a_page_says_what_the_host_knows_of_its_end():
    document = {"host": 2, "run_id": RUN_ID, "status": "raised", "type_name": "ValueError"}
    told = shown({**document, "message": "x", "errors": [{"kind": "nccl", "line": "NCCL WARN y"}]})
    assert told == (
        f"host 2: ValueError: x\n- `NCCL WARN y`\n\n`kinetic runs why {RUN_ID}` tells more."
    )


def test_a_run_that_returns_leaves_none(tmp_path):
    job = a_job(tmp_path, "def main():\n    print('NCCL WARN slow')")
    job.run()
    assert not boxes_of(job)


def test_secret_values_are_masked_in_it(tmp_path):
    source = """
        import os
        def main():
            print("NCCL WARN", os.environ["TOKEN"])
            raise ValueError("no " + os.environ["TOKEN"])
        """
    job = a_job(tmp_path, source)
    job.sealed["TOKEN"] = "a-long-secret-value"
    job.run()
    path = job.root / "runs" / RUN_ID / BLACK_BOX / "host-0.json"
    text = path.read_text()
    assert "a-long-secret-value" not in text
    assert "NCCL WARN ***" in text


def test_it_is_never_larger_than_it_may_be():
    frame: dict[str, Any] = {
        "function": "f" * 500,
        "file": "x",
        "line": 1,
        "source": "y" * 500,
        "is_project": True,
    }
    thread = {
        "name": "t",
        "is_main": False,
        "state": "",
        "cpu_percent": None,
        "frames": [frame] * 60,
    }
    document = {
        "host": 0,
        "run_id": RUN_ID,
        "lines": ["z" * 2_000] * 50,
        "readings": [{"at": 1.0 * number} for number in range(120)],
        "stacks": {"host": 0, "at": 1.0, "threads": [{**thread, "is_main": True}, *[thread] * 39]},
    }
    data = encoded(document)
    assert len(data) <= MOST_BYTES
    box = box_of(data, RUN_ID)
    assert box is not None
    assert box.threads[0].is_main
    assert box.lines


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"host": "0", "run_id": "%s"}' % RUN_ID.encode(),
        b'{"host": 0, "run_id": "another"}',
    ],
)
def test_what_is_no_black_box_of_the_run_is_left_out(data):
    assert box_of(data, RUN_ID) is None


@pytest.mark.parametrize(
    "stacks", [3, [], {}, {"host": 0}, {"host": 0, "at": "x", "threads": []}, {"threads": [3]}]
)
def test_stacks_of_another_form_are_left_out(stacks):
    fields: dict[str, Any] = {"host": 0, "run_id": RUN_ID, "stacks": stacks, "lines": [3, "x"]}
    box = box_of(json.dumps(fields).encode(), RUN_ID)
    assert box is not None
    assert box.stacks is None
    assert box.lines == ("", "x")
