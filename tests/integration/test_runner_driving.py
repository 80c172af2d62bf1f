"""The process that drives a run with a list of accelerators, against a real Prefect server.

The test is the worker: it starts what has been created for it, or does not.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import prefect_api as runner_api
from kinetic_flows.runner_image.runner.launches import Launches, Planned
from kinetic_flows.runner_image.runner.rounds import Seen
from prefect_workers import eventually

from kinetic_flows.clients.prefect.api import NewRun, PrefectApi
from kinetic_flows.clients.prefect.labels import ACCELERATOR_LABEL, STORE_LABEL
from kinetic_flows.clients.prefect.work_pools import (
    WorkPools,
    ensure_worker_pool,
    process_job_template,
)
from kinetic_flows.core.candidates import Candidate, Candidates
from kinetic_flows.core.envelope import open_result
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import CandidateSpec
from kinetic_flows.core.object_names import candidates_object, claim_object, result_object
from kinetic_flows.platforms.local.platform import LocalPlatform
from runner_jobs import RUN_KEY, Ended, Job, start_runner, wait

POOL, NARROW = "driven-by-hand", "one-at-a-time"
ANSWERS = """
    import os, time
    from pathlib import Path

    def main(directory):
        restarts = os.environ["KINETIC_RESTART_COUNT"]
        Path(directory, "called-" + restarts).touch(exist_ok=False)
        if Path(directory, "waits").exists():
            if restarts == "0":
                time.sleep(600)
            if restarts == "1":
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB.")
        return restarts
"""


class Driven:
    """A run with two accelerators, its driver, and what this test starts of its launches.

    Args:
        directory: Where its store is.
        api: Where it reports.
        pool: Its work pool.
        options: How it goes through its list.
    """

    def __init__(
        self, directory: Path, api: PrefectApi, *, pool: str = POOL, **options: Any
    ) -> None:
        self.api = api
        self.seen = directory / "seen"
        self.seen.mkdir()
        self.root = directory / "store"
        self._job = Job(self.root, source=ANSWERS, args=(str(self.seen),))
        new = NewRun(
            flow="main",
            name="main()",
            parent_flow_run_id=None,
            parameters={},
            tags=(),
            labels={STORE_LABEL: "here"},
            job_variables={},
            work_pool=pool,
            work_queue=NARROW if pool == POOL else None,
        )
        self.run_id = api.create_run(new)
        listed = Candidates(
            candidates=tuple(self._candidate(number) for number in range(2)),
            function="main",
            **options,
        )
        self._listed = self._job.put("runs/for-a-worker-1/candidates.json", listed.to_json())
        self._processes: list[subprocess.Popen[bytes]] = []

    def drive(self) -> subprocess.Popen[bytes]:
        """Start the driver, as a worker does for the run itself."""
        variables = self._write("job", drives=asdict(self._listed), candidate=None)
        return self._start({**variables, "KINETIC_RUN_KEY": RUN_KEY}, self.run_id)

    def created(self, launch: str) -> dict[str, Any]:
        """Wait until the driver has created a launch's flow run, and return it."""
        (found,) = eventually(lambda: self.launches(launch))
        return found

    def launches(self, launch: str) -> list[dict[str, Any]]:
        """Return the flow runs of a launch."""
        which = {"flow_runs": {"idempotency_key": {"any_": [f"{self.run_id}-{launch}"]}}}
        found = self.api.client.request("POST", "/flow_runs/filter", json=which).json()
        return list(found)

    def take(self, launch: str) -> subprocess.Popen[bytes]:
        """Start a launch's process, as a worker does."""
        flow_run = self.created(launch)
        self.api.set_state(flow_run["id"], "PENDING")
        return self._start(flow_run["job_variables"]["env"], flow_run["id"])

    def end(self) -> None:
        """End what the test has left."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def _start(self, variables: dict[str, str], flow_run: str) -> subprocess.Popen[bytes]:
        told = {"PREFECT__FLOW_RUN_ID": flow_run, "PREFECT_API_URL": self.api.url}
        process = start_runner({**variables, **told})
        self._processes.append(process)
        return process

    def _candidate(self, number: int) -> Candidate:
        spec = CandidateSpec(number=number, accelerator=f"chip-{number}", moves_on=not number)
        env = self._write(f"job-{number}", candidate=asdict(spec))
        return Candidate(
            accelerator=spec.accelerator,
            image={},
            job=f"runs/for-a-worker-1/job-{number}.json",
            job_sha256=env["KINETIC_JOB_SHA256"],
            job_variables={"env": env},
            memory_gb=16 * (number + 1),
        )

    def _write(self, name: str, **changes: Any) -> dict[str, str]:
        """Write a job that names no run, as it is written before there is one."""
        self._job.write()
        document = json.loads(self._job.job_path.read_text())
        prefect = {"api_url": "", "flow_run_id": "", "parameters": False, "engine": False}
        of_no_run = {"run_id": "", "result": "", "output_dir": str(self.root / "outputs")}
        data = canonical_json({**document, **of_no_run, "prefect": prefect, **changes})
        ref = self._job.put(f"runs/for-a-worker-1/{name}.json", data)
        return {
            "KINETIC_JOB": f"{self.root.as_uri()}/{ref.name}",
            "KINETIC_JOB_SHA256": sha256_hex(data),
            "KINETIC_STORE": self.root.as_uri(),
        }

    # What is to be seen of it

    @property
    def lines(self) -> list[str]:
        """The run's log."""
        return [line.message for line in self.api.logs(self.run_id)]

    def claim(self, number: int) -> dict[str, Any]:
        """Return a round's claim."""
        found: dict[str, Any] = json.loads(
            (self.root / claim_object(self.run_id, number)).read_text()
        )
        return found

    def result(self) -> Any:
        """Return the header of the run's result."""
        data = (self.root / result_object(self.run_id)).read_bytes()
        return open_result(data, RUN_KEY, self.run_id).header

    def state_of(self, launch: str) -> str:
        """Return the name of a launch's state."""
        return str(self.created(launch)["state"]["name"])


