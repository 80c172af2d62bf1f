"""Runs that seem stuck: when that is told, and what stands in their logs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from kinetic_flows.runner_image.runner.dumped_stacks import Frame
from kinetic_flows.runner_image.runner.stack_text import MOST_LINES, text_of
from kinetic_flows.runner_image.runner.stack_view import Thread
from kinetic_flows.runner_image.runner.stacks import Stacks
from kinetic_flows.runner_image.runner.stuck import Quiet, Work
from kinetic_flows.runner_image.runner.thread_states import tree_seconds

from kinetic_flows.core.streams import shown_text
from prefect_wire import serve
from runner_jobs import Job, wait

WAITS = dedent(
    """
    import pathlib, time
    def main(go, end):
        print("waiting")
        load(pathlib.Path(go))
        while not pathlib.Path(end).exists():
            print("step")
            time.sleep(0.05)
    def load(go):
        while not go.exists(): time.sleep(0.05)
    """
)


def told(quiet: Quiet, *moments: float, did: float = 0.0) -> list[float]:
    """Return the moments at which it is told, of those at which somebody looks."""
    return [at for at in moments if quiet.note(at, did_something_at=did) is not None]


def test_it_is_told_once_and_again_after_ever_longer_times() -> None:
    quiet = Quiet(0.0, 100.0)
    assert told(quiet, *range(0, 2000, 10)) == [100, 300, 700, 1500]


def test_whatever_the_run_does_begins_the_time_anew() -> None:
    quiet = Quiet(0.0, 100.0)
    assert told(quiet, 50, 100, did=0) == [100]
    assert told(quiet, 150, 240, did=150) == []
    assert told(quiet, 250, 260, did=150) == [250]


def test_processes_that_use_next_to_no_processor_do_nothing() -> None:
    work = Work(0.0)
    assert work.note(10.0, 5.0) == 10.0
    assert work.note(20.0, 5.1) == 10.0
    assert work.note(30.0, 5.5) == 30.0
    # A child that nobody has waited for is gone, and its time with it.
    assert work.note(40.0, 3.0) == 30.0
    assert work.note(50.0, None) == 50.0


def test_the_time_of_all_processes_of_a_run_counts() -> None:
    before = tree_seconds(os.getpid())
    assert before is not None
    os.waitpid(
        os.spawnlp(
            os.P_NOWAIT, "sh", "sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
        ),
        0,
    )
    after = tree_seconds(os.getpid())
    assert after is not None
    assert after > before
    assert tree_seconds(-1) is None


def test_what_it_does_is_put_into_its_log_and_so_is_that_it_goes_on(tmp_path: Path) -> None:
    go, end = tmp_path / "go", tmp_path / "end"
    arguments = (str(go), str(end))
    job = Job(tmp_path / "store", WAITS, args=arguments, changes={"stuck_after_seconds": 0.5})
    with serve() as prefect:
        job.prefect_url = prefect.url
        process = job.start()
        log = read_until(process, b"go.exists()")
        go.touch()
        log += read_until(process, b"the run goes on")
        end.touch()
        assert wait(process).exit_code == 0
    assert {event["event"] for event in prefect.events} == {"kinetic.run.stuck"}
    assert "used next to no processor" in prefect.events[0]["payload"]["reason"]
    # Prefect has it as one record, which no line comes between.
    assert any("may be stuck" in each and "go.exists()" in each for each in prefect.messages)
    shown = shown_text(log)
    assert "kinetic: it may be stuck: nothing was printed for" in shown
    assert "and its process used next to no processor. What it does now:\nmain thread: wa" in shown
    assert '\n  File "app.py", line 5, in main\n    load(pathlib.Path(go))\n' in shown


def read_until(process: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    assert process.stdout is not None
    log = b""
    while wanted not in log:
        piece = os.read(process.stdout.fileno(), 65536)
        assert piece, log.decode()
        log += piece
    return log


@pytest.mark.parametrize(("count", "words"), [(1, "main thread: waiting"), (3, "and 2 more like")])
def test_threads_that_do_the_same_stand_once_in_the_log(count: int, words: str) -> None:
    frames = (Frame("f", "app.py", 3, "g()", True), Frame("...", "", None))
    thread = Thread("main", count == 1, None, "waiting", 0.2, frames)
    text = text_of(Stacks(0, 0.0, 1, "faulthandler", ("a note",), (thread,) * count))
    assert text.startswith("note: a note\n")
    assert words in text
    assert text.count("g()") == 1
    assert text.endswith("\n  ...")


def test_a_log_is_not_flooded() -> None:
    frames = [Frame(f"f{at}", "app.py", at) for at in range(500)]
    threads = tuple(Thread("t", False, None, "", None, (frame,)) for frame in frames)
    lines = text_of(Stacks(0, 0.0, 1, "faulthandler", (), threads)).splitlines()
    assert (len(lines), lines[-1]) == (MOST_LINES + 1, "... and 800 lines more")
