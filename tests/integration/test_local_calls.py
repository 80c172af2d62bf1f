"""Calls on this machine, through a real Prefect server: values, exceptions, states, logs."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import re
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from databases import give_database
from newest_runs import newest_run
from prefect_http import PREFECT
from prefect_workers import eventually
from projects import make_project

import kinetic
from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord, connect
from kinetic_flows.clients.prefect.flow_names import PARENT_FLOW
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.errors import (
    ConfigurationError,
    ObjectRefusedError,
    ResultError,
    RunCrashed,
    RunFailed,
    RunTimedOut,
    UnpicklableError,
    UsageError,
    WaitTimeout,
)
from terminals import Terminal

FUNCTIONS = """
    import asyncio, os, signal, sys, threading, time
    from dataclasses import dataclass
    from enum import Enum
    from pathlib import Path

    import kinetic

    class Colour(Enum):
        RED = 1

    class TooBad(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(code)
            self.code = code

    @kinetic.run
    def add(left, right=1):
        print(f"adding {left} and {right}")
        return left + right

    @kinetic.run(accelerator="cpu")
    def same(value):
        return value

    @kinetic.run
    def keywords(**given):
        return given

    @kinetic.run()
    def bad(code):
        raise TooBad(code)

    @kinetic.run()
    def leave():
        sys.exit("done here")

    @kinetic.run()
    def unpicklable():
        return threading.Lock()

    @kinetic.run()
    def die(number):
        print("last words", flush=True)
        os.kill(os.getpid(), number)

    @kinetic.run(timeout_seconds=0.5)
    def endless():
        while True:
            time.sleep(0.05)

    @kinetic.run()
    def sleepy(path):
        Path(path).write_text("started")
        time.sleep(600)

    @kinetic.run()
    async def later(value):
        await asyncio.sleep(0.01)
        return value

    @kinetic.run()
    def nested(value):
        return add(value) + 1

    @kinetic.run(capture_env_vars=["SECRET_TOKEN"])
    def variables():
        return os.environ.get("SECRET_TOKEN"), os.environ.get("NOT_CAPTURED")

    @kinetic.run()
    def data():
        return open("data/values.txt").read()

    @kinetic.run()
    def where():
        directory = Path(os.environ["KINETIC_OUTPUT_DIR"])
        (directory / "model.txt").write_text("weights")
        return str(directory), os.environ["KINETIC_RUN_ID"]

    @kinetic.run(retries=2)
    def flaky(path):
        tries = int(Path(path).read_text()) + 1 if Path(path).exists() else 1
        Path(path).write_text(str(tries))
        if tries < 3:
            raise ValueError(f"try {tries}")
        return tries

    class Model:
        def __init__(self, factor):
            self.factor = factor

        @kinetic.run()
        def scale(self, value):
            return self.factor * value
"""


@pytest.fixture
def functions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[ModuleType]:
    """A project with one function for each thing that can happen."""
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    project = make_project(
        tmp_path / "project",
        monkeypatch,
        {"functions.py": FUNCTIONS, "data/values.txt": "1 2 3\n"},
    )
    sys.modules.pop("functions", None)
    yield project.module("functions")
    sys.modules.pop("functions", None)


def _newest(api: PrefectApi) -> RunRecord:
    return newest_run(api)


def test_a_call_returns_the_functions_value_and_shows_its_output(
    functions: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    assert functions.add(40, right=2) == 42
    shown = capfd.readouterr()
    assert "adding 40 and 2" in shown.out
    assert "running on this machine" in shown.err
    assert re.search(r"kinetic: ✓ \w+\(.*\) on cpu · .* · http://", shown.err)
    assert "Beginning flow run" not in shown.out + shown.err


def test_all_that_a_call_leaves_in_the_home_is_its_users_own(
    functions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a-home"
    monkeypatch.setenv("KINETIC_HOME", str(home))
    umask = os.umask(0)
    try:
        assert functions.add(40, right=2) == 42
    finally:
        os.umask(umask)
    # Nobody else gets there: what uv installs, and what the function itself writes.
    apart = {home / "environments", home / "store" / "outputs"}
    left = [path for path in (home, *home.rglob("*")) if not apart & {path, *path.parents}]
    assert len(left) > 20
    assert [path for path in left if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(("name", "value"), [("KINETIC_PROGRESS", "quiet"), ("KINETIC_QUIET", "1")])
def test_quiet_shows_nothing_but_what_the_function_prints(
    name: str,
    value: str,
    functions: ModuleType,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, value)
    assert functions.add(1) == 2
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("adding 1 and 1\n", "")


def test_a_warm_call_leaves_one_line_that_says_where_its_run_is(
    functions: ModuleType, api: PrefectApi, capfd: pytest.CaptureFixture[str]
) -> None:
    functions.add(1, right=2)
    capfd.readouterr()
    functions.add(3, right=4)
    shown = capfd.readouterr()
    assert shown.out == "adding 3 and 4\n"
    url = api.run_url(_newest(api).id)
    line = rf"kinetic: ✓ add\(left=3, right=4\) on cpu · [\d.]+ s · {re.escape(url)}\n"
    assert re.fullmatch(line, shown.err), shown.err


def test_on_a_terminal_output_stands_above_the_line_of_a_warm_call(
    functions: ModuleType,
) -> None:
    assert functions.add(1) == 2
    program = "import functions; print('value:', functions.add(3, right=4))"
    terminal = Terminal([sys.executable, "-c", program], {**os.environ, "CI": ""}, columns=160)
    try:
        terminal.until(r"^\* add\(left=3, right=4\) on cpu · N s · import-prefect$")
        terminal.until("adding 3 and 4")
        terminal.end()
    finally:
        terminal.close()
    output, line, value = terminal.lines
    assert output == "adding 3 and 4"
    assert line.startswith("✓ add(left=3, right=4) on cpu · N s · http://")
    assert value == "value: 7"


def test_a_call_that_fails_says_where_its_run_is(
    functions: ModuleType, api: PrefectApi, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(functions.TooBad):
        functions.bad(3)
    last = capfd.readouterr().err.splitlines()[-1]
    assert re.match(r"kinetic: ✗ bad\(.*\) on cpu · failed after [\d.]+ s · http", last), last
    assert last.endswith(_newest(api).id)


def test_a_call_is_one_flow_run_with_its_log_and_final_state(
    functions: ModuleType, api: PrefectApi
) -> None:
    run = functions.add.submit(1, 2)
    assert run.result(timeout_seconds=60) == 3
    record = api.read_run(run.id)
    assert record.state_type == "COMPLETED"
    assert record.parameters == {"left": "1", "right": "2"}
    assert "kinetic" in record.tags
    assert record.parent_task_run_id is None
    assert api.find_runs(RunQuery(flow=PARENT_FLOW, since=record.created)) == []
    assert run.logs() == ["adding 1 and 2"]
    assert run.state == "Completed"


def test_every_step_is_a_task_run_and_a_repeated_build_is_cached(
    functions: ModuleType, api: PrefectApi, prefect_api_url: str
) -> None:
    functions.same(1)
    functions.same(1)
    states = _steps_of(_newest(api), prefect_api_url)
    assert _artifact_packages(prefect_api_url) >= {"cloudpickle"}
    assert states == {
        "lock-dependencies": "Completed",
        "resolve-image": "Completed",
        "build-image": "Cached",
        "upload-code": "Completed",
        "launch same": "Completed",
    }


def test_a_call_s_steps_reach_its_server_after_one_at_another(
    functions: ModuleType, api: PrefectApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions.same(1)
    give_database(tmp_path)
    other = BackgroundServer(tmp_path, os.environ)
    try:
        record = other.ensure()
        for name, value in other.environment(record).items():
            monkeypatch.setenv(name, value)
        functions.same(1)
        with connect(record.api_url) as there:
            assert _steps_of(_newest(there), record.api_url)["launch same"] == "Completed"
        assert record.api_url != api.url
    finally:
        other.stop()


def _artifact_packages(api_url: str) -> set[str]:
    """Return the packages in the newest artifact that shows an environment."""
    wanted = {"artifacts": {"key": {"any_": ["environment"]}}, "sort": "CREATED_DESC", "limit": 1}
    found = PREFECT.post(f"{api_url}/artifacts/filter", json=wanted).json()
    return {row["package"] for row in json.loads(found[0]["data"])}


def _steps_of(run: RunRecord, api_url: str) -> dict[str, str]:
    from prefect.client.schemas.filters import TaskRunFilter
    from prefect.client.schemas.sorting import TaskRunSort

    with connect(api_url) as api:
        client = api.client
        wanted = TaskRunFilter.model_validate({"flow_run_id": {"any_": [run.id]}})
        deadline = time.monotonic() + 30
        # Prefect records task runs from events, a moment after they happened.
        while time.monotonic() < deadline:
            found = client.read_task_runs(
                task_run_filter=wanted, sort=TaskRunSort.NAME_ASC, limit=50
            )
            states = {each.name: each.state_name or "" for each in found}
            if len(states) >= 5 and not {"Running", "Pending"} & set(states.values()):
                return states
            time.sleep(0.2)
        return states


@pytest.mark.parametrize(
    "value",
    [None, b"\x00\xff", {"nested": [1, (2, 3)]}, float("inf"), "ünï\ncode", 10**40],
    ids=repr,
)
def test_values_of_every_kind_come_back_equal(functions: ModuleType, value: Any) -> None:
    assert functions.same(value) == value


def test_a_large_value_comes_back_whole(functions: ModuleType) -> None:
    value = os.urandom(40_000_000)
    run = functions.same.submit(value)
    assert run.result() == value
    assert run.retry().result() == value


def test_arguments_are_kept_no_longer_than_their_call_lasts(functions: ModuleType) -> None:
    value = set(range(10))
    kept = weakref.ref(value)
    assert functions.same(value) == value
    run = functions.same.submit(value)
    del value
    # Threads of Prefect may still be about to end.
    eventually(lambda: gc.collect() >= 0 and kept() is None, seconds=60)
    assert run.result() == set(range(10))


def test_classes_of_the_project_keep_their_identity(functions: ModuleType) -> None:
    assert functions.same(functions.Colour.RED) is functions.Colour.RED


def test_an_exception_is_raised_as_its_own_type_with_the_remote_traceback(
    functions: ModuleType, api: PrefectApi
) -> None:
    with pytest.raises(functions.TooBad) as caught:
        functions.bad(7)
    assert caught.value.code == 7
    *_, frame = traceback.extract_tb(caught.value.__traceback__)
    assert (frame.name, frame.line) == ("bad", "raise TooBad(code)")
    assert Path(frame.filename) == Path(functions.__file__)
    (note,) = caught.value.__notes__
    assert api.run_url(_newest(api).id) in note
    record = _newest(api)
    assert record.state_type == "FAILED"
    assert "TooBad: 7" in record.message


def test_system_exit_is_a_failure_with_a_message(functions: ModuleType) -> None:
    with pytest.raises(RunFailed, match="SystemExit: done here"):
        functions.leave()


def test_an_unpicklable_result_says_its_type(functions: ModuleType) -> None:
    with pytest.raises(ResultError, match="lock"):
        functions.unpicklable()


def test_an_unpicklable_argument_is_named_before_anything_is_uploaded(
    functions: ModuleType, api: PrefectApi
) -> None:
    before = len(api.find_runs())
    with pytest.raises(UnpicklableError, match="value"):
        functions.same(sys._getframe())
    assert len(api.find_runs()) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_function_is_a_crash_with_its_signal_and_last_lines(
    functions: ModuleType, api: PrefectApi, number: signal.Signals
) -> None:
    with pytest.raises(RunCrashed, match=number.name) as caught:
        functions.die(int(number))
    assert "last words" in caught.value.log_tail
    assert _newest(api).state_type == "CRASHED"


def test_a_timeout_is_told_as_one(functions: ModuleType, api: PrefectApi) -> None:
    with pytest.raises(RunTimedOut, match=r"0\.5 s"):
        functions.endless()
    assert _newest(api).state_type == "FAILED"


def test_a_function_that_raised_is_called_again(functions: ModuleType, tmp_path: Path) -> None:
    assert functions.flaky(str(tmp_path / "tries")) == 3


def test_a_coroutine_function_is_awaited_there_and_here(functions: ModuleType) -> None:
    async def call() -> tuple[Any, Any]:
        run = functions.later.submit(2)
        return await functions.later(1), await run

    assert asyncio.run(call()) == (1, 2)


def test_a_plain_function_can_be_called_while_an_event_loop_runs(functions: ModuleType) -> None:
    async def cell() -> Any:
        return functions.add(1, 1)

    assert asyncio.run(cell()) == 2


def test_a_method_gets_its_instance(functions: ModuleType) -> None:
    assert functions.Model(6).scale(7) == 42


def test_a_nested_call_runs_in_the_same_run(functions: ModuleType, api: PrefectApi) -> None:
    before = len(api.find_runs())
    assert functions.nested(1) == 3
    assert len(api.find_runs()) == before + 1


def test_only_captured_variables_are_there(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    monkeypatch.setenv("NOT_CAPTURED", "here only")
    assert functions.variables() == ("s3cret", None)


def test_a_missing_captured_variable_is_an_error_before_anything_runs(
    functions: ModuleType,
) -> None:
    with pytest.raises(ConfigurationError, match="SECRET_TOKEN"):
        functions.variables()


def test_relative_paths_behave_as_they_do_here(functions: ModuleType) -> None:
    assert functions.data() == "1 2 3\n"


def test_each_run_has_an_output_directory_of_its_own(functions: ModuleType) -> None:
    directory, run_id = functions.where()
    assert run_id in directory
    assert (Path(directory) / "model.txt").read_text() == "weights"


def test_the_plain_function_stays_within_reach(functions: ModuleType) -> None:
    assert functions.add.fn(1, 2) == 3


def test_arguments_that_do_not_fit_are_pythons_own_error(functions: ModuleType) -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'left'"):
        functions.add()


def test_a_run_can_be_pickled_and_attached(functions: ModuleType) -> None:
    run = functions.add.submit(1, 2)
    assert pickle.loads(pickle.dumps(run)).result() == 3
    assert kinetic.attach(run.id).result() == 3
    assert kinetic.attach(run.url).id == run.id
    assert run.id in {listed.id for listed in kinetic.list_runs(limit=5)}


def test_a_run_is_known_by_its_functions_name(functions: ModuleType) -> None:
    run = functions.add.submit(1, 2)
    named = functions.add.with_options(name="nightly-sum").submit(1, 2)
    assert kinetic.attach(run.id).name == run.name == "add(left=1, right=2)"
    assert kinetic.attach(run.id[:8]).function == run.function == "add"
    assert run.wait().timings().keys() >= {"plan", "lock", "upload", "wait", "run"}
    assert run.id in {each.id for each in kinetic.list_runs(function="add", mine=True)}
    assert [listed.id for listed in kinetic.list_runs(name="nightly-s", limit=1)] == [named.id]


def test_an_output_directory_may_be_relative_and_outlives_the_run(
    functions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINETIC_OUTPUT_DIR", "outputs")
    directory, run_id = functions.where()
    assert Path(directory) == tmp_path / "outputs" / run_id
    assert (Path(directory) / "model.txt").read_text() == "weights"


def test_an_output_uri_is_refused_on_this_machine(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_OUTPUT_DIR", "gs://bucket/outputs")
    with pytest.raises(ConfigurationError, match="gs://bucket/outputs"):
        functions.add(1)


def test_parameters_may_have_any_name(functions: ModuleType) -> None:
    assert functions.keywords(self=1, args=2) == {"self": 1, "args": 2}


def test_waiting_is_bounded_and_cancelling_ends_the_run(
    functions: ModuleType, tmp_path: Path, api: PrefectApi
) -> None:
    marker = tmp_path / "marker"
    run = functions.sleepy.submit(str(marker))
    deadline = time.monotonic() + 30
    while not marker.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(WaitTimeout):
        run.result(timeout_seconds=0.2)
    run.cancel()
    with pytest.raises(kinetic.RunCancelled):
        run.result(timeout_seconds=30)
    assert api.read_run(run.id).state_type == "CANCELLED"


def test_a_forged_result_is_refused(functions: ModuleType, shared_kinetic_home: Path) -> None:
    run = functions.add.submit(1, 2)
    run.wait()
    result = shared_kinetic_home / "store" / "runs" / run.id / "result.pkl"
    result.write_bytes(result.read_bytes()[:-1] + b"!")
    with pytest.raises(ObjectRefusedError, match=r"result\.pkl"):
        run.result()


def test_an_accelerator_needs_a_cluster_unless_told_otherwise(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    on_tpu = functions.add.with_options(accelerator="tpu-v6e-8")
    with pytest.raises(ConfigurationError, match="tpu-v6e-8") as caught:
        on_tpu(1)
    assert "KINETIC_PLATFORM=local" in str(caught.value)
    monkeypatch.setenv("KINETIC_PLATFORM", "local")
    assert on_tpu(1) == 2
    assert "runs on the CPU here" in capfd.readouterr().err


def test_images_are_refused_and_prebuilt_says_what_it_means_here(
    functions: ModuleType, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_PROGRESS", "verbose")  # a warm call says it no more
    with pytest.raises(UsageError, match="us-docker"):
        functions.add.with_options(container_image="us-docker.pkg.dev/p/r/i:v1")(1)
    with pytest.raises(UsageError, match="did you mean 'bundled'"):
        functions.add.with_options(container_image="bundeld")
    assert functions.add.with_options(container_image="prebuilt")(1) == 2
    assert "same environment as bundled" in capfd.readouterr().err


def test_as_a_flow_it_launches_remotely_and_takes_the_same_arguments(
    functions: ModuleType, prefect_api_url: str
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    flow = functions.add.as_flow()
    assert list(flow.parameters.properties) == ["left", "right"]
    # Prefect read the variable when it was imported; without this it starts a server.
    with temporary_settings({PREFECT_API_URL: prefect_api_url}):
        assert flow(40, right=2) == 42
