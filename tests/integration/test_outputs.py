"""Outputs that stay: what a run finds of an earlier one, and one run at a time that writes."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from types import ModuleType
from uuid import UUID, uuid4

import pytest
from prefect_workers import eventually
from projects import make_project

import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.prefect.api import NewRun, PrefectApi, RunQuery
from kinetic_flows.clients.prefect.labels import PREPARING
from kinetic_flows.core.errors import OutputDirInUseError, RunCrashed, UsageError
from kinetic_flows.core.object_names import output_lease_object
from kinetic_flows.core.run_ids import short_id
from loopback.__main__ import JOBS_BUCKET, PROJECT
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import os
    import signal
    import time
    from pathlib import Path

    import kinetic

    def steps_from(directory):
        '''Count on from the last checkpoint, as training does.'''
        if "://" not in directory:
            found = os.listdir(directory)
            save = lambda step: Path(directory, str(step)).touch()
        else:
            from google.cloud import storage
            bucket_name, _, prefix = directory.removeprefix("gs://").partition("/")
            bucket = storage.Client(project="p").bucket(bucket_name)
            found = [b.name.rpartition("/")[2] for b in bucket.list_blobs(prefix=prefix + "/")]
            save = lambda step: bucket.blob(f"{prefix}/{step}").upload_from_string(b"state")
        for step in range(len(found), 4):
            save(step)
            yield step

    @kinetic.run(accelerator="cpu", output_dir="{function}/{tag}")
    def train(tag, die_at=None):
        done = []
        for step in steps_from(kinetic.checkpoint_dir()):
            done.append(step)
            if step == die_at:
                # The runner as well: as a machine does that is lost.
                os.kill(os.getppid(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
        return done

    @kinetic.run
    def unnamed():
        done = []
        for step in steps_from(kinetic.checkpoint_dir()):
            done.append(step)
            if step == 1:
                raise ValueError("this time")
        return done

    @kinetic.run(output_dir="held/{tag}")
    def hold(tag, until):
        Path(kinetic.output_dir(), "began").touch()
        while not Path(until).exists():
            time.sleep(0.05)
        return "held"

    @kinetic.run(accelerator="cpu", output_dir="pods/{tag}")
    def stay(tag, until):
        while not Path(until).exists():
            time.sleep(0.05)

    @kinetic.run(output_dir="cached/{name}", cache_for=True)
    def cached(name="a"):
        return kinetic.output_dir()
"""


@pytest.fixture
def functions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[ModuleType]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    project = make_project(tmp_path / "project", monkeypatch, {"output_functions.py": FUNCTIONS})
    yield project.module("output_functions")
    sys.modules.pop("output_functions", None)


