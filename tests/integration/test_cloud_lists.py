"""Lists of accelerators on the loopback cloud, whose pods are processes: in order and in a race."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect_workers import eventually
from projects import make_project

import kinetic
from kinetic_flows.clients.prefect.labels import ACCELERATOR_LABEL
from kinetic_flows.core.candidates import Launch
from kinetic_flows.core.errors import RunCancelled, RunCrashed
from kinetic_flows.core.job import COMPILE_CACHE_KEY_VARIABLE, RUN_KEY_VARIABLE
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.platforms.gke.names import LAUNCH_LABEL, RUN_ID_POD_LABEL
from kinetic_flows.runs.candidates import starting
from kinetic_flows.runs.candidates.rounds import Rounds
from kinetic_flows.runs.reconcile import reconcile
from kinetic_flows.runs.session import own_session
from kinetic_flows.runs.usage import usage_of
from loopback.kubernetes.node_groups import node_group
from loopback.quick_cloud import QuickCloud, a_quick_cloud

FUNCTIONS = """
    import time
    from pathlib import Path

    import kinetic

    @kinetic.run(accelerator=["l4:spot", "l4"], framework="none")
    def double(number):
        return 2 * number

    @kinetic.run(accelerator=["t4", "l4", "l4x2"], framework="none", strategy="race")
    def until(directory):
        calls = Path(directory)
        (calls / f"call-{time.time_ns()}").touch()
        while not (calls / "go").exists():
            time.sleep(0.02)
        return len(list(calls.glob("call-*")))