@pytest.fixture
def made(tmp_path: Path, api: PrefectApi) -> Iterator[list[Driven]]:
    """Drivers of a test, which are ended with it."""
    pools = WorkPools(api.url)
    pools.create(POOL, "process", process_job_template())
    pools.limit_queue(POOL, NARROW, 1)
    runs: list[Driven] = []
    yield runs
    for run in runs:
        run.end()


def _driven(made: list[Driven], tmp_path: Path, api: PrefectApi, **options: Any) -> Driven:
    made.append(Driven(tmp_path, api, **options))
    return made[-1]


def _ended(process: subprocess.Popen[bytes]) -> Ended:
    return wait(process, 60)


def test_the_first_of_a_race_calls_the_function_and_the_others_are_withdrawn(
    made: list[Driven], tmp_path: Path, api: PrefectApi
) -> None:
    run = _driven(made, tmp_path, api, strategy="race")
    driver = run.drive()
    late = run.created("r0c0")
    assert _ended(run.take("r0c1")).exit_code == 0
    assert _ended(driver).exit_code == 0
    record = api.read_run(run.run_id)
    assert record.state_type == "COMPLETED"
    assert record.labels[ACCELERATOR_LABEL] == "chip-1"
    assert run.result().status == "returned"
    assert (run.root / candidates_object(run.run_id)).exists()
    lines = run.lines
    assert "kinetic: race: chip-0, chip-1 are asked for at once" in lines
    (won,) = (line for line in lines if "was first" in line)
    assert won.startswith("kinetic: race: chip-1 was first after ")
    assert won.endswith("; chip-0 is withdrawn")
    assert (run.state_of("r0c0"), run.state_of("r0c1")) == ("Cancelled", "Completed")
    assert late["name"] == "main on chip-0 (r0c0)"
    assert late["labels"][STORE_LABEL] == "here"
    assert late["work_queue_name"] == "default", "the driver has the only place of its own"
    # It shows below the run, whose log it writes to.
    parent = api.client.read_task_run(late["parent_task_run_id"])
    assert str(parent.flow_run_id) == run.run_id


def test_a_run_goes_through_its_list_and_back_whatever_becomes_of_its_driver(
    made: list[Driven], tmp_path: Path, api: PrefectApi
) -> None:
    run = _driven(
        made, tmp_path, api, fallback_after_seconds=2.0, max_preemptions=1, on_oom="larger"
    )
    (run.seen / "waits").touch()
    driver = run.drive()
    run.created("r0c0")
    driver.kill()
    driver = run.drive()
    winner = run.take("r1c1")
    why = "chip-0: nothing in 2.0 s (no worker has taken it yet)"
    eventually(lambda: f"kinetic: {why}; chip-1 is tried" in run.lines)
    eventually((run.seen / "called-0").exists)
    driver.kill()
    driver = run.drive()
    winner.terminate()
    assert _ended(winner).exit_code == 143
    assert run.state_of("r1c1") == "Terminated"
    assert _ended(run.take("r2c0")).exit_code == 54
    assert _ended(run.take("r3c1")).exit_code == 0
    assert _ended(driver).exit_code == 0
    assert run.result().attempt == 2
    assert run.claim(0)["why"] == why
    back = "its list is tried from the beginning (1 of at most 1 times)"
    assert f"kinetic: chip-1: its process was stopped from outside; {back}" in run.lines
    exhausted = "RuntimeError: CUDA out of memory. Tried to allocate 20 GiB."
    larger = "chip-1, which has more memory, is tried"
    assert f"kinetic: chip-0: {exhausted}; {larger}" in run.lines
    launches = ("r0c0", "r1c1", "r2c0", "r2c1", "r3c1", "r4c0")
    assert [len(run.launches(each)) for each in launches] == [1, 1, 1, 0, 1, 0]


