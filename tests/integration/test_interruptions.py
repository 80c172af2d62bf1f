"""Whatever interrupts a call that waits: its run is cancelled, or said to go on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
from prefect import Task, flow, task_engine
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_workers import eventually
from projects import Project, make_project

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery
from kinetic_flows.core.run_ids import short_id

FUNCTIONS = """
    import time
    from pathlib import Path

    import kinetic

    @kinetic.run(requirements=[])
    def sleepy(path):
        Path(path).write_text("started")
        time.sleep(600)

    @kinetic.run(requirements=[])
    def brief(path):
        Path(path).write_text("started")
        while Path(path).exists():
            time.sleep(0.02)

    @kinetic.run(requirements=[])
    async def drowsy(path):
        import asyncio

        Path(path).write_text("started")
        await asyncio.sleep(600)
"""


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    return make_project(tmp_path / "project", monkeypatch, {"interrupted.py": FUNCTIONS})


@pytest.fixture
def functions(project: Project) -> Iterator[ModuleType]:
    sys.modules.pop("interrupted", None)
    yield project.module("interrupted")
    sys.modules.pop("interrupted", None)


def _once_started(path: Path, act: Callable[[], None]) -> None:
    """Do something, in a thread, when a function has begun to run."""

    def watch() -> None:
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        act()

    threading.Thread(target=watch, daemon=True).start()


def _kill(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def _assert_cancelled(api: PrefectApi, told: str, name: str = "sleepy") -> None:
    """See that the newest run was cancelled, and that it was told."""
    run = api.find_runs(RunQuery(name=name), limit=1)[0]
    assert run.state_type == "CANCELLED"
    assert f"cancelling run {run.id}" in told


@pytest.mark.parametrize("raised", [TimeoutError("enough"), SystemExit(7)], ids=repr)
def test_a_handler_that_raises_anything_cancels_the_run(
    functions: ModuleType,
    api: PrefectApi,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    raised: BaseException,
) -> None:
    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise raised

    earlier = signal.signal(signal.SIGALRM, give_up)
    try:
        _once_started(tmp_path / "on", _kill(signal.SIGALRM))
        with pytest.raises(type(raised)) as caught:
            functions.sleepy(str(tmp_path / "on"))
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert caught.value is raised
    _assert_cancelled(api, capfd.readouterr().err)


def test_the_timeout_of_a_flow_cancels_the_run_that_it_waits_for(
    functions: ModuleType, api: PrefectApi, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @flow(timeout_seconds=10)
    def impatient() -> None:
        functions.sleepy(str(tmp_path / "on"))

    with temporary_settings({PREFECT_API_URL: api.url}), pytest.raises(TimeoutError):
        impatient()
    assert (tmp_path / "on").exists()
    _assert_cancelled(api, capfd.readouterr().err)


PROGRAMS = {
    "sleepy": "import sys; from interrupted import sleepy; sleepy(sys.argv[1])",
    "drowsy": (
        "import asyncio, sys; from interrupted import drowsy; asyncio.run(drowsy(sys.argv[1]))"
    ),
}


@pytest.mark.parametrize(
    ("name", "number"),
    [("sleepy", signal.SIGTERM), ("sleepy", signal.SIGHUP), ("drowsy", signal.SIGTERM)],
)
def test_a_signal_that_ends_the_program_cancels_its_run_first(
    project: Project, api: PrefectApi, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    program = project.start("-c", PROGRAMS[name], str(tmp_path / "on"))
    _once_started(tmp_path / "on", lambda: program.send_signal(number))
    told, _ = program.communicate(timeout=120)
    assert program.returncode == -number
    _assert_cancelled(api, told, name)


def test_waiting_for_what_goes_on_is_left_with_its_id(
    functions: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = functions.sleepy.submit(str(tmp_path / "on"))
    _once_started(tmp_path / "on", _kill(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run.result()
    eventually(lambda: run.state == "Running")
    assert f"`kinetic runs result {short_id(run.id)}` waits for it" in capfd.readouterr().err
    run.cancel()


def test_ctrl_c_leaves_the_launched_runs_of_a_sweep_when_asked_to(
    functions: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / name) for name in "abc"]
    group = functions.sleepy.map(paths, max_concurrent=1, on_interrupt="detach")
    _once_started(Path(paths[0]), _kill(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        group.results()
    (run,) = group.runs
    eventually(lambda: run.state == "Running")
    told = capfd.readouterr().err
    assert "(1 running, 2 not launched)" in told or "(1 pending, 2 not launched)" in told
    assert f"`kinetic runs cancel {short_id(group.id)}` ends them" in told
    run.cancel()


def test_following_the_lines_of_a_run_that_goes_on_is_left_with_its_id(
    functions: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = functions.sleepy.submit(str(tmp_path / "on"))
    _once_started(tmp_path / "on", _kill(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        list(run.logs(follow=True))
    assert f"`kinetic runs cancel {short_id(run.id)}` ends it" in capfd.readouterr().err
    run.cancel()


def test_ctrl_c_between_two_tasks_is_ctrl_c(
    functions: ModuleType,
    api: PrefectApi,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create: Any = task_engine._create_task_run_locally

    def interrupted(task: Task[..., Any], **kwargs: Any) -> Any:
        # Where Prefect's engine has no task run yet, and says only that.
        if task.name == "launch-accelerator":
            raise KeyboardInterrupt
        return create(task=task, **kwargs)

    monkeypatch.setattr(task_engine, "_create_task_run_locally", interrupted)
    with pytest.raises(KeyboardInterrupt):
        functions.sleepy(str(tmp_path / "on"))
    run = api.find_runs(RunQuery(function="sleepy"), limit=1)[0]
    assert (run.state_type, run.message) == ("CANCELLED", "interrupted")
    assert "cancelling" not in capfd.readouterr().err, "nothing was launched"


def test_a_program_that_asyncio_ends_waits_until_its_run_is_cancelled(
    functions: ModuleType, api: PrefectApi, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def give_up() -> None:
        calling = asyncio.ensure_future(functions.drowsy(str(tmp_path / "on")))
        while not (tmp_path / "on").exists():
            assert not calling.done()
            await asyncio.sleep(0.02)
        # The loop is closed with the call still at work.

    asyncio.run(give_up())
    _assert_cancelled(api, capfd.readouterr().err, "drowsy")


STARVING = """
    import os, resource, sys, threading, time

    from interrupted import brief

    def starve():
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.02)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        os.rename(sys.argv[1], sys.argv[1] + ".seen")

    threading.Thread(target=starve, daemon=True).start()
    brief(sys.argv[1])
"""


def test_a_client_that_can_open_nothing_more_leaves_no_flow_run_running(
    project: Project, api: PrefectApi, tmp_path: Path
) -> None:
    project.write({"starving.py": STARVING})
    done = project.python("starving.py", str(tmp_path / "on"))
    assert done.returncode == 1
    assert "Too many open files" in done.stderr
    run = api.find_runs(RunQuery(name="brief"), limit=1)[0]
    assert f"run {run.id} of {run.name} goes on" in done.stderr
    eventually(lambda: api.read_run(run.id).is_final)