"""

SUBMIT = """
import os, signal, sys
import listed_functions
run = listed_functions.until.with_options(accelerator=["t4", "l4:spot"]).submit(sys.argv[1])
print(run.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A client that is killed in mid-race."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuickCloud]:
    with a_quick_cloud(tmp_path_factory.mktemp("cloud"), forks_pods=True) as running:
        running.cluster.add_nodes(node_group("l4:spot", "spots"))
        running.cluster.capacity.stock_out("spots")
        running.cluster.add_nodes(node_group("l4", "l4", nodes=4))
        running.cluster.add_nodes(node_group("l4x2", "l4x2", nodes=2))
        running.cluster.add_nodes(node_group("t4", "t4", max_nodes=4))
        running.cluster.capacity.withhold("t4")
        yield running


@pytest.fixture
def functions(
    cloud: QuickCloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[ModuleType]:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    project = make_project(tmp_path / "project", monkeypatch, {"listed_functions.py": FUNCTIONS})
    yield project.module("listed_functions")
    sys.modules.pop("listed_functions", None)


def launches(cloud: QuickCloud, run_id: str) -> list[str]:
    """Return which launches of a run have a Job."""
    jobs = [each["metadata"]["labels"] for each in cloud.cluster.list("jobs")]
    return sorted(each[LAUNCH_LABEL] for each in jobs if each.get(RUN_ID_POD_LABEL) == run_id)


def pod_of(cloud: QuickCloud, run_id: str, launch: str) -> str:
    """Return the name of a launch's pod."""
    labels = {RUN_ID_POD_LABEL: run_id, "batch.kubernetes.io/job-name": f"until-{run_id}-{launch}"}

    def is_it(pod: Any) -> bool:
        return pod["metadata"]["labels"].items() >= labels.items()

    return str(cloud.cluster.wait_for("pods", is_it)["metadata"]["name"])


def handed_over(cloud: QuickCloud, run_id: str, launch: str) -> set[str]:
    """Return the names of what a launch's pod has from its Secret."""
    (secret,) = [
        each
        for each in cloud.cluster.list("secrets")
        if f"{run_id}-{launch}" in each["metadata"]["name"]
    ]
    return {*secret.get("data", {}), *secret.get("stringData", {})}


def accelerator(run: kinetic.Run) -> str:
    """Return what a run's label says that it runs on."""
    with own_session(NullProgress()) as session:
        return str(session.api.read_run(run.id).labels[ACCELERATOR_LABEL])


def used_by(run: kinetic.Run) -> list[str]:
    """Return which accelerators a run has used, in the order of its starts."""
    with own_session(NullProgress()) as session:
        usage = usage_of(session.api.read_run(run.id), {})
    assert all(each.seconds > 0 and each.usd for each in usage.running)
    return [each.name for each in usage.running]


def before_launch(run: kinetic.Run[Any]) -> kinetic.Run[Any]:
    """Return a run as who attaches while its image is made has it."""
    return replace(run, ticket=replace(run.ticket, candidates=""))


def await_calls(directory: Path, count: int) -> None:
    """Wait until the function was called so often."""
    eventually(lambda: len(list(directory.glob("call-*"))) == count)


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Where the function notes that it was called, and waits for `go`."""
    directory = tmp_path / "calls"
    directory.mkdir()
    return directory


def test_in_order_the_next_is_tried_where_the_zone_has_none_and_a_retry_does_so_again(
    functions: ModuleType, cloud: QuickCloud, capfd: pytest.CaptureFixture[str]
) -> None:
    assert functions.double(21) == 42
    run = kinetic.list_runs(function="double", limit=1)[0]
    (said,) = [line for line in run.logs() if line.endswith("; l4 is tried")]
    # Whether it is the zone's answer that is seen first, or that it is not asked again so soon.
    assert said.startswith("l4:spot: ")
    assert f"kinetic: {said}\n" in capfd.readouterr().err
    assert accelerator(run) == "l4"
    eventually(lambda: launches(cloud, run.id) == ["r1c1"])
    again = run.retry()
    assert again.result(timeout_seconds=60) == 42
    assert any(line.endswith("; l4 is tried") for line in again.logs())


def test_a_race_of_three_of_which_two_start_at_once_has_one_winner(
    functions: ModuleType, cloud: QuickCloud, calls: Path
) -> None:
    run = functions.until.submit(str(calls))
    await_calls(calls, 1)
    eventually(lambda: len(launches(cloud, run.id)) == 1)
    assert before_launch(run).state == "Running"
    (calls / "go").touch()
    assert before_launch(run).result(timeout_seconds=60) == 1
    names = ("t4", "l4", "l4x2")
    (winner,) = (names[int(launch[-1])] for launch in launches(cloud, run.id))
    others = ", ".join(name for name in names if name != winner)
    (said,) = [line for line in run.logs() if line.startswith("race: ")]
    assert said.startswith(f"race: {winner} was first after ")
    assert said.endswith(f"; {others} are withdrawn")
    assert accelerator(run) == winner


def test_a_winner_that_is_preempted_at_once_goes_back_to_the_list(
    functions: ModuleType, cloud: QuickCloud, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = functions.until.with_options(accelerator=["t4", "l4"], max_preemptions=1)
    run = several.submit(str(calls))
    await_calls(calls, 1)
    keys = {RUN_KEY_VARIABLE, COMPILE_CACHE_KEY_VARIABLE}
    assert handed_over(cloud, run.id, "r0c1") == {*keys, "PREFECT_API_AUTH_STRING"}
    # Whoever launches it again has other credentials.
    anothers = {"PREFECT_API_KEY": "of-another"}
    monkeypatch.setattr(starting, "credentials_for", lambda *_: anothers)
    cloud.cluster.preempt(pod_of(cloud, run.id, "r0c1"))
    await_calls(calls, 2)
    assert handed_over(cloud, run.id, "r1c1") == keys
    (calls / "go").touch()
    assert run.result(timeout_seconds=60) == 2
    assert (
        "l4: the pod was stopped: its node shut down; its list is tried from the beginning (1 of "
        "at most 1 times)"
    ) in run.logs()
    eventually(lambda: launches(cloud, run.id) == ["r1c1"])


def test_another_client_takes_a_race_further_whose_client_was_killed(
    functions: ModuleType, cloud: QuickCloud, calls: Path, tmp_path: Path
) -> None:
    script = tmp_path / "project" / "submit.py"
    script.write_text(SUBMIT)
    ended = subprocess.run(
        [sys.executable, str(script), str(calls)], capture_output=True, text=True, check=False
    )
    run_id = ended.stdout.strip()
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert launches(cloud, run_id) == ["r0c0", "r0c1"]
    cloud.cluster.capacity.give("t4", nodes=1)
    await_calls(calls, 1)
    assert launches(cloud, run_id) == ["r0c0", "r0c1"]
    with own_session(NullProgress()) as session:
        reconcile(session.platform, session.api)
    eventually(lambda: launches(cloud, run_id) == ["r0c0"])
    (calls / "go").touch()
    assert kinetic.attach(run_id).result(timeout_seconds=60) == 1


def test_a_race_that_is_cancelled_leaves_nothing_in_the_cluster(
    functions: ModuleType, cloud: QuickCloud, calls: Path
) -> None:
    run = functions.until.with_options(accelerator=["t4", "l4:spot"]).submit(str(calls))
    assert launches(cloud, run.id) == ["r0c0", "r0c1"]
    before_launch(run).cancel()
    with pytest.raises(RunCancelled):
        run.result(timeout_seconds=60)
    assert run.state == "Cancelled"
    eventually(lambda: launches(cloud, run.id) == [])
    # Nor does whoever looks at it then launch anything.
    with own_session(NullProgress()) as session:
        listed = Rounds(session.platform.store, run.id).candidates(run.ticket.candidates)
        assert listed
        starter = starting.CandidateStarter(session.platform, session.api, run.ticket)
        with pytest.raises(RunCancelled, match="is Cancelled"):
            starter.start(listed, Launch(round=1, candidate=0))


def test_the_error_lists_what_was_tried_where_nothing_could_be_had(
    functions: ModuleType, cloud: QuickCloud
) -> None:
    none = functions.double.with_options(
        accelerator=["l4:spot", "v100"], schedule_timeout_seconds=1
    )
    with pytest.raises(RunCrashed) as caught:
        none(1)
    assert "none of its accelerators could be had:\n  - l4:spot: the auto" in caught.value.message
    assert "\n  - v100: it did not start within 1 seconds" in caught.value.message
    run = kinetic.list_runs(function="double", limit=1)[0]
    assert run.state == "Crashed"
    eventually(lambda: launches(cloud, run.id) == [])


def test_a_host_out_of_memory_goes_on_with_a_larger_accelerator(
    functions: ModuleType, cloud: QuickCloud, calls: Path
) -> None:
    larger = functions.until.with_options(
        accelerator=["l4", "l4x2"], strategy="in_order", on_oom="larger"
    )
    run = larger.submit(str(calls))
    await_calls(calls, 1)
    cloud.cluster.run_out_of_memory(pod_of(cloud, run.id, "r0c0"))
    await_calls(calls, 2)
    (calls / "go").touch()
    assert run.result(timeout_seconds=60) == 2
    (said,) = [line for line in run.logs() if line.startswith("l4: ")]
    assert said.endswith("; l4x2, which has more memory, is tried")
    assert used_by(run) == ["l4", "l4x2"]


def test_a_sweep_runs_each_input_on_what_can_be_had(
    functions: ModuleType, cloud: QuickCloud
) -> None:
    group = functions.double.map([(1,), (2,)])
    assert group.results(timeout_seconds=120) == [2, 4]
    eventually(lambda: all(launches(cloud, run.id) == ["r1c1"] for run in group.runs))
