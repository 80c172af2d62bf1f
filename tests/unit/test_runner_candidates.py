"""A run that may go on one of several accelerators: one of them calls its function."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner.device_memory import out_of_memory

from kinetic_flows.core.candidates import Claim, End, Launch, Round
from kinetic_flows.core.job import (
    EXIT_BAD_LAUNCH,
    EXIT_MOVED_ON,
    EXIT_RAISED,
    EXIT_RETURNED,
    EXIT_STOOD_DOWN,
    EXIT_TERMINATED,
    canonical_json,
)
from kinetic_flows.core.job_parts import CandidateSpec
from kinetic_flows.core.object_names import (
    candidate_job_object,
    claim_object,
    payload_object,
    round_end_object,
    round_object,
)
from prefect_wire import serve
from runner_jobs import RUN_ID, Job, read_json, start_runner, wait, wait_until

NOTES_WHERE = """
    import os
    from pathlib import Path

    def main(directory):
        where = os.environ["ON"]
        Path(directory, where).touch(exist_ok=False)
        return where, os.environ["KINETIC_RESTART_COUNT"], os.environ.get("KINETIC_LAUNCH")
"""
RUNS_OUT_ONCE = """
    def main(directory):
        with open(directory + "/calls", "a") as file:
            file.write("called\\n")
        class XlaRuntimeError(RuntimeError):
            pass
        try:
            raise XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17 GB.")
        except XlaRuntimeError as error:
            raise ValueError("the step failed") from error