def test_a_run_that_has_tried_everything_says_what_and_why(
    made: list[Driven], tmp_path: Path, api: PrefectApi
) -> None:
    run = _driven(made, tmp_path, api)
    driver = run.drive()
    for launch in ("r0c0", "r1c1"):
        flow_run = run.created(launch)
        api.set_state(flow_run["id"], "CRASHED", message=f"no image for {launch}")
    assert _ended(driver).exit_code == 0
    record = api.read_run(run.run_id)
    tried = "\n  - chip-0: no image for r0c0; chip-1 is tried\n  - chip-1: no image for r1c1"
    assert record.state_type == "CRASHED"
    assert record.message == f"none of its accelerators could be had:{tried}"


def test_a_work_pool_that_has_a_place_for_the_driver_alone_is_told_of(
    made: list[Driven], tmp_path: Path, api: PrefectApi
) -> None:
    pool = LocalPlatform(tmp_path / "home", {}).worker_pool
    WorkPools(api.url).create(pool.name, pool.type, pool.template())
    path = f"/work_pools/{pool.name}"
    api.client.request("PATCH", path, json={"concurrency_limit": 1}).raise_for_status()
    try:
        with pytest.raises(LaunchError, match="lets 1 flow run go on at a time") as refused:
            ensure_worker_pool(pool, (), api.url, drives=True)
        assert not ensure_worker_pool(pool, (), api.url)
        # It may have been given its limit since.
        run = _driven(made, tmp_path, api, pool=pool.name)
        assert _ended(run.drive()).exit_code == 0
    finally:
        api.client.request("PATCH", path, json={"concurrency_limit": None}).raise_for_status()
    way_out = f"kinetic prefect work-pool set-concurrency-limit {pool.name} 2"
    assert way_out in str(refused.value)
    record = api.read_run(run.run_id)
    assert record.state_type == "CRASHED"
    assert way_out in record.message
    assert not run.launches("r0c0")


def test_a_launch_is_found_whose_creation_was_never_answered(
    made: list[Driven], tmp_path: Path, api: PrefectApi
) -> None:
    run = _driven(made, tmp_path, api)

    def launches() -> Launches:
        return Launches(runner_api.PrefectApi(api.url, run.run_id, os.environ), run.run_id)

    launches().start(Planned("r0c0", "main on chip-0", {}))
    assert launches().see("r0c0") == Seen(message="no worker has taken it yet")
    assert launches().see("r0c1") == Seen(is_final=True, message="its flow run was deleted")


def test_a_run_that_has_begun_ends_with_its_process(
    made: list[Driven], tmp_path: Path, api: PrefectApi
) -> None:
    run = _driven(made, tmp_path, api)
    (run.seen / "waits").touch()
    driver = run.drive()
    winner = run.take("r0c0")
    eventually((run.seen / "called-0").exists)
    winner.kill()
    api.set_state(run.created("r0c0")["id"], "CRASHED", message="Kubernetes job was deleted")
    assert _ended(driver).exit_code == 0
    record = api.read_run(run.run_id)
    assert (record.state_type, record.message) == (
        "CRASHED",
        "chip-0: Kubernetes job was deleted",
    )
    assert not run.launches("r1c1")


def test_of_a_run_that_is_cancelled_nothing_begins_any_more(
    made: list[Driven], tmp_path: Path, api: PrefectApi
) -> None:
    run = _driven(made, tmp_path, api, strategy="race")
    driver = run.drive()
    run.created("r0c1")
    api.set_state(run.run_id, "CANCELLING")
    assert _ended(driver).exit_code == 0
    assert api.read_run(run.run_id).state_type == "CANCELLED"
    assert run.state_of("r0c0") == run.state_of("r0c1") == "Cancelled"
    assert run.claim(0)["is_over"] is True
