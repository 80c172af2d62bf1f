"""The output directory of a run, in the runner as it starts: decided, had alone, and made."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kinetic_flows.runner_image.runner import output_leases
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.output_leases import Lease, lease_object, take
from kinetic_flows.runner_image.runner.prefect_api import PrefectApi
from kinetic_flows.runner_image.runner.stores import BucketStore, DirectoryStore

from kinetic_flows.core.job import EXIT_OUTPUT_DIR_UNAVAILABLE, EXIT_PARAMETERS_UNAVAILABLE
from kinetic_flows.core.output_dirs import plain_arguments_hash
from loopback.storage_wire import WireStorage
from prefect_wire import serve
from runner_jobs import RUN_ID, Ended, Job, wait

OTHER = "99999999-2222-3333-4444-555555555555"
SOURCE = """
    import os
    def main(rate=0.5, name="a"):
        directory = os.environ["KINETIC_OUTPUT_DIR"]
        return directory, sorted(os.listdir(directory)) if "://" not in directory else None
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job whose function tells of its directory."""
    return Job(tmp_path / "store", source=SOURCE)


def named(job: Job, directory: object, **output: Any) -> Path:
    """Have a job name its directory; return where the lease of that is."""
    spec = {"directory": str(directory), "in_use": "refuse", "arguments": {}, **output}
    job.changes = {**job.changes, "output": spec, "output_dir": str(directory)}
    return job.root / lease_object(str(directory))


def leave_lease(path: Path, run_id: str, **found: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"run_id": run_id, **found}))


def holder(path: Path) -> str:
    return str(json.loads(path.read_text())["run_id"])


def leave_result(job: Job, run_id: str) -> None:
    result = job.root / "runs" / run_id / "result.pkl"
    result.parent.mkdir(parents=True)
    result.write_bytes(b"whatever it is")


def test_a_named_directory_is_made_and_used_as_it_is(job: Job, tmp_path: Path) -> None:
    lease = named(job, tmp_path / "named" / "deep")
    assert job.run().exit_code == 0
    assert job.value() == (str(tmp_path / "named" / "deep"), [])
    assert holder(lease) == RUN_ID


def test_a_run_finds_what_an_earlier_one_has_left(job: Job, tmp_path: Path) -> None:
    lease = named(job, tmp_path)
    leave_lease(lease, OTHER)
    leave_result(job, OTHER)
    (tmp_path / "step-3").touch()
    assert job.run().exit_code == 0
    assert "step-3" in job.value()[1]
    assert holder(lease) == RUN_ID


def test_a_directory_in_a_bucket_is_passed_on(job: Job) -> None:
    lease = named(job, "gs://bucket/named")
    assert job.run().exit_code == 0
    assert job.value() == ("gs://bucket/named", None)
    assert holder(lease) == RUN_ID


def test_where_a_bucket_is_mounted_the_lease_is_that_of_its_uri(job: Job, tmp_path: Path) -> None:
    named(job, tmp_path / "mounted" / "a", uri="gs://bucket/a")
    assert job.run().exit_code == 0
    assert job.value() == (str(tmp_path / "mounted" / "a"), [])
    assert holder(job.root / lease_object("gs://bucket/a")) == RUN_ID


def test_a_run_whose_directory_another_writes_to_says_so_before_it_begins(
    job: Job, tmp_path: Path
) -> None:
    lease = named(job, tmp_path / "named")
    leave_lease(lease, OTHER)
    ended = job.run()
    assert ended.exit_code == EXIT_OUTPUT_DIR_UNAVAILABLE
    header = job.envelope().header
    assert (header.status, header.exit_code) == ("crashed", EXIT_OUTPUT_DIR_UNAVAILABLE)
    assert f"run {OTHER} writes to {tmp_path / 'named'}" in header.message
    assert holder(lease) == OTHER
    assert not (tmp_path / "named").exists()


def test_a_run_that_is_started_again_has_its_own_directory(job: Job, tmp_path: Path) -> None:
    leave_lease(named(job, tmp_path / "named"), RUN_ID)
    assert job.run().exit_code == 0


def test_a_run_that_was_taken_for_dead_does_not_write_beside_its_successor(
    job: Job, tmp_path: Path
) -> None:
    lease = named(job, tmp_path / "named")
    job.write()
    leave_lease(lease, OTHER)
    assert job.again().exit_code == EXIT_OUTPUT_DIR_UNAVAILABLE


def test_a_damaged_lease_is_nobodys(job: Job, tmp_path: Path) -> None:
    for damage in (b"", b"{", b"[1]", b"\xff", b'{"run_id": "../../x"}', b'{"run_id": 3}'):
        lease = named(job, tmp_path / "named")
        lease.parent.mkdir(parents=True, exist_ok=True)
        lease.write_bytes(damage)
        store = DirectoryStore(str(job.root))
        take(Lease(str(tmp_path / "named"), False, store, None, {**OWN}), 0, print)
        assert holder(lease) == RUN_ID


OWN = {"run_id": RUN_ID, "name": "main", "prefect": None}


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED", ""])
def test_a_run_that_is_over_for_prefect_has_no_directory_any_more(
    job: Job, tmp_path: Path, state: str
) -> None:
    lease = named(job, tmp_path / "named")
    leave_lease(lease, OTHER)
    with serve() as prefect:
        prefect.other_runs = {OTHER: state}
        job.prefect_url = prefect.url
        assert job.run().exit_code == 0
    assert holder(lease) == RUN_ID


def test_a_run_that_goes_on_for_prefect_has_its_directory(job: Job, tmp_path: Path) -> None:
    leave_lease(named(job, tmp_path / "named"), OTHER)
    with serve() as prefect:
        prefect.other_runs = {OTHER: "RUNNING"}
        job.prefect_url = prefect.url
        assert job.run().exit_code == EXIT_OUTPUT_DIR_UNAVAILABLE
        assert prefect.state_names[-1] == "Crashed"


@pytest.mark.parametrize("known_here", [True, False])
def test_a_run_that_this_prefect_does_not_know_is_over_only_if_it_would(
    job: Job, tmp_path: Path, *, known_here: bool
) -> None:
    lease = named(job, tmp_path / "named")
    with serve() as prefect:
        prefect.other_runs = {OTHER: ""}
        api_url = prefect.url if known_here else "https://prefect.example/api"
        leave_lease(lease, OTHER, api_url=api_url)
        job.prefect_url = prefect.url
        ended = job.run()
    assert ended.exit_code == (0 if known_here else EXIT_OUTPUT_DIR_UNAVAILABLE)
    assert holder(lease) == (RUN_ID if known_here else OTHER)
    assert known_here or lease.name in job.envelope().header.message


def test_a_run_may_wait_for_another_ones_end(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_leases, "LOOK_SECONDS", 0.01)
    directory, store = tmp_path / "named", DirectoryStore(str(job.root))
    lease = named(job, directory)
    leave_lease(lease, OTHER)
    waits = threading.Event()
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    wanted = Lease(str(directory), True, store, None, OWN)
    waiting = threading.Thread(target=take, args=(wanted, 0, say))
    waiting.start()
    assert waits.wait(20)
    assert waiting.is_alive()
    leave_result(job, OTHER)
    waiting.join(20)
    assert not waiting.is_alive()
    assert said == [f"run {OTHER} writes to {directory}, and has not ended: waiting for it"]
    assert holder(lease) == RUN_ID


def test_a_run_that_waits_can_be_cancelled(job: Job, tmp_path: Path) -> None:
    leave_lease(named(job, tmp_path / "named", in_use="wait"), OTHER)
    with serve() as prefect:
        prefect.other_runs = {OTHER: "RUNNING"}
        job.prefect_url = prefect.url
        running = job.start()
        while not any("waiting for it" in line for line in prefect.messages):
            assert running.poll() is None
        prefect.cancel()
        ended = wait(running)
    assert ended.exit_code == 130
    assert prefect.state_names[-1] == "Cancelled"


def test_other_hosts_of_a_slice_await_the_first(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_leases, "LOOK_SECONDS", 0.01)
    store = DirectoryStore(str(job.root))
    wanted = Lease(str(tmp_path), False, store, None, OWN)
    second = threading.Thread(target=take, args=(wanted, 1, pytest.fail))
    second.start()
    take(wanted, 0, pytest.fail)
    second.join(20)
    assert not second.is_alive()


# Where parameters decide


def start_for_a_deployment(job: Job, url: str) -> Ended:
    job.changes = {
        **job.changes,
        "run_id": "",
        "result": "",
        "output_dir": str(job.root / "outputs"),
        "prefect": {"api_url": "", "flow_run_id": "", "parameters": True, "engine": False},
    }
    return wait(job.start(PREFECT_API_URL=url, PREFECT__FLOW_RUN_ID=RUN_ID))


def test_parameters_decide_the_directory_of_a_deployments_run(job: Job, tmp_path: Path) -> None:
    template = tmp_path / "{rate}" / "{name}-{arguments_hash}"
    named(job, template, arguments={"rate": 0.5, "name": "a"})
    with serve() as prefect:
        prefect.parameters = {"name": "b"}
        ended = start_for_a_deployment(job, prefect.url)
        labels = prefect.labels
    assert ended.exit_code == 0, ended.output + ended.errors
    digest = plain_arguments_hash({"rate": 0.5, "name": "b"})
    exact = str(tmp_path / "0.5" / f"b-{digest}")
    assert job.value() == (exact, [])
    assert labels["kinetic.output-dir"] == exact
    assert holder(job.root / lease_object(exact)) == RUN_ID


def test_parameters_decide_a_uri_that_is_mounted_as_well(job: Job, tmp_path: Path) -> None:
    template = tmp_path / "{rate}"
    named(job, template, arguments={"rate": 0.5}, uri="gs://bucket/{rate}")
    with serve() as prefect:
        ended = start_for_a_deployment(job, prefect.url)
        labels = prefect.labels
    assert ended.exit_code == 0, ended.output + ended.errors
    assert job.value() == (str(tmp_path / "0.5"), [])
    assert labels["kinetic.output-dir"] == "gs://bucket/0.5"


def test_a_parameter_that_is_no_part_of_a_path_is_named(job: Job, tmp_path: Path) -> None:
    named(job, tmp_path / "{rate}", arguments={"rate": 0.5})
    with serve() as prefect:
        prefect.parameters = {"rate": [1]}
        ended = start_for_a_deployment(job, prefect.url)
    assert ended.exit_code == EXIT_PARAMETERS_UNAVAILABLE
    assert "and rate is [1]" in ended.output


# The store


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store of each kind."""
    if request.param == "directory":
        yield DirectoryStore(str(tmp_path))
        return
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    wire = WireStorage().start()
    wire.create_bucket("bucket")
    client = Client(
        project="p",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": wire.url},
    )
    yield BucketStore(client, "bucket", "jobs")
    client.close()
    wire.stop()