"""


class Listed:
    """A run with a list of accelerators, whose processes are started by hand.

    Args:
        directory: Where everything is.
        source: Source of the function, which gets a directory, and its candidate's name in `ON`.
        changes: To every candidate's job.
    """

    def __init__(self, directory: Path, source: str = NOTES_WHERE, **changes: Any) -> None:
        self.seen = directory / "seen"
        self.seen.mkdir()
        self.root = directory / "store"
        self.job = Job(self.root, source=source, args=(str(self.seen),))
        self._changes = changes

    def variables(self, launch: str, **spec: Any) -> dict[str, str]:
        """Write the job of a launch's candidate; return what its process is started with."""
        number = Launch.parse(launch).candidate
        candidate = CandidateSpec(number=number, accelerator=f"chip-{number}", **spec)
        self.job.changes = {**self._changes, "candidate": asdict(candidate)}
        variables = self.job.write()
        own = self.root / candidate_job_object(RUN_ID, number)
        self.job.job_path.rename(own)
        named = {"KINETIC_JOB": own.as_uri(), "KINETIC_LAUNCH": launch, "ON": f"c{number}"}
        return {**variables, **named}

    def start(self, launch: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start the process of a launch."""
        return start_runner({**self.variables(launch), **variables})

    def put(self, name: str, value: Claim | End | Round) -> None:
        """Write an object as whoever drives the run does."""
        self.job.put(name, canonical_json(asdict(value)))

    def claim(self, number: int = 0) -> Claim:
        """Return a round's claim."""
        return Claim(**read_json(self.root / claim_object(RUN_ID, number)))

    def called(self) -> set[str]:
        """Return for which candidates the function was called."""
        return {path.name for path in self.seen.iterdir()}


@pytest.fixture
def run(tmp_path: Path) -> Listed:
    return Listed(tmp_path)


def test_who_claims_first_calls_the_function_and_the_next_stands_down(run: Listed) -> None:
    assert wait(run.start("r0c1")).exit_code == EXIT_RETURNED
    assert run.claim() == Claim(candidate=1)
    result = run.job.result_path.read_bytes()
    ended = wait(run.start("r0c0"))
    assert ended.exit_code == EXIT_STOOD_DOWN
    said = "kinetic: this process ends, and calls nothing: another accelerator of the list was"
    assert ended.output == f"{said} first\n"
    assert run.called() == {"c1"}
    assert run.job.result_path.read_bytes() == result


def test_of_processes_that_start_at_the_same_instant_one_calls_the_function(run: Listed) -> None:
    variables = [run.variables(f"r0c{number}") for number in range(4)]
    processes = [start_runner(each) for each in variables]
    codes = sorted(wait(each).exit_code for each in processes)
    assert codes == [EXIT_RETURNED, *[EXIT_STOOD_DOWN] * 3]
    assert run.called() == {f"c{run.claim().candidate}"}


def test_nothing_is_fetched_or_reported_for_a_round_that_was_given_up(run: Listed) -> None:
    with serve() as prefect:
        run.job.prefect_url = prefect.url
        variables = run.variables("r0c0")
        # Whatever it fetched would make it fail.
        (run.root / payload_object(RUN_ID)).unlink()
        run.put(claim_object(RUN_ID, 0), Claim(candidate=None, why="no v6e in the zone"))
        ended = wait(start_runner(variables))
        assert ended.exit_code == EXIT_STOOD_DOWN
        assert "calls nothing: no v6e in the zone" in ended.output
        assert not run.job.result_path.exists()
        assert prefect.requests == []


@pytest.mark.parametrize("launch", ["", "r0", "r0c2"])
def test_a_process_that_is_told_of_another_launch_leaves_no_result(
    run: Listed, launch: str
) -> None:
    ended = wait(run.start("r0c1", KINETIC_LAUNCH=launch))
    assert ended.exit_code == EXIT_BAD_LAUNCH
    assert f"KINETIC_LAUNCH is {launch!r} and must name a start of accelerator 1" in ended.errors
    assert not run.job.result_path.exists()


def test_a_round_that_follows_is_no_restart_but_counts_what_had_begun(run: Listed) -> None:
    assert wait(run.start("r0c0")).exit_code == EXIT_RETURNED
    run.job.result_path.unlink()
    (run.seen / "c0").unlink()
    run.put(claim_object(RUN_ID, 1), Claim(candidate=None, why="given up"))
    ended = wait(run.start("r2c0"))
    assert ended.exit_code == EXIT_RETURNED
    assert run.job.value() == ("c0", "1", "r2c0")
    assert run.job.envelope().header.attempt == 1
    assert (run.root / f"runs/{RUN_ID}/rounds/2/attempts/0/started.json").exists()


@pytest.mark.parametrize("preemptions", [0, 1])
def test_a_start_after_a_preemption_tells_of_it(run: Listed, preemptions: int) -> None:
    with serve() as prefect:
        run.job.prefect_url = prefect.url
        variables = run.variables("r2c1")
        run.put(round_object(RUN_ID, 0), Round(candidates=(0,)))
        run.put(claim_object(RUN_ID, 0), Claim(candidate=0))
        why = "chip-0: Google took its Spot VM"
        run.put(round_object(RUN_ID, 1), Round(candidates=(0,), why=why, preemptions=preemptions))
        run.put(claim_object(RUN_ID, 1), Claim(candidate=None, why="no room"))
        run.put(round_object(RUN_ID, 2), Round(candidates=(1,), preemptions=preemptions))
        assert wait(start_runner(variables)).exit_code == EXIT_RETURNED
    told = [(event["event"], event["payload"]) for event in prefect.events]
    assert told == [("kinetic.run.preempted", {"reason": why, "restarts": 1})] * preemptions


def test_a_process_that_is_back_late_leaves_the_run_to_the_next_round(run: Listed) -> None:
    variables = run.variables("r0c0")
    run.put(claim_object(RUN_ID, 0), Claim(candidate=0))
    run.put(round_object(RUN_ID, 1), Round(candidates=(1,), why="preempted"))
    assert wait(start_runner(variables)).exit_code == EXIT_STOOD_DOWN
    assert run.called() == set()


def test_a_process_that_is_back_before_that_goes_on(run: Listed) -> None:
    variables = run.variables("r0c0")
    run.put(claim_object(RUN_ID, 0), Claim(candidate=0))
    assert wait(start_runner(variables)).exit_code == EXIT_RETURNED


class TestSeveralHosts:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Listed:
        source = NOTES_WHERE.replace(
            "Path(directory, where)",
            'Path(directory, where + "-" + os.environ["JOB_COMPLETION_INDEX"])',
        )
        return Listed(tmp_path, source, hosts=2)

    def _up(self, run: Listed, host: int) -> Path:
        return run.root / f"runs/{RUN_ID}/rounds/0/up/c0-host-{host}.json"

    @pytest.mark.parametrize("first", [0, 1])
    def test_the_round_is_claimed_when_all_of_them_are_up(self, run: Listed, first: int) -> None:
        processes = [run.start("r0c0", JOB_COMPLETION_INDEX=str(first))]
        wait_until(self._up(run, first).exists)
        assert not (run.root / claim_object(RUN_ID, 0)).exists()
        processes.append(run.start("r0c0", JOB_COMPLETION_INDEX=str(1 - first)))
        assert [wait(each).exit_code for each in processes] == [EXIT_RETURNED] * 2
        assert run.claim() == Claim(candidate=0)
        assert run.called() == {"c0-0", "c0-1"}

    @pytest.mark.parametrize("host", [0, 1])
    def test_those_that_are_up_stand_down_as_soon_as_another_has_the_round(
        self, run: Listed, host: int
    ) -> None:
        process = run.start("r0c0", JOB_COMPLETION_INDEX=str(host))
        wait_until(self._up(run, host).exists)
        run.put(claim_object(RUN_ID, 0), Claim(candidate=1))
        assert wait(process).exit_code == EXIT_STOOD_DOWN

    def test_one_that_waits_ends_when_it_is_stopped(self, run: Listed) -> None:
        process = run.start("r0c0", JOB_COMPLETION_INDEX="0")
        wait_until(self._up(run, 0).exists)
        process.send_signal(signal.SIGTERM)
        assert wait(process).exit_code == EXIT_TERMINATED
        assert not run.job.result_path.exists()


def test_one_that_runs_out_of_memory_leaves_the_run_to_a_larger_one(tmp_path: Path) -> None:
    run = Listed(tmp_path, RUNS_OUT_ONCE, retries=3)
    ended = wait(start_runner(run.variables("r0c0", moves_on=True)))
    assert ended.exit_code == EXIT_MOVED_ON
    assert not run.job.result_path.exists()
    end = End(**read_json(run.root / round_end_object(RUN_ID, 0)))
    exhausted = "RESOURCE_EXHAUSTED: Out of memory allocating 17 GB."
    assert end == End(cause="out_of_memory", message=f"XlaRuntimeError: {exhausted}")
    assert f"{end.message}: the run goes on with a larger accelerator of its list" in ended.output
    assert (run.seen / "calls").read_text() == "called\n", "it was tried again in vain"


def test_one_that_is_the_largest_fails(tmp_path: Path) -> None:
    run = Listed(tmp_path, RUNS_OUT_ONCE)
    assert wait(run.start("r0c0")).exit_code == EXIT_RAISED
    assert run.job.envelope().header.type_name == "ValueError"
    assert not (run.root / round_end_object(RUN_ID, 0)).exists()


def test_the_host_that_runs_out_of_memory_speaks_for_all(tmp_path: Path) -> None:
    source = """
        import os, time
        from pathlib import Path

        def main(directory):
            if os.environ["JOB_COMPLETION_INDEX"] == "1":
                Path(directory, "gone").touch()
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            while not Path(directory, "gone").exists():
                time.sleep(0.01)
            raise ConnectionError("host 1 does not answer")
    """
    run = Listed(tmp_path, source, hosts=2)
    variables = run.variables("r0c0", moves_on=True)
    first, second = (
        start_runner({**variables, "JOB_COMPLETION_INDEX": str(host)}) for host in range(2)
    )
    assert wait(second).exit_code == EXIT_MOVED_ON
    # What it failed with because of that is nothing to tell, nor does it end before it is ended.
    assert first.stdout
    assert any(b"this one waits to be ended" in line for line in first.stdout)
    first.terminate()
    assert wait(first).exit_code == EXIT_TERMINATED
    assert not run.job.result_path.exists()


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


class OutOfMemoryError(RuntimeError):
    """Called as PyTorch's is."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OutOfMemoryError("CUDA out of memory."), "OutOfMemoryError: CUDA out of memory."),
        (
            RuntimeError("CUDA out of memory. Tried to allocate\nmore"),
            "RuntimeError: CUDA out of memory. Tried to allocate",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm."),
            "RuntimeError: RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem."),
            "",
        ),
        (RuntimeError("RESOURCE_EXHAUSTED: Received message larger than max"), ""),
        (_caused(KeyError("x"), OutOfMemoryError("all")), "OutOfMemoryError: all"),
        (
            ExceptionGroup("two", [ValueError("x"), OutOfMemoryError("one")]),
            "OutOfMemoryError: one",
        ),
        (MemoryError("Unable to allocate 1 PiB"), ""),
        (ValueError("CUDA out of memory"), ""),
    ],
)
def test_what_says_that_the_memory_of_chips_has_run_out(error: Exception, told: str) -> None:
    assert out_of_memory(error) == told


def test_an_exception_that_leads_to_itself_is_looked_at_once() -> None:
    error = ValueError("round and round")
    other = _caused(KeyError("and"), error)
    _caused(error, other)
    assert out_of_memory(error) == ""
