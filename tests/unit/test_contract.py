"""The client's side and the runner's side of the contract, held together."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from kinetic_flows.runner_image import remote_runner
from kinetic_flows.runner_image.runner import (
    candidates,
    compile_cache,
    contract,
    endings,
    events,
    hosts,
    identity,
    launches,
    memory,
    own_flow_run,
    phases,
    restoring,
    secret_manager,
    secret_values,
    stacks,
    stores,
)
from kinetic_flows.runner_image.runner import sealing as opening
from kinetic_flows.runner_image.runner.contract import make_header, read_header, seal

from kinetic_flows.clients.prefect import flow_names, labels
from kinetic_flows.clients.prefect.events import event_of
from kinetic_flows.clients.prefect.labels import SECONDS_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.clients.prefect.timings import PHASES
from kinetic_flows.code.manifest import Entry, encode_manifest
from kinetic_flows.code.packs import Contents, Member, archive
from kinetic_flows.core import candidates as core_candidates
from kinetic_flows.core import job, object_names, sealing
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.envelope import (
    COSTLY,
    IDLE,
    OUT_OF_MEMORY,
    RESULT_MAGIC,
    RESULT_TOO_LARGE,
    ResultEnvelope,
    ResultHeader,
    ResultStatus,
    open_result,
    seal_result,
)
from kinetic_flows.core.job_parts import CandidateSpec, CompileCacheSpec, CostLimit
from kinetic_flows.core.job_reading import read_job
from kinetic_flows.platforms.gke import names
from kinetic_flows.platforms.gke.handover import SECRET_VARIABLES
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.platform import SECRET_MANAGER_VARIABLE
from kinetic_flows.runs import left_results
from kinetic_flows.runs.insight.stuck_causes import KEEPS_LOCK
from kinetic_flows.runs.results import RUNNER_PREFIX

KEY, RUN = "ab" * 32, "run-1"
NOW = datetime.now(UTC)


def _exit_codes(module: object) -> dict[str, int]:
    return {
        name: value
        for name, value in vars(module).items()
        if name.startswith("EXIT_") and isinstance(value, int)
    }


def test_both_sides_know_the_same_exit_codes() -> None:
    assert _exit_codes(contract) == _exit_codes(job)
    assert _exit_codes(remote_runner).items() <= _exit_codes(job).items()
    assert set(job.EXIT_MEANINGS) == set(_exit_codes(job).values())


def test_both_sides_tell_the_same_events() -> None:
    flow_run: dict[str, Any] = {
        "id": "run-1",
        "name": "train(rate=0.1)",
        "flow_id": "flow-1",
        "deployment_id": "deployment-1",
        "tags": ["kinetic", "cpu"],
        "labels": {
            "kinetic.function": "train",
            "kinetic.accelerator": "cpu",
            "kinetic.platform": "local",
            "kinetic.group": "run-0",
            "kinetic.user": "ann",
            "kinetic.store": "none of an automation's business",
        },
    }
    known = RunRecord(**flow_run, state_type="RUNNING", state_name="", message="", created=NOW)
    ours = event_of(known, "preempted", "1", {"restarts": 1})
    theirs = events.event_of(flow_run, "preempted", "1", {"restarts": 1}, NOW.isoformat())
    assert {**ours, "occurred": NOW.isoformat()} == theirs
    roles = [each["prefect.resource.role"] for each in theirs["related"]]
    assert roles == ["flow", "deployment", "tag", "tag"]
    assert "kinetic.store" not in theirs["resource"]


def test_both_sides_know_the_words_for_want_of_memory() -> None:
    assert memory.OUT_OF_MEMORY == OUT_OF_MEMORY


@pytest.mark.parametrize(
    "values", [{}, {"A": "b"}, {"TÖKEN": "a\nb\u20ac \ud800", "LONG": "x" * 100_000, "EMPTY": ""}]
)
def test_what_the_client_seals_the_runner_opens(values: dict[str, str]) -> None:
    key = sealing.new_seal_key()
    assert opening.open_sealed(sealing.seal_values(values, key), key) == values


def test_both_sides_know_where_what_is_sealed_is_and_who_has_its_key() -> None:
    for name in (object_names.payload_object(RUN), "deployments/f/1/runs/2/payload.pkl"):
        assert contract.sealed_object(name) == object_names.sealed_object(name)
    assert secret_values.SEAL_KEY_VARIABLE == job.SEAL_KEY_VARIABLE
    assert secret_values.SEAL_BLOCK_VARIABLE == job.SEAL_BLOCK_VARIABLE
    assert identity.REFERENCE_PREFIX == job.SECRET_REFERENCE_PREFIX
    assert {job.SEAL_KEY_VARIABLE, job.SEAL_BLOCK_VARIABLE} <= identity.KEPT_FROM_FUNCTION
    assert secret_manager.ENDPOINT_VARIABLE == SECRET_MANAGER_VARIABLE
    assert not SECRET_MANAGER_VARIABLE.startswith(job.SECRET_REFERENCE_PREFIX)


def test_functions_are_not_told_the_key_of_compiled_programs() -> None:
    told = {job.COMPILE_CACHE_KEY_VARIABLE, job.COMPILE_CACHE_BLOCK_VARIABLE}
    assert told <= identity.KEPT_FROM_FUNCTION
    assert job.COMPILE_CACHE_KEY_VARIABLE in SECRET_VARIABLES


def test_both_sides_speak_the_same_version() -> None:
    assert contract.JOB_VERSION == job.JOB_VERSION
    assert contract.RESULT_MAGIC == RESULT_MAGIC


def test_the_runners_header_has_the_clients_fields() -> None:
    header = make_header(RUN, "raised", 3)
    # Buffers are told where there are any, for clients that know of none.
    assert [*header, "buffers"] == [field.name for field in fields(ResultHeader)]
    assert {**header, "buffers": ()} == {
        **asdict(ResultHeader(run_id=RUN, status="raised", attempt=3)),
        "log_tail": [],
    }


@pytest.mark.parametrize("body", [b"", b"body\nwith\nlines", bytes(range(256)) * 9000])
def test_what_the_runner_seals_the_client_opens(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "body").write_bytes(body)
    header = make_header(RUN, "returned", 1, type_name="häh", log_tail=["a", "b"], exit_code=-9)
    sealed = seal(header, str(tmp_path / "body"), KEY) + body
    envelope = open_result(sealed, KEY, RUN)
    assert envelope.body == body
    assert asdict(envelope.header) == {**header, "log_tail": ("a", "b"), "buffers": ()}
    assert sealed == seal_result(envelope, KEY)


def test_what_the_client_seals_the_runner_reads() -> None:
    header = ResultHeader(run_id=RUN, status="crashed", log_tail=("x",), exit_code=3)
    sealed = seal_result(ResultEnvelope(header=header, body=b"..."), KEY)
    told = {name: value for name, value in asdict(header).items() if name != "buffers"}
    assert read_header(sealed, KEY, RUN) == {**told, "log_tail": ["x"]}


def test_a_body_with_buffers_begins_where_they_are_aligned(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(bytes(64) + b"buffer")
    for name in ("", "a", "a longer name"):
        header = make_header(RUN, "returned", 0, type_name=name, buffers=[[64, 6]])
        head = seal(header, str(tmp_path / "body"), KEY)
        assert len(head) % 64 == 0
        envelope = open_result(head + (tmp_path / "body").read_bytes(), KEY, RUN)
        assert envelope.header.buffers == ((64, 6),)
        assert envelope.body[64:] == b"buffer"


def test_both_sides_say_the_same_of_a_result_that_finds_no_room() -> None:
    assert contract.RESULT_TOO_LARGE == RESULT_TOO_LARGE


def test_a_client_knows_the_line_after_which_a_run_only_stores_what_it_has_compiled() -> None:
    assert left_results.STORING == RUNNER_PREFIX + compile_cache.STORING


def test_both_sides_say_the_same_of_a_run_whose_chips_did_nothing() -> None:
    assert contract.IDLE == IDLE
    assert contract.COSTLY == COSTLY


@pytest.mark.parametrize(
    ("key", "run", "spoil"),
    [("cd" * 32, RUN, b""), (KEY, "run-2", b""), (KEY, RUN, b"!")],
)
def test_the_runner_reads_no_result_that_is_not_its_own(key: str, run: str, spoil: bytes) -> None:
    envelope = ResultEnvelope(header=ResultHeader(run_id=RUN, status="returned"), body=b"x")
    assert read_header(seal_result(envelope, KEY) + spoil, key, run) is None
    assert read_header(b"something else", key, run) is None


def test_what_the_runner_writes_is_where_the_client_looks_and_cleans() -> None:
    assert contract.result_object(RUN) == object_names.result_object(RUN)
    for name in (
        contract.host_result_object(RUN, 1),
        contract.start_object(RUN, 0, 0),
        contract.start_object(RUN, 0, 1),
        contract.slice_start_object(RUN, 1),
    ):
        assert name.startswith(f"{object_names.RUNS}/{RUN}/")


def test_both_sides_know_where_black_boxes_are_and_that_native_code_kept_the_lock() -> None:
    name = contract.black_box_object(contract.starts_prefix(RUN, None), 1)
    assert name == f"{object_names.RUNS}/{RUN}/{object_names.BLACK_BOX}host-1.json"
    assert object_names.facts_object(RUN).startswith(name.removesuffix("host-1.json"))
    of_round = contract.black_box_object(contract.starts_prefix(RUN, 2), 0)
    assert of_round.endswith(f"/rounds/2/{object_names.BLACK_BOX}host-0.json")
    assert KEEPS_LOCK in stacks.KEEPS_LOCK


def test_both_sides_know_where_rounds_are_and_how_a_launch_is_named() -> None:
    assert candidates.LAUNCH_VARIABLE == core_candidates.LAUNCH_VARIABLE
    assert launches.LAUNCH_FLOW == flow_names.LAUNCH_FLOW
    assert launches.KEPT == (labels.STORE_LABEL, labels.FUNCTION_LABEL)
    assert own_flow_run.ACCELERATOR_LABEL == labels.ACCELERATOR_LABEL
    assert own_flow_run.LAUNCHED_RUN_VARIABLE in identity.KEPT_FROM_FUNCTION
    assert contract.candidates_object(RUN) == object_names.candidates_object(RUN)
    for name in ("round_object", "claim_object", "round_end_object"):
        assert getattr(contract, name)(RUN, 3) == getattr(object_names, name)(RUN, 3)
    spec = CandidateSpec(number=12, accelerator="l4", moves_on=True)
    launch = core_candidates.Launch(round=10, candidate=12)
    known = candidates.launch_of({"candidate": asdict(spec)}, {"KINETIC_LAUNCH": str(launch)})
    assert known == (10, 12, "l4", True)
    prefix = f"{object_names.RUNS}/{RUN}/rounds/10/"
    assert contract.start_object(contract.starts_prefix(RUN, 10), 0, 0).startswith(prefix)
    assert contract.host_up_object(RUN, 10, 12, 0).startswith(prefix)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Kubernetes job was deleted", "disturbed"),
        ("No active or succeeded pods found for any job", "disturbed"),
        ("Flow run infrastructure exited with non-zero status code 143.", "disturbed"),
        ("Flow run infrastructure exited with non-zero status code 137.", "out_of_memory"),
        ("the image has Python 3.12", ""),
    ],
)
def test_both_sides_know_what_workers_write_that_know_no_more(message: str, cause: str) -> None:
    known = RunRecord(
        id="1", name="", state_type="CRASHED", state_name="Crashed", message=message, created=NOW
    )
    assert known.is_guessed is bool(cause)
    seen = launches.seen_of({"type": "CRASHED", "name": "Crashed", "message": message})
    assert (seen.cause, seen.message, seen.is_final) == (cause, message, True)


def test_both_sides_label_a_runs_phases_alike() -> None:
    assert phases.LABEL == SECONDS_LABEL
    told = phases.Phases()
    with told.measure("fetch"), told.measure("install"):
        pass
    assert told.labels() == {}, "what takes no time is not told"
    told.add("install", 2.0)
    assert {name.removeprefix(SECONDS_LABEL) for name in told.labels()} <= PHASES.keys()


def test_every_status_has_a_state_and_an_exit_code() -> None:
    for status in get_args(ResultStatus):
        header = make_header(RUN, status, 0, message="m", exit_code=-9)
        assert endings.state_of(header).type in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        assert 0 <= endings.exit_code_of(header) < 256


def test_what_the_client_packs_the_runner_restores(tmp_path: Path) -> None:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "a.py").write_text("print(1)")
    members = [
        Member("sub/a.py", 0o640, 8),
        Member("sub/link", 0, 0, link="a.py"),
        Member("void", 0o750, 0, is_directory=True),
    ]
    pack = b"".join(archive(Contents(tmp_path / "root"), members, [].append))
    entries = [
        Entry("sub/a.py", 0o640, 8, "0" * 64),
        Entry("sub/link", link="a.py"),
        Entry("void", 0o750),
    ]
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    restoring.restore(
        restoring.read_manifest(encode_manifest(entries)),
        [("pack", lambda: io.BytesIO(pack))],
        str(workspace),
    )
    assert (workspace / "sub" / "link").read_text() == "print(1)"
    assert (workspace / "sub" / "a.py").stat().st_mode & 0o777 == 0o640
    assert (workspace / "void").stat().st_mode & 0o777 == 0o750


def test_both_sides_write_to_the_same_places_of_a_store_on_disk(tmp_path: Path) -> None:
    from kinetic_flows.platforms.local import store as local_store

    assert (stores.INCOMING, stores.LOCK) == (local_store.INCOMING, local_store.LOCK)
    ours, theirs = stores.DirectoryStore(str(tmp_path)), local_store.LocalStore(tmp_path)
    assert ours.put_if_absent("runs/1/x", b"first")
    assert not theirs.put_if_absent("runs/1/x", b"second")
    assert theirs.put_if_absent("runs/1/y", b"first")
    assert not ours.put_if_absent("runs/1/y", b"second")
    assert [item.name for item in theirs.list("")] == ["runs/1/x", "runs/1/y"]
    assert not list((tmp_path / stores.INCOMING).iterdir())
    assert theirs.get("runs/1/x").data == ours.read("runs/1/x") == b"first"
    assert ours.read("runs/1/z") is None


TEMPLATE = job.JobTemplate(
    cost=CostLimit(hourly=21.6, limit=50.0),
    name="train",
    python="3.11",
    runner=job.ObjectRef(name="x", sha256=job.sha256_hex(b""), size_bytes=0),
    code=None,
    payload_sha256=job.sha256_hex(b""),
    payload_size_bytes=0,
    takes_parameters=True,
)


STORED = job.StoredTemplate(template=TEMPLATE, payload_name="x", outputs="gs://bucket/outputs/")
OF_RUN = job.Job(template=TEMPLATE, run_id="run-1", output_dir="outputs", api_url="http://mine/api")


def _document(stored: job.Job | job.StoredTemplate = STORED) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(stored.to_json())
    return plain


KEEPS_PROGRAMS = job.StoredTemplate(
    template=replace(
        TEMPLATE, compile_cache=CompileCacheSpec(prefix="compile-cache/e/l4/", max_bytes=1 << 30)
    ),
    payload_name="x",
    outputs="outputs",
)


@pytest.mark.parametrize("stored", [STORED, OF_RUN, KEEPS_PROGRAMS])
def test_what_is_stored_for_a_runner_is_read_by_clients(
    stored: job.Job | job.StoredTemplate,
) -> None:
    assert read_job(stored.to_json()) == stored


WORKERS = {"PREFECT__FLOW_RUN_ID": str(UUID(int=7)), "PREFECT_API_URL": "http://prefect/api"}


def test_a_job_without_a_run_id_takes_everything_that_follows_from_it_from_the_worker() -> None:
    run_id = str(UUID(int=7))
    found = identity.identified(_document(), WORKERS)
    assert found["run_id"] == run_id
    assert found["result"] == object_names.result_object(run_id)
    assert found["output_dir"] == f"gs://bucket/{object_names.OUTPUTS}/{run_id}"
    assert found["prefect"] == {
        "api_url": "http://prefect/api",
        "flow_run_id": run_id,
        "parameters": True,
        "engine": False,
    }
    silent = identity.identified({**_document(), "prefect": None}, {"PREFECT__FLOW_RUN_ID": run_id})
    assert silent["prefect"] is None


def test_a_job_with_a_run_id_stays_as_it_is_whatever_a_worker_says() -> None:
    given = _document(OF_RUN)
    assert given["result"] == object_names.result_object("run-1")
    assert given["prefect"]["flow_run_id"] == "run-1"
    assert identity.identified(given, WORKERS) == given


@pytest.mark.parametrize("missing", list(WORKERS))
def test_a_job_without_a_run_id_is_refused_where_no_worker_says_which(missing: str) -> None:
    environ = {name: value for name, value in WORKERS.items() if name != missing}
    with pytest.raises(contract.Fault, match=missing) as refusal:
        identity.identified(_document(), environ)
    assert refusal.value.exit_code == job.EXIT_BAD_LAUNCH


def test_a_run_id_that_is_a_path_is_refused() -> None:
    with pytest.raises(contract.Fault, match="must be a flow run's id"):
        identity.identified(_document(), {**WORKERS, "PREFECT__FLOW_RUN_ID": "../../elsewhere"})


def test_both_sides_call_the_hosts_of_a_slice_the_same() -> None:
    def environment(run_id: str) -> dict[str, str]:
        request = PodRequest(
            run_id=run_id,
            name="train",
            image="image",
            accelerator=parse_accelerator("tpu-v5p-2x2x2"),
        )
        found: dict[str, str] = job_variables(request)["env"]
        return found

    told = environment("run-1")
    environ = {**told, "HOSTNAME": "train-run-1-1"}
    assert hosts.host_variables(1, 2, environ) == {"KINETIC_HOST": "1"}
    by_worker = environment("")
    assert "KINETIC_HOSTNAMES" not in by_worker, "only the worker knows the Job's name"
    name = names.kubernetes_job_name("train", "run-1")
    worked_out = hosts.host_variables(1, 2, {**by_worker, "HOSTNAME": f"{name}-1"})
    own = {"KINETIC_HOSTS_SERVICE": names.HEADLESS_SERVICE, "KINETIC_HOST": "1"}
    assert {**by_worker, **worked_out} == {**told, **own}


def test_a_workers_job_is_named_by_the_worker() -> None:
    request = PodRequest(
        run_id="", name="Train It", image="image", accelerator=parse_accelerator("cpu")
    )
    variables = job_variables(request)
    assert variables["name"] == "train-it"
    assert "job_name" not in variables
