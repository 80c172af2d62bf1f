"""Runs on several hosts, which are processes here: they find one another, and end together."""

from __future__ import annotations

import gzip
import json
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from projects import Project, make_project
from stuck_hosts import HANGS, hanging

import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.core.errors import LaunchError, RunCrashed, UsageError
from runner_jobs import wait_until
from torch_builds import torch_requirement

FUNCTIONS = """
    import os, time
    from pathlib import Path

    import kinetic

    NAMES = ("KINETIC_HOST", "RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

    @kinetic.run(hosts=2)
    def told(directory):
        host = os.environ["KINETIC_HOST"]
        print(f"this is host {host}")
        names = (*NAMES, "MASTER_ADDR", "MASTER_PORT", "KINETIC_COORDINATOR_ADDRESS")
        Path(directory, host).write_text(" ".join(os.environ[name] for name in names))
        return int(host)

    @kinetic.run(hosts=3)
    def one_fails(directory, how):
        host = os.environ["KINETIC_HOST"]
        Path(directory, host).write_text(str(os.getpid()))
        while len(os.listdir(directory)) < 3:
            time.sleep(0.02)
        if host == "1":
            how()
        time.sleep(600)

    def raises():
        raise ValueError("host 1 has a bug")

    def kills_its_runner():
        os.kill(os.getppid(), 9)

    def sleeps():
        time.sleep(600)
"""


FRAMEWORKS = """
    import kinetic

    @kinetic.run(hosts=2)
    def meet():
        import jax
        import numpy
        from jax.experimental.multihost_utils import process_allgather

        jax.distributed.initialize()
        gathered = process_allgather(numpy.array(10.0 + jax.process_index()))

        import torch
        from torch import distributed

        distributed.init_process_group("gloo")
        summed = torch.ones(2) * (1 + distributed.get_rank())
        distributed.all_reduce(summed)
        distributed.destroy_process_group()
        return jax.process_count(), gathered.ravel().tolist(), summed.tolist()
"""


