"""How the function's process finds the other hosts of its run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import hosts, jax_hosts, siblings
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.stores import DirectoryStore

from runner_jobs import Job

COORDINATOR = {"KINETIC_HOSTS": "4", "KINETIC_COORDINATOR_ADDRESS": "train-0.kinetic-hosts:8476"}


def test_torch_and_jax_are_told_in_their_own_words() -> None:
    assert hosts.host_variables(2, 4, COORDINATOR) == {
        "KINETIC_HOST": "2",
        "JAX_COORDINATOR_ADDRESS": "train-0.kinetic-hosts:8476",
        "MASTER_ADDR": "train-0.kinetic-hosts",
        "MASTER_PORT": "29500",
        "RANK": "2",
        "WORLD_SIZE": "4",
        "NODE_RANK": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }


def test_what_the_environment_says_stays() -> None:
    told = hosts.host_variables(0, 4, {**COORDINATOR, "MASTER_PORT": "1234"})
    assert "MASTER_PORT" not in told
    assert told["MASTER_ADDR"] == "train-0.kinetic-hosts"


def test_tpus_are_left_to_what_gke_tells_them() -> None:
    environ = {**COORDINATOR, "KINETIC_DEVICES": "tpu:4"}
    assert hosts.host_variables(1, 4, environ) == {"KINETIC_HOST": "1"}


def test_a_run_on_one_host_is_told_nothing() -> None:
    assert hosts.host_variables(0, 1, {}) == {}


@pytest.mark.parametrize(
    ("environ", "number"),
    [
        ({"JOB_COMPLETION_INDEX": "1"}, 1),
        ({"JOB_COMPLETION_INDEX": "1", "KINETIC_SLICES": "2", "KINETIC_SLICE": "0"}, 1),
        ({"JOB_COMPLETION_INDEX": "1", "KINETIC_SLICES": "2", "KINETIC_SLICE": "1"}, 3),
        ({"KINETIC_SLICES": "4", "KINETIC_SLICE": "3"}, 3),
    ],
)
def test_hosts_of_slices_are_counted_one_after_another(
    environ: dict[str, str], number: int
) -> None:
    assert hosts.host_number(4, environ) == number


@pytest.mark.parametrize(
    "environ", [{}, {"JOB_COMPLETION_INDEX": "1", "KINETIC_SLICES": "2"}, {"KINETIC_SLICES": "two"}]
)
def test_a_host_that_is_told_no_number_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(Fault, match="must be set for a run on several hosts"):
        hosts.host_number(4, environ)


def test_a_process_that_never_began_is_waited_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"hosts": 2, "result": "runs/run/result.pkl"}
    environ = {"KINETIC_HOSTS_DIRECTORY": str(tmp_path)}
    last = siblings.Siblings(DirectoryStore(str(tmp_path)), job, 1, "run", environ)
    assert last.lost() is None
    monkeypatch.setattr(siblings, "RECORDED_SECONDS", -1.0)
    assert last.lost() == 0
    (tmp_path / "process.json").touch()
    assert last.lost() is None, "it is recorded, and nothing says that it has ended"


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    local_device_ids: int | None = None,
    cluster_detection_method: str | None = None,
    initialization_timeout: int = 300,
) -> dict[str, Any]:
    """Take what `jax.distributed.initialize` takes, and return it."""
    return {name: value for name, value in locals().items() if value is not None}


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "train-0.kinetic-hosts:8476")
    monkeypatch.setenv("KINETIC_HOSTS", "2")
    monkeypatch.setenv("KINETIC_HOST", "1")


@pytest.mark.usefixtures("second_of_two")
def test_a_call_without_arguments_gets_those_of_the_run() -> None:
    assert jax_hosts.completed(initialize)(initialization_timeout=60) == {
        "coordinator_address": "train-0.kinetic-hosts:8476",
        "num_processes": 2,
        "process_id": 1,
        "cluster_detection_method": "deactivate",
        "initialization_timeout": 60,
    }


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize("said", [{"process_id": 0}, {"cluster_detection_method": "slurm"}])
def test_a_call_that_says_who_it_is_stays_as_it_is(said: dict[str, Any]) -> None:
    told = jax_hosts.completed(initialize)(**said)
    assert told == {**said, "initialization_timeout": 300}


@pytest.mark.usefixtures("second_of_two")
def test_an_older_jax_is_told_only_what_it_takes() -> None:
    def old(coordinator_address: Any = None, num_processes: Any = None) -> Any:
        return coordinator_address, num_processes

    assert jax_hosts.completed(old)() == ("train-0.kinetic-hosts:8476", 2)


def test_a_run_on_one_host_is_a_group_of_one() -> None:
    told = jax_hosts.completed(initialize)()
    assert told["coordinator_address"].startswith("localhost:")
    assert (told["num_processes"], told["process_id"]) == (1, 0)


@pytest.fixture
def job(tmp_path: Any) -> Iterator[Job]:
    """A job with a package that is called as JAX is, to see what becomes of its function."""
    source = """
        import jax
        def main():
            from jax.distributed import initialize
            return jax.distributed.initialize() == initialize(), initialize()
    """
    module = (
        "def initialize(coordinator_address=None, num_processes=None, process_id=None):\n"
        "    return num_processes\n"
    )
    files = {"jax/__init__.py": "from . import distributed\n", "jax/distributed.py": module}
    yield Job(tmp_path / "store", source=source, files=files)
    assert "jax.distributed" not in sys.modules


def test_the_function_is_changed_when_it_is_imported(job: Job) -> None:
    assert job.run().exit_code == 0
    assert job.value() == (True, 1)


def test_on_tpus_it_stays_as_it_is(job: Job) -> None:
    ended = job.run(KINETIC_DEVICES="tpu:4", KINETIC_DEVICE_CHECK="0")
    assert ended.exit_code == 0, ended.output
    assert job.value() == (True, None)
