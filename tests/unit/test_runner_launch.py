"""Starting a run: what the bootstrap and the runner insist on before they trust anything."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.code.runner_bundle import runner_bundle
from kinetic_flows.core.job import (
    EXIT_BAD_LAUNCH,
    EXIT_OBJECT_REFUSED,
    EXIT_OBJECT_UNAVAILABLE,
    EXIT_OUTPUT_DIR_UNAVAILABLE,
    EXIT_PAYLOAD_UNREADABLE,
    EXIT_RUNTIME_UNFIT,
)
from kinetic_flows.core.job_parts import ObjectRef
from kinetic_flows.images.bases import read_bootstrap
from runner_jobs import (
    BOOTSTRAP,
    RUN_ID,
    Job,
    make_bare_python,
    start_runner,
    wait,
    wait_until,
)

RETURNS = "def main():\n return 'here'"


class Booby:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "store", source=RETURNS)


def test_the_bootstrap_says_its_version() -> None:
    ended = wait(start_runner({}, str(BOOTSTRAP), "--version"))
    assert (ended.exit_code, ended.output.strip().isdigit()) == (0, True)


def test_the_bootstrap_works_as_source_on_the_command_line(job: Job) -> None:
    assert wait(start_runner(job.write(), "-c", read_bootstrap().decode())).exit_code == 0
    assert job.value() == "here"


def test_what_lies_in_the_current_directory_is_not_imported(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tarfile", "shutil", "select", "hmac", "subprocess"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('not the real one')")
    monkeypatch.chdir(tmp_path)
    ended = wait(start_runner(job.write(), "-c", read_bootstrap().decode()))
    assert ended.exit_code == 0, ended.errors


@pytest.mark.parametrize("name", ["KINETIC_JOB", "KINETIC_JOB_SHA256"])
def test_without_a_job_nothing_starts(job: Job, name: str) -> None:
    ended = wait(start_runner({**job.write(), name: ""}))
    assert ended.exit_code == EXIT_BAD_LAUNCH
    assert ended.errors == "kinetic: KINETIC_JOB and KINETIC_JOB_SHA256 must be set\n"


@pytest.mark.parametrize("uri", ["job.json", "https://example.com/runs/1/job.json"])
def test_a_job_that_is_in_no_store_is_refused(job: Job, uri: str) -> None:
    ended = wait(start_runner({**job.write(), "KINETIC_JOB": uri}))
    assert ended.exit_code == EXIT_BAD_LAUNCH


@pytest.mark.parametrize("key", ["", "not hexadecimal"])
def test_without_a_usable_key_nothing_starts(job: Job, key: str) -> None:
    ended = job.run(KINETIC_RUN_KEY=key)
    assert (ended.exit_code, "KINETIC_RUN_KEY" in ended.errors) == (EXIT_BAD_LAUNCH, True)
    assert "not hex" not in ended.errors


def test_a_job_may_be_elsewhere_in_a_store_that_is_named(job: Job) -> None:
    variables = job.write()
    moved = job.root / "deployments" / "nightly" / "job.json"
    moved.parent.mkdir(parents=True)
    job.job_path.rename(moved)
    store = {"KINETIC_JOB": moved.as_uri(), "KINETIC_STORE": job.root.as_uri()}
    assert wait(start_runner({**variables, **store})).exit_code == 0


def test_a_store_whose_path_has_special_characters_is_found(tmp_path: Path) -> None:
    job = Job(tmp_path / "with space, ü and %41", source=RETURNS)
    assert job.run().exit_code == 0
    assert job.value() == "here"


def test_a_missing_job_is_named(job: Job) -> None:
    variables = job.write()
    job.job_path.unlink()
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_UNAVAILABLE
    assert f"runs/{RUN_ID}/job.json cannot be fetched: No such file" in ended.errors


def test_a_tampered_job_is_refused(job: Job) -> None:
    variables = job.write()
    job.job_path.write_bytes(job.job_path.read_bytes() + b" ")
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert f"the object runs/{RUN_ID}/job.json is refused" in ended.errors


def test_a_tampered_runner_is_refused_before_it_runs(job: Job, tmp_path: Path) -> None:
    variables = job.write()
    digest = runner_bundle().sha256
    marker = tmp_path / "ran"
    (job.root / f"runners/{digest}.pyz").write_text(f"open({str(marker)!r}, 'w')")
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert f"runners/{digest}.pyz is refused" in ended.errors
    assert not marker.exists()


@pytest.mark.parametrize("data", [b"not json", b"[]", b"{}", b'{"runner": {}}'])
def test_a_job_that_names_no_runner_is_refused(job: Job, data: bytes) -> None:
    import hashlib

    variables = job.write()
    job.job_path.write_bytes(data)
    variables["KINETIC_JOB_SHA256"] = hashlib.sha256(data).hexdigest()
    ended = wait(start_runner(variables))
    assert (ended.exit_code, "names no runner" in ended.errors) == (EXIT_BAD_LAUNCH, True)


def test_a_job_of_another_version_is_refused(job: Job) -> None:
    job.changes = {"version": 999}
    ended = job.run()
    assert (ended.exit_code, "version 999" in ended.errors) == (EXIT_BAD_LAUNCH, True)


def test_a_tampered_payload_is_refused_before_it_is_unpickled(job: Job, tmp_path: Path) -> None:
    job.args = ("x" * 1000,)
    variables = job.write()
    marker = tmp_path / "unpickled"
    name = f"runs/{RUN_ID}/payload.pkl"
    size = (job.root / name).stat().st_size
    (job.root / name).write_bytes(pickle.dumps(Booby(marker)).ljust(size, b"."))
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert f"the object {name} is refused: its SHA-256 is" in ended.output
    assert not marker.exists()
    header = job.envelope().header
    assert (header.status, header.exit_code) == ("crashed", EXIT_OBJECT_REFUSED)
    assert name in header.message


def test_the_same_payload_unpickles_when_nobody_checks_it(tmp_path: Path) -> None:
    marker = tmp_path / "unpickled"
    pickle.loads(pickle.dumps(Booby(marker)))
    assert marker.exists()


def test_a_tampered_pack_is_refused_before_anything_is_unpickled(job: Job, tmp_path: Path) -> None:
    marker = tmp_path / "unpickled"
    job.call = pickle.dumps((None, (Booby(marker),), {}))
    variables = job.write()
    (pack,) = (path for path in (job.root / "packs").iterdir() if path.suffix != ".json")
    import gzip

    content = bytearray(gzip.decompress(pack.read_bytes()))
    content[600] ^= 1
    pack.write_bytes(gzip.compress(bytes(content)))
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert f"the object packs/{pack.name} is refused" in ended.output
    assert not marker.exists()


def test_a_tampered_manifest_is_refused(job: Job) -> None:
    variables = job.write()
    (manifest,) = (job.root / "packs").glob("*.json")
    manifest.write_bytes(manifest.read_bytes().replace(b"420", b"511"))
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert f"the object packs/{manifest.name} is refused" in ended.output


@pytest.mark.parametrize("change", [b"", b"longer than it was"])
def test_an_object_of_another_size_is_refused(job: Job, change: bytes) -> None:
    variables = job.write()
    path = job.root / f"runs/{RUN_ID}/payload.pkl"
    path.write_bytes(path.read_bytes() + change if change else b"")
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert "its size is not" in ended.output


def test_a_missing_pack_is_named(job: Job) -> None:
    variables = job.write()
    for pack in (job.root / "packs").iterdir():
        if pack.suffix != ".json":
            pack.unlink()
    ended = wait(start_runner(variables))
    assert ended.exit_code == EXIT_OBJECT_UNAVAILABLE
    assert "cannot be fetched: No such file" in ended.output
    assert job.envelope().header.exit_code == EXIT_OBJECT_UNAVAILABLE


def test_a_payload_that_names_code_in_its_frame_is_refused(job: Job, tmp_path: Path) -> None:
    marker = tmp_path / "unpickled"
    job.frame = pickle.dumps({"environment": {}, "function": None, "call": Booby(marker)})
    ended = job.run()
    assert ended.exit_code == EXIT_PAYLOAD_UNREADABLE
    assert f"the payload names {Path.__module__}.Path.touch" in job.envelope().header.message
    assert not marker.exists()


def test_a_job_made_by_another_python_says_what_to_do(job: Job) -> None:
    job.changes = {"python": "3.1"}
    ended = job.run()
    assert ended.exit_code == EXIT_RUNTIME_UNFIT
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"made by Python 3.1, the image has Python {here}; use an image" in ended.output


def test_an_image_without_cloudpickle_is_told_so_in_one_sentence(job: Job, tmp_path: Path) -> None:
    python = make_bare_python(tmp_path / "venv", with_cloudpickle=False)
    ended = wait(start_runner(job.write(), python=python))
    assert ended.exit_code == EXIT_RUNTIME_UNFIT
    assert ended.output == "kinetic: the image lacks cloudpickle; add cloudpickle to the image\n"


def test_an_image_without_cloud_storage_is_told_so(job: Job, tmp_path: Path) -> None:
    python = make_bare_python(tmp_path / "venv", with_cloudpickle=False)
    uri = f"gs://bucket/runs/{RUN_ID}/job.json"
    ended = wait(start_runner({**job.write(), "KINETIC_JOB": uri}, python=python))
    assert ended.exit_code == EXIT_RUNTIME_UNFIT
    assert "the image lacks google-cloud-storage" in ended.errors


def test_a_run_leaves_nothing_in_the_temporary_directory(job: Job, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    job.source = "import os\ndef main():\n return os.getcwd()"
    assert job.run(TMPDIR=str(temporary)).exit_code == 0
    assert job.value().startswith(str(temporary))
    assert list(temporary.iterdir()) == []


def test_another_directory_is_taken_where_the_named_one_cannot_be_used(job: Job) -> None:
    assert job.run(TMPDIR="/proc/nothing/here").exit_code == 0


def test_a_run_that_was_stopped_before_its_function_began_says_so(job: Job, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    variables = job.write()
    payload = job.root / f"runs/{RUN_ID}/payload.pkl"
    payload.unlink()
    payload.symlink_to(fifo)
    process = start_runner(variables)
    wait_until((job.root / f"runs/{RUN_ID}/attempts/0/started.json").exists)
    process.terminate()
    ended = wait(process)
    assert ended.exit_code == 143
    assert ended.output == "kinetic: terminated before the function was called\n"
    assert not job.result_path.exists()


def test_an_output_directory_that_cannot_be_made_is_a_crash_that_says_so(job: Job) -> None:
    job.changes = {"output_dir": "/proc/nothing/here"}
    ended = job.run()
    assert ended.exit_code == EXIT_OUTPUT_DIR_UNAVAILABLE
    said = "the output directory /proc/nothing/here cannot be made"
    assert said in job.envelope().header.message


def test_a_job_may_ship_no_code(job: Job) -> None:
    import cloudpickle

    job.call = cloudpickle.dumps((lambda: "sent", (), {}))
    job.changes = {"code": None}
    assert job.run().exit_code == 0
    assert job.value() == "sent"


def test_the_size_of_an_object_is_part_of_what_is_promised(job: Job) -> None:
    job.write()
    name = f"runs/{RUN_ID}/payload.pkl"
    data = (job.root / name).read_bytes()
    import hashlib

    job.changes = {
        "payload": ObjectRef(
            name=name,
            sha256=hashlib.sha256(data).hexdigest(),  # type: ignore[arg-type]
            size_bytes=len(data) + 1,
        )
    }
    assert job.run().exit_code == EXIT_OBJECT_REFUSED
