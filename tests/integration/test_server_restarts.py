"""A Prefect server that goes away while a function runs: what is said, returned and recorded."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from databases import give_database
from prefect_workers import eventually
from projects import Project, make_project

import kinetic
from kinetic_flows.clients.prefect.server import PREFERRED_PORT, BackgroundServer, ServerRecord

FUNCTIONS = """
    import sys, time
    from pathlib import Path

    import kinetic

    @kinetic.run(requirements=[])
    def slow(directory):
        for stage in ("begun", "going on", "ending"):
            print(stage, flush=True)
            Path(directory, stage).touch()
            while not Path(directory, f"after {stage}").exists():
                time.sleep(0.05)
        if Path(directory, "bad").exists():
            raise ValueError("it is bad")
        return stage

    if __name__ == "__main__":
        slow(sys.argv[1])
"""
STAGES = ["begun", "going on", "ending"]


@dataclass(frozen=True, kw_only=True)
class OwnServer:
    """A Prefect server that may be stopped, as others have theirs."""

    server: BackgroundServer
    api_url: str
    access: Mapping[str, str]

    def stop(self) -> None:
        """Stop it as a reboot does."""
        record = self.server.status()
        assert record is not None
        os.killpg(record.process.pid, signal.SIGTERM)
        eventually(lambda: not record.process.is_alive())

    def start(self) -> None:
        """Start it again, at the same address."""
        assert self.server.ensure().api_url == self.api_url


def _at_a_port_of_its_own(server: BackgroundServer) -> ServerRecord:
    """Start a server elsewhere than where others start theirs while this one is stopped."""
    while True:
        with socket.socket() as taken:
            # Refused where somebody's server is there, which may end before this one has begun.
            with suppress(OSError):
                taken.bind(("127.0.0.1", PREFERRED_PORT))
                taken.listen()
            record = server.ensure()
        if not record.api_url.endswith(f":{PREFERRED_PORT}/api"):
            return record
        server.stop()


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    home = tmp_path_factory.mktemp("own-server")
    give_database(home)
    server = BackgroundServer(home, os.environ)
    record = _at_a_port_of_its_own(server)
    access = server.environment(record)
    yield OwnServer(server=server, api_url=record.api_url, access=access)
    server.stop()


@pytest.fixture
def prefect(own_server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> OwnServer:
    """The server, which runs when a test begins."""
    own_server.start()
    for name, value in own_server.access.items():
        monkeypatch.setenv(name, value)
    return own_server


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect: OwnServer,
    shared_kinetic_home: Path,
) -> Iterator[Project]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    yield make_project(tmp_path / "project", monkeypatch, {"slow_functions.py": FUNCTIONS})
    sys.modules.pop("slow_functions", None)


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("slow_functions")


def reach(directory: Path, stage: str) -> None:
    """Wait until the function is at a stage."""
    eventually((directory / stage).exists)


def leave(directory: Path, *stages: str) -> None:
    """Let the function go on from stages."""
    for stage in stages:
        (directory / f"after {stage}").touch()


def of_the_function(lines: list[str]) -> list[str]:
    """Return what the function printed, without what the runner and a traceback add."""
    return [line for line in lines if line in STAGES]


def newest() -> kinetic.Run[str]:
    (run,) = kinetic.list_runs(limit=1)
    return run


@pytest.mark.usefixtures("place")
def test_a_call_that_is_followed_survives_a_restart_of_the_server(
    functions: ModuleType, prefect: OwnServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(functions.slow, str(tmp_path))
        reach(tmp_path, "begun")
        prefect.stop()
        leave(tmp_path, "begun")
        reach(tmp_path, "going on")
        prefect.start()
        leave(tmp_path, "going on", "ending")
        assert call.result(timeout=120) == "ending"
    assert of_the_function(capfd.readouterr().out.splitlines()) == STAGES
    run = newest()
    assert run.state == "Completed"
    assert of_the_function(run.logs()) == STAGES


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("place", "outcome"),
    [("local", "returns"), ("local", "raises"), ("cluster", "returns")],
    indirect=["place"],
)
def test_a_call_whose_server_is_away_at_its_end_returns_or_raises_and_says_so_once(
    outcome: str,
    functions: ModuleType,
    prefect: OwnServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(functions.slow, str(tmp_path))
        reach(tmp_path, "begun")
        run = newest()
        prefect.stop()
        if outcome == "raises":
            (tmp_path / "bad").touch()
        leave(tmp_path, *STAGES)
        if outcome == "raises":
            with pytest.raises(ValueError, match="it is bad"):
                call.result(timeout=120)
        else:
            assert call.result(timeout=120) == "ending"
    shown = capfd.readouterr()
    assert of_the_function(shown.out.splitlines()) == STAGES
    assert shown.err.count("cannot be reached") == 1
    prefect.start()
    final = "Completed" if outcome == "returns" else "Failed"
    assert {each.id: each.state for each in kinetic.list_runs()}[run.id] == final
    assert of_the_function(run.logs()) == STAGES


def test_ctrl_c_stops_the_function_while_the_server_is_away(
    project: Project, prefect: OwnServer, tmp_path: Path
) -> None:
    client = project.start("slow_functions.py", str(tmp_path))
    reach(tmp_path, "begun")
    run = newest()
    prefect.stop()
    client.send_signal(signal.SIGINT)
    output = Path(os.environ["KINETIC_HOME"], "runs", run.id, "output.log")
    eventually(lambda: "terminated while the function ran" in output.read_text())
    # The function has stopped; the client notes the state that it owes.
    eventually((Path(os.environ["KINETIC_HOME"]) / "clients" / f"{run.id}.owed").exists)
    # Prefect's own threads would go on trying to send their logs for two minutes.
    os.killpg(client.pid, signal.SIGKILL)
    shown, _ = client.communicate()
    assert f"cancelling run {run.id}" in shown
    assert "their states are set when somebody looks again" in shown
    prefect.start()
    assert {each.id: each.state for each in kinetic.list_runs()}[run.id] == "Cancelled"


def test_a_run_that_ends_while_client_and_server_are_gone_is_settled_when_somebody_looks(
    project: Project, prefect: OwnServer, tmp_path: Path
) -> None:
    client = project.start("slow_functions.py", str(tmp_path))
    reach(tmp_path, "begun")
    os.killpg(client.pid, signal.SIGKILL)
    client.communicate()
    run = newest()
    process = Path(os.environ["KINETIC_HOME"], "runs", run.id, "process.json")
    assert process.exists()
    prefect.stop()
    leave(tmp_path, *STAGES)
    eventually(lambda: _has_result(run))
    prefect.start()
    shown = project.python(
        "-c",
        f"import kinetic; run = kinetic.attach({run.id!r}); print(run.result(), run.state)",
    )
    assert shown.stdout.endswith("ending Completed\n"), shown.stderr
    assert run.id not in [each.id for each in kinetic.list_runs(state="running")]
    assert of_the_function(kinetic.attach(run.id).logs()) == STAGES


def _has_result(run: kinetic.Run[str]) -> bool:
    from kinetic_flows.core.object_names import result_object

    return Path(os.environ["KINETIC_HOME"], "store", result_object(run.id)).exists()
