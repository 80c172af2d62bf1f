"""The runner on a store in Cloud Storage, real and strict."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.code.pieces import upload_pieces
from kinetic_flows.core.job import EXIT_OBJECT_REFUSED, EXIT_OBJECT_UNAVAILABLE, RunTicket
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.results import read_result, unpack_result
from loopback.storage import StorageServer
from loopback.storage_wire import WireStorage
from loopback.wire import Fault
from runner_jobs import RUN_ID, RUN_KEY, Ended, Job, start_runner, wait
from sent_values import OWNER, packed, refs

pytest_plugins = ["loopback.fixtures"]

SOURCE = """
    import os
    def main(count):
        return os.urandom(1) * count, os.environ["KINETIC_RESTART_COUNT"]
"""


class BucketJob:
    """A job whose store is a bucket.

    Args:
        server: The storage server.
        bucket: The bucket's name.
        job: The job; what it writes to disk is uploaded.
    """

    def __init__(self, server: StorageServer | WireStorage, bucket: str, job: Job) -> None:
        server.create_bucket(bucket)
        self.job = job
        self.url = server.url
        client = storage.Client(
            project="p",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": server.url},
        )
        self.bucket = client.bucket(bucket)
        self.variables = job.write()
        self.variables["KINETIC_JOB"] = f"gs://{bucket}/team/a/runs/{RUN_ID}/job.json"
        for path in job.root.rglob("*"):
            if path.is_file():
                self.put(path.relative_to(job.root).as_posix(), path.read_bytes())

    def put(self, name: str, data: bytes) -> None:
        self.bucket.blob(f"team/a/{name}").upload_from_string(data)

    def run(self, variable: str = "STORAGE_EMULATOR_HOST") -> Ended:
        """Run, and bring the result to disk."""
        ended = wait(start_runner({**self.variables, variable: self.url}))
        result = self.bucket.blob(f"team/a/runs/{RUN_ID}/result.pkl")
        if result.exists():
            self.job.result_path.write_bytes(result.download_as_bytes())
        return ended


@pytest.fixture(params=["storage_server", "wire_storage"])
def in_bucket(request: pytest.FixtureRequest, bucket_name: str, tmp_path: Path) -> BucketJob:
    """A job on either server."""
    server = request.getfixturevalue(request.param)
    return BucketJob(server, bucket_name, Job(tmp_path / "store", source=SOURCE, args=(3,)))


@pytest.mark.parametrize("variable", ["STORAGE_EMULATOR_HOST", "KINETIC_STORAGE_EMULATOR"])
def test_a_job_in_a_bucket_runs(in_bucket: BucketJob, variable: str) -> None:
    ended = in_bucket.run(variable)
    assert ended.exit_code == 0, ended.errors + ended.output
    data, restarts = in_bucket.job.value()
    assert (len(data), restarts) == (3, "0")
    assert in_bucket.bucket.blob(f"team/a/runs/{RUN_ID}/attempts/0/started.json").exists()


def test_a_second_start_finds_the_first_ones_result(in_bucket: BucketJob) -> None:
    in_bucket.run()
    again = in_bucket.run()
    assert again.exit_code == 0
    assert "an earlier start of this run has left its result" in again.output


def test_starts_are_counted(in_bucket: BucketJob) -> None:
    in_bucket.run()
    in_bucket.bucket.blob(f"team/a/runs/{RUN_ID}/result.pkl").delete()
    assert in_bucket.run().exit_code == 0
    assert in_bucket.job.value()[1] == "1"


def test_a_tampered_object_is_refused(in_bucket: BucketJob) -> None:
    name = f"runs/{RUN_ID}/payload.pkl"
    in_bucket.put(name, b"x" * (in_bucket.job.root / name).stat().st_size)
    ended = in_bucket.run()
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert f"the object {name} is refused" in ended.output


def test_a_missing_object_is_named(in_bucket: BucketJob) -> None:
    name = f"runs/{RUN_ID}/payload.pkl"
    in_bucket.bucket.blob(f"team/a/{name}").delete()
    ended = in_bucket.run()
    assert ended.exit_code == EXIT_OBJECT_UNAVAILABLE
    assert f"the object {name} cannot be fetched" in ended.output


def test_a_missing_job_is_named(in_bucket: BucketJob) -> None:
    in_bucket.bucket.blob(f"team/a/runs/{RUN_ID}/job.json").delete()
    ended = in_bucket.run()
    assert ended.exit_code == EXIT_OBJECT_UNAVAILABLE
    assert f"runs/{RUN_ID}/job.json cannot be fetched" in ended.errors


@pytest.mark.parametrize("what", ["payload", "runners", "job.json"])
def test_an_object_cut_short_by_the_network_is_read_again(
    wire_storage: WireStorage, bucket_name: str, tmp_path: Path, what: str
) -> None:
    job = Job(tmp_path / "store", source=SOURCE, args=(3,))
    in_bucket = BucketJob(wire_storage, bucket_name, job)
    with wire_storage.server.fault(Fault(kind="truncate", method="GET", path=what)) as fault:
        ended = in_bucket.run()
    assert fault.times == 0
    assert ended.exit_code == 0, ended.errors + ended.output
    assert len(job.value()[0]) == 3


def test_large_objects_go_through_in_pieces(
    storage_server: StorageServer, bucket_name: str, tmp_path: Path
) -> None:
    size = 70 << 20
    job = Job(tmp_path / "store", source=SOURCE, args=(size,))
    job.files = {"big.bin": "0123456789abcdef" * (size // 16)}
    in_bucket = BucketJob(storage_server, bucket_name, job)
    ended = in_bucket.run()
    assert ended.exit_code == 0, ended.errors + ended.output
    assert len(job.value()[0]) == size


def test_large_values_go_through_as_their_memory(
    wire_storage: WireStorage, bucket_name: str, tmp_path: Path
) -> None:
    numbers = np.arange(4_500_000, dtype=np.float64)
    payload = packed(numbers)
    job = Job(tmp_path / "store", source="def main(numbers):\n    numbers *= 2\n    return numbers")
    upload_pieces(payload.pieces, LocalStore(job.root), OWNER)
    function = {"module": "app", "qualname": "main"}
    job.frame = pickle.dumps({**pickle.loads(payload.content), "function": function})
    job.changes = {"pieces": refs(payload)}
    in_bucket = BucketJob(wire_storage, bucket_name, job)
    ended = in_bucket.run()
    assert ended.exit_code == 0, ended.errors + ended.output
    run = RunTicket(run_id=RUN_ID, name="run", run_key=RUN_KEY)
    with closing(GoogleStore(bucket_name, prefix="team/a", endpoint=wire_storage.url)) as store:
        envelope = read_result(store, run)
    assert envelope is not None
    value = unpack_result(envelope, run)
    np.testing.assert_array_equal(value, numbers * 2)
    assert value.flags.writeable


def test_without_credentials_the_bootstrap_says_so(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", source=SOURCE)
    variables = {
        **job.write(),
        "KINETIC_JOB": f"gs://bucket/runs/{RUN_ID}/job.json",
        "HOME": str(tmp_path),
        "NO_GCE_CHECK": "true",
    }
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_UNAVAILABLE
    assert "Cloud Storage cannot be used" in ended.errors
    assert ended.errors.count("\n") <= 2