def test_a_store_replaces_only_what_has_not_changed(store: Any) -> None:
    assert store.read_generation("a") == (None, None)
    assert store.replace("a", b"1", None)
    assert not store.replace("a", b"2", None)
    data, generation = store.read_generation("a")
    assert data == b"1"
    assert store.replace("a", b"2", generation)
    assert not store.replace("a", b"3", generation)
    assert store.read("a") == b"2"


def test_of_many_runs_one_has_a_directory(store: Any) -> None:
    refused: list[str] = []

    def begin(run_id: str) -> None:
        lease = Lease("/somewhere", False, store, None, {**OWN, "run_id": run_id})
        try:
            take(lease, 0, print)
        except Fault as fault:
            refused.append(f"{run_id}: {fault}")

    threads = [
        threading.Thread(target=begin, args=(str(UUID(int=number + 1)),)) for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(refused) == 5
    winner = json.loads(store.read(lease_object("/somewhere")))["run_id"]
    assert all(f"run {winner} writes to /somewhere" in text for text in refused)


def test_prefect_that_does_not_answer_frees_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    leave_lease(tmp_path / lease_object("/somewhere"), OTHER)
    api = PrefectApi("http://127.0.0.1:9/api", RUN_ID, {})
    with pytest.raises(Fault, match=f"run {OTHER} writes to /somewhere"):
        take(Lease("/somewhere", False, store, api, OWN), 0, print)
    assert holder(tmp_path / lease_object("/somewhere")) == OTHER