PROFILED = """
    import time

    import kinetic

    @kinetic.run(hosts=2)
    def multiplies():
        import torch

        ones = torch.ones(50, 50)
        while True:
            ones @ ones
            time.sleep(0.01)
"""


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[Project]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    yield make_project(
        tmp_path / "project", monkeypatch, {"host_functions.py": FUNCTIONS, "hanging.py": HANGS}
    )
    for name in ("host_functions", "host_frameworks", "hanging"):
        sys.modules.pop(name, None)


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("host_functions")


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where functions leave which hosts they were called on."""
    directory = tmp_path / "marks"
    directory.mkdir()
    return directory


def wait_for(marks: Path, count: int) -> list[int]:
    """Wait until as many hosts have left their process's number, and return these."""
    deadline = time.monotonic() + 120
    while True:
        found = [each.read_text() for each in sorted(marks.iterdir())]
        if len(found) == count and all(found):
            return [int(text) for text in found]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    return printed


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of these processes lives."""
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_host_calls_the_function_and_knows_the_others(
    functions: ModuleType, marks: Path
) -> None:
    run = functions.told.submit(str(marks))
    assert run.result() == 0
    first, second = ((marks / host).read_text().split() for host in "01")
    assert first[:6] == ["0", "0", "0", "2", "0", "1"]
    assert second[:6] == ["1", "1", "1", "2", "0", "1"]
    assert first[6:] == second[6:]
    address, port, coordinator = first[6:]
    assert address == "127.0.0.1"
    assert coordinator != f"{address}:{port}", "JAX and PyTorch listen both"
    assert {"[host 0] this is host 0", "[host 1] this is host 1"} <= set(run.logs())


def test_what_is_tried_again_has_its_hosts(functions: ModuleType, marks: Path) -> None:
    group = functions.told.map([str(marks)])
    assert group.results() == [0]
    again = group.runs[0].retry()
    assert again.result() == 0
    assert kinetic.attach(again.id).result() == 0
    assert "[host 1] this is host 1" in again.logs()


def test_a_worker_starts_one_process_alone(functions: ModuleType) -> None:
    with pytest.raises(LaunchError, match="starts one process for each run, and hosts=2 is"):
        functions.told.deploy("nightly", parameters={"directory": "."})


def test_hosts_stop_when_one_has_raised(functions: ModuleType, marks: Path) -> None:
    with pytest.raises(ValueError, match="host 1 has a bug") as failure:
        functions.one_fails(str(marks), functions.raises)
    assert "in raises" in "".join(traceback.format_exception(failure.value))
    wait_until_gone(wait_for(marks, 3))


def test_hosts_stop_when_the_process_of_one_was_killed(functions: ModuleType, marks: Path) -> None:
    run = functions.one_fails.submit(str(marks), functions.kills_its_runner)
    with pytest.raises(RunCrashed, match="the process of host 1 was killed") as crash:
        run.result()
    wait_until_gone(wait_for(marks, 3))
    assert f"`kinetic runs why {run.id}` says what is known of it" in str(crash.value)
    why = run.why()
    assert (why.cause, why.host) == ("host_lost", 1)
    assert why.sentence == (
        "The process of host 1 was killed from outside, and said nothing: its process was killed "
        "by SIGKILL."
    )


def test_a_cancelled_run_stops_on_every_host(functions: ModuleType, marks: Path) -> None:
    run = functions.one_fails.submit(str(marks), functions.sleeps)
    pids = wait_for(marks, 3)
    run.cancel()
    assert run.state == "Cancelled"
    wait_until_gone(pids)


def test_the_host_that_hangs_in_native_code_is_named_while_the_others_wait_for_it(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    function = kinetic.run(hosts=3, stuck_after_seconds=1)(project.module("hanging").one_hangs)
    with hanging(function) as run:
        printed = command(capsys, "runs", "stacks", run.id)
        (told,) = json.loads(command(capsys, "runs", "stacks", run.id, "--host=1", "--json"))[
            "hosts"
        ]
        wait_until(lambda: sum("may be stuck" in line for line in run.logs()) >= 3)
        log = run.logs()
    sentence, differing, others = printed.strip().split("\n\n")
    assert sentence.startswith(
        "host 1 differs: in load (hanging.py:18); "
        "hosts 0, 2: in all_reduce (hanging.py:21), there in wait (threading.py:"
    )
    assert differing.startswith("host 1 (process ")
    assert "keeps Python's lock (GIL)\n  main thread: waiting\n" in differing
    assert differing.endswith("in load\n      ctypes.PyDLL(None).pause()")
    assert others.startswith("hosts 0, 2: what host 0 (process ")
    assert told["threads"][0]["frames"][-1]["function"] == "load"
    assert f'  File "{project.root / "hanging.py"}", line 18, in load' in log


def test_a_run_that_is_over_has_no_stacks(functions: ModuleType, marks: Path) -> None:
    run = functions.told.submit(str(marks)).wait()
    assert str(run.why()) == "Nothing went wrong: the function returned."
    with pytest.raises(UsageError, match=r"run told\(.* is over: Completed"):
        run.stacks()


def test_jax_and_torch_need_no_arguments_to_meet_and_the_call_is_profiled(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write({"host_frameworks.py": FRAMEWORKS})
    function = project.module("host_frameworks").meet
    requirements = ["jax", torch_requirement(monkeypatch)]
    run = function.with_options(requirements=requirements, profile=True).submit()
    assert run.result() == (2, [10.0, 11.0], [3.0, 3.0])
    # The profiler has left it to the function to say where jax has its devices.
    (session,) = run.outputs.download("traces", "profile/*").glob(f"**/call-{run.id[:8]}-0-0")
    assert sorted(each.name for each in session.iterdir()) == [
        f"host-{host}.{end}" for host in (0, 1) for end in ("trace.json.gz", "xplane.pb")
    ]
    assert any("the profile of" in line and "(jax, " in line for line in run.logs())


def test_hosts_are_profiled_together_while_they_go_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write({"profiled.py": PROFILED})
    function = project.module("profiled").multiplies
    run = function.with_options(requirements=["jax", torch_requirement(monkeypatch)]).submit()
    told: dict[str, Any] = {}

    def are_all_profiled() -> bool:
        """Whether both hosts were at their work when they were to be profiled."""
        with suppress(AssertionError):
            printed = command(capsys, "runs", "profile", run.id, "--seconds=0.1", "--json")
            told.update(json.loads(printed))
        assert run.state not in ("Failed", "Crashed")
        return bool(told) and not any("why_not" in each for each in told["hosts"]) and is_shown(1)

    def is_shown(host: int) -> bool:
        """Whether what a host multiplied is in its trace: it may just have imported torch."""
        file = Path(told["directory"]).parent / told["hosts"][host]["files"][0]
        return b"aten::mm" in gzip.decompress(file.read_bytes())

    try:
        wait_until(are_all_profiled, seconds=120)
    finally:
        run.cancel()
    names = [f"profile/plugins/profile/{told['session']}/host-{host}" for host in (0, 1)]
    assert [each["files"] for each in told["hosts"]] == [
        [f"{name}.pt.trace.json.gz"] for name in names
    ]