@pytest.mark.usefixtures("place")
def test_a_run_whose_machine_was_lost_is_gone_on_with_by_the_next_call(
    functions: ModuleType, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tag = request.node.callspec.params["place"]
    lost = functions.train.submit(tag, die_at=1)
    with pytest.raises(RunCrashed):
        lost.result(timeout_seconds=120)
    again = functions.train.submit(tag)
    assert again.result(timeout_seconds=120) == [2, 3]
    assert again.outputs == lost.outputs
    assert lost.outputs.endswith(f"/outputs/train/{tag}")
    names = [f"checkpoints/{step}" for step in range(4)]
    assert [file.name for file in again.outputs.ls()] == names
    copy = again.outputs.download(tmp_path / "copy", "*/3")
    assert [path.name for path in copy.rglob("*") if path.is_file()] == ["3"]


def test_a_retry_goes_on_with_the_old_runs_directory(
    functions: ModuleType, api: PrefectApi
) -> None:
    first = functions.unnamed.submit()
    with pytest.raises(ValueError, match="this time"):
        first.result(timeout_seconds=60)
    second = first.retry()
    assert second.result(timeout_seconds=60) == [2, 3]
    third = second.retry()
    assert third.result(timeout_seconds=60) == []
    assert first.outputs == second.outputs == third.outputs
    assert first.outputs.endswith(first.id)
    assert kinetic.attach(third.id).outputs == first.outputs
    assert api.read_run(third.id).labels["kinetic.output-dir"] == first.outputs


def test_one_run_at_a_time_writes_to_a_directory(
    functions: ModuleType, api: PrefectApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    holder = functions.hold.submit("a", marker)
    eventually(lambda: holder.state == "Running")
    writer = rf"run {short_id(holder.id)} of hold\(.* writes to .*/held/a, and has not ended"
    with pytest.raises(OutputDirInUseError, match=writer) as refused:
        functions.hold("a", marker)
    assert "output_dir_in_use='wait'" in str(refused.value.hint)
    [newest] = api.find_runs(RunQuery(flow="hold"), limit=1)
    assert newest.state_type in ("FAILED", "CRASHED")
    with pytest.raises(OutputDirInUseError, match=writer) as refused:
        holder.retry()
    # A retry has the options of its run.
    assert str(refused.value.hint).startswith("wait for its end; `kinetic runs cancel")
    plan = functions.hold.plan("a", marker)
    assert re.search(writer, plan.obstacles[-1])
    assert plan.outputs == holder.outputs
    # To deploy writes nothing.
    named = functions.hold.with_options(output_dir="held/a")
    assert named.plan("a", marker).obstacles
    named.deploy("while-held").delete()
    # What somebody else writes to is another matter.
    assert functions.hold.plan("b", marker).obstacles == ()

    patient = functions.hold.with_options(output_dir_in_use="wait")
    values: list[str] = []
    waiting = threading.Thread(target=lambda: values.append(patient("a", marker)))
    waiting.start()
    eventually(lambda: "waits for run" in capsys.readouterr().err)
    assert waiting.is_alive()
    marker.touch()
    waiting.join(60)
    assert values == [holder.result(timeout_seconds=60)] == ["held"]


def test_a_run_that_waits_for_a_directory_can_be_cancelled(
    functions: ModuleType, api: PrefectApi, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    holder = functions.hold.submit("c", marker)
    patient = functions.hold.with_options(output_dir_in_use="wait")
    errors: list[BaseException] = []

    def call() -> None:
        try:
            patient("c", marker)
        except kinetic.RunCancelled as error:
            errors.append(error)

    waiting = threading.Thread(target=call)
    waiting.start()

    def newest() -> str:
        [record] = api.find_runs(RunQuery(flow="hold"), limit=1)
        return record.id

    eventually(lambda: newest() != holder.id)
    kinetic.attach(newest()).cancel()
    waiting.join(60)
    assert len(errors) == 1
    assert holder.state == "Running"
    marker.touch()
    assert holder.result(timeout_seconds=60) == "held"


@pytest.fixture
def holds(
    functions: ModuleType, tmp_path: Path, shared_kinetic_home: Path
) -> Callable[..., Callable[[], str]]:
    """Have a lease of a directory say something; return a call of a function that writes there."""

    def leave(tag: str, **found: object) -> Callable[[], str]:
        directory = shared_kinetic_home / "store" / "outputs" / "held" / tag
        lease = shared_kinetic_home / "store" / output_lease_object(str(directory))
        lease.parent.mkdir(parents=True, exist_ok=True)
        lease.write_text(json.dumps(found))
        (tmp_path / "marker").touch()
        return lambda: str(functions.hold(tag, tmp_path / "marker"))

    return leave


def test_a_directory_whose_writers_flow_run_was_deleted_is_free(
    holds: Callable[..., Callable[[], str]], api: PrefectApi
) -> None:
    call = holds("deleted", run_id=str(uuid4()), api_url=api.url)
    assert call() == "held"
    # Nor does a lease hold anything that is none.
    assert holds("damaged", run_id="../../x")() == "held"


@pytest.mark.parametrize("place", ["cluster"], indirect=True)
@pytest.mark.usefixtures("place")
def test_a_workers_pod_has_its_directory_though_its_flow_run_was_deleted(
    functions: ModuleType, api: PrefectApi, quick_cloud: QuickCloud, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    run = functions.stay.submit("pod", marker)
    eventually(lambda: run.state == "Running")
    endpoint = quick_cloud.environment["STORAGE_EMULATOR_HOST"]
    name = output_lease_object(str(run.outputs))
    with closing(GoogleStore(JOBS_BUCKET, project=PROJECT, endpoint=endpoint)) as store:
        lease = store.get(name)
        data = json.dumps({**json.loads(lease.data), "dispatch": "worker"}).encode()
        assert store.replace_if_unchanged(name, data, lease.generation)
    api.client.delete_flow_run(UUID(run.id))
    with pytest.raises(OutputDirInUseError, match=r"\(unknown\) writes to .*/pods/pod"):
        functions.stay("pod", marker)
    marker.touch()


def test_a_writer_that_another_prefect_knows_is_asked_for_there(
    holds: Callable[..., Callable[[], str]],
) -> None:
    elsewhere = {"run_id": str(uuid4()), "name": "train()", "api_url": "https://other.example/api"}
    call = holds("elsewhere", **elsewhere, host="another-machine")
    with pytest.raises(OutputDirInUseError, match=r"of train\(\) \(unknown\) writes to") as refused:
        call()
    assert "ask https://other.example/api" in str(refused.value.hint)
    assert "remove the object leases/outputs/" in str(refused.value.hint)
    # Where it would be seen here, it is known to be gone.
    call = holds("elsewhere", **elsewhere, host=gethostname())
    assert call() == "held"


def test_a_client_that_died_just_before_its_launch_holds_nothing_for_long(
    functions: ModuleType,
    holds: Callable[..., Callable[[], str]],
    api: PrefectApi,
    tmp_path: Path,
) -> None:
    made = NewRun(
        flow="hold",
        name="hold()",
        parent_flow_run_id=None,
        parameters={},
        tags=(),
        labels={},
        job_variables={},
        state_name=PREPARING,
    )
    run_id = api.create_run(made)
    now = datetime.now(UTC)
    call = holds("died", run_id=run_id, api_url=api.url, taken=now.isoformat())
    with pytest.raises(OutputDirInUseError, match=r"\(Preparing\) writes to"):
        call()
    plan = functions.hold.plan("died", tmp_path / "marker")
    assert "(Preparing) writes to" in plan.obstacles[-1]
    earlier = now - timedelta(minutes=5)
    call = holds("died", run_id=run_id, api_url=api.url, taken=earlier.isoformat())
    assert functions.hold.plan("died", tmp_path / "marker").obstacles == ()
    assert call() == "held"
    api.set_state(run_id, "CANCELLED", message="the test is over")


def test_inputs_of_a_sweep_have_directories_of_their_own(
    functions: ModuleType, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    with pytest.raises(UsageError, match=r"inputs 0 and 2 would both write to .*held/x"):
        functions.hold.map([("x", marker), ("y", marker), ("x", marker)])
    group = functions.hold.map(iter([("x", marker), ("x", marker)]), return_exceptions=True)
    value, error = group.results()
    assert value == "held"
    assert "inputs 0 and 1 would both write to" in str(error)
    assert functions.hold.map([("x", marker), ("y", marker)]).results() == ["held", "held"]


def test_a_cached_answer_has_the_outputs_of_its_run(functions: ModuleType) -> None:
    first = functions.cached()
    run = functions.cached.submit()
    assert run.state == "Cached"
    assert run.outputs == run.result() == first
    # What another directory is to hold, no earlier run has written.
    elsewhere = functions.cached.with_options(output_dir="elsewhere/{name}").submit()
    assert elsewhere.result(timeout_seconds=60).endswith("/elsewhere/a")


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert left.value.code == 0


def test_the_command_lists_and_copies_outputs(
    functions: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = functions.train.submit("cli")
    assert run.result(timeout_seconds=60) == [0, 1, 2, 3]
    capsys.readouterr()
    command("runs", "outputs", short_id(run.id))
    *rows, total = capsys.readouterr().out.splitlines()
    assert [row.split()[-1] for row in rows] == [f"checkpoints/{step}" for step in range(4)]
    assert total == f"4 files, 0 bytes: {run.outputs}"
    target = tmp_path / "copy"
    command("runs", "outputs", run.id, "*/[01]", "--to", str(target), "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["files"], told["to"], told["gone"]) == (2, str(target), [])
    command("runs", "show", run.id)
    assert f"kinetic runs outputs {run.id}" in capsys.readouterr().out
