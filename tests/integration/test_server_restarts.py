"""A Prefect server that goes away while a function runs: what is said, returned and recorded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest
from databases import give_database
from prefect_workers import eventually
from projects import Project, make_project

import kinetic
from kinetic_flows.clients.prefect.server import PREFERRED_PORT, BackgroundServer, ServerRecord
from kinetic_flows.core.object_names import result_object
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import os, sys, time
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import kinetic

    @kinetic.run(requirements=[])
    def slow(directory):
        for stage in ("begun", "going on", "ending"):
            print(f"{Path(directory).name}: {stage}", flush=True)
            Path(directory, stage).touch()
            while not Path(directory, f"after {stage}").exists():
                time.sleep(0.05)
        if Path(directory, "bad").exists():
            raise ValueError("it is bad")
        return stage

    def call(directory):
        name = Path(directory).name
        try:
            value = slow.with_options(name=name)(directory)
        except ValueError as error:
            value = repr(error)
        print(f"{name} gave {value}", flush=True)

    if __name__ == "__main__":
        first, *others = sys.argv[1:]
        with ThreadPoolExecutor() as pool:
            waiting = [pool.submit(call, each) for each in others]
            call(first)
        # Prefect's own threads would go on trying to send their logs for two minutes.
        os._exit(0)
"""
STAGES = ["begun", "going on", "ending"]
CALLS = {"followed": "ending", "returns": "ending", "raises": "ValueError('it is bad')"}
"""Calls of each place, and what they give: the first when the server is back, the others before."""

PLACES = ("local", "cluster")

FOLLOWED = "local-followed"
"""The run whose log somebody follows who is no client of it."""


@dataclass(frozen=True, kw_only=True)
class OwnServer:
    """A Prefect server that may be stopped, as others have theirs."""

    server: BackgroundServer
    api_url: str
    access: Mapping[str, str]

    def use(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """Have this process, and those that it starts, be the server's clients."""
        for name, value in self.access.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KINETIC_HOME", str(home))

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


@dataclass(frozen=True, kw_only=True)
class Client:
    """A process that calls functions, each named after the directory that it is given."""

    process: subprocess.Popen[bytes]
    output: Path
    directories: Mapping[str, Path]

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        return self.output.read_text().splitlines()

    def reach(self, name: str, stage: str) -> None:
        """Wait until a function is at a stage."""
        eventually((self.directories[name] / stage).exists)

    def leave(self, name: str, *stages: str) -> None:
        """Let a function go on from stages."""
        for stage in stages:
            (self.directories[name] / f"after {stage}").touch()

    def gives(self, name: str) -> str:
        """Wait until a call has ended, and return what it gave."""
        words = f"{name} gave "
        eventually(lambda: any(line.startswith(words) for line in self.lines))
        return next(line for line in self.lines if line.startswith(words))[len(words) :]

    def kill(self) -> None:
        """End it, and what it has started, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True, kw_only=True)
class Outage:
    """What happened while the server was away for a while.

    Attributes:
        project: The project whose functions ran.
        clients: Who called them, by name.
        gave: What calls gave, by the names of their runs.
        followed: What somebody was shown who followed the log of a run all the while.
        ids: The runs' ids, by their names.
    """

    project: Project
    clients: Mapping[str, Client]
    gave: Mapping[str, str]
    followed: Sequence[str]
    ids: Mapping[str, str]


def start_client(project: Project, who: str, names: Iterable[str], **variables: str) -> Client:
    """Start a process that calls a function for each name."""
    directories = {name: project.root.parent / f"{who}-{name}" for name in names}
    for directory in directories.values():
        directory.mkdir()
    output = project.root.parent / f"{who}.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "slow_functions.py", *map(str, directories.values())],
            cwd=project.root,
            env={**os.environ, **variables},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    named = {directory.name: directory for directory in directories.values()}
    return Client(process=process, output=output, directories=named)


@pytest.fixture(scope="module")
def gone_through(
    own_server: OwnServer,
    quick_cloud: QuickCloud,
    shared_kinetic_home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outage]:
    """Stop the server while functions run, and start it again; once for all tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        own_server.use(monkeypatch, shared_kinetic_home)
        root = tmp_path_factory.mktemp("outage") / "project"
        project = make_project(root, monkeypatch, {"slow_functions.py": FUNCTIONS})
        clients = {
            "local": start_client(project, "local", CALLS),
            "cluster": start_client(project, "cluster", CALLS, **quick_cloud.environment),
            "interrupted": start_client(project, "interrupted", ["run"]),
            "killed": start_client(project, "killed", ["run"]),
        }
        try:
            yield go_through(project, own_server, clients)
        finally:
            for client in clients.values():
                with suppress(ProcessLookupError):
                    client.kill()


@pytest.fixture
def outage(
    gone_through: Outage,
    own_server: OwnServer,
    shared_kinetic_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Outage:
    """What happened, for those who ask the server about it."""
    own_server.use(monkeypatch, shared_kinetic_home)
    return gone_through


def go_through(project: Project, server: OwnServer, clients: Mapping[str, Client]) -> Outage:
    """Stop the server while every function runs, and start it when calls have ended without."""
    for client in clients.values():
        for name in client.directories:
            client.reach(name, "begun")
    ids = {run.function: run.id for run in kinetic.list_runs()}
    followed: list[str] = []
    follower = Thread(target=follow, args=(ids[FOLLOWED], followed), daemon=True)
    follower.start()
    eventually(lambda: stages_of(FOLLOWED, followed) == STAGES[:1])
    clients["killed"].kill()
    server.stop()
    clients["interrupted"].process.send_signal(signal.SIGINT)
    clients["killed"].leave("killed-run", *STAGES)
    gave: dict[str, str] = {}
    for place in PLACES:
        (clients[place].directories[f"{place}-raises"] / "bad").touch()
        clients[place].leave(f"{place}-followed", "begun")
        for name in (f"{place}-returns", f"{place}-raises"):
            clients[place].leave(name, *STAGES)
    for place in PLACES:
        clients[place].reach(f"{place}-followed", "going on")
        for name in (f"{place}-returns", f"{place}-raises"):
            gave[name] = clients[place].gives(name)
    eventually(lambda: stages_of(FOLLOWED, followed) == STAGES[:2])
    wait_for_what_is_owed(ids)
    clients["interrupted"].kill()
    server.start()
    for place in PLACES:
        clients[place].leave(f"{place}-followed", "going on", "ending")
        gave[f"{place}-followed"] = clients[place].gives(f"{place}-followed")
    eventually(lambda: not follower.is_alive())
    return Outage(project=project, clients=clients, gave=gave, followed=followed, ids=ids)


def follow(run_id: str, followed: list[str]) -> None:
    """Take the lines of a run's log as they come."""
    followed.extend(kinetic.attach(run_id).logs(follow=True))


def wait_for_what_is_owed(ids: Mapping[str, str]) -> None:
    """Wait until runs have ended whose clients were interrupted or killed."""
    home, stopped, alone = (
        Path(os.environ["KINETIC_HOME"]),
        ids["interrupted-run"],
        ids["killed-run"],
    )
    output = home / "runs" / stopped / "output.log"
    eventually(lambda: "terminated while the function ran" in output.read_text())
    # The function has stopped; the client notes the state that it owes.
    eventually((home / "clients" / f"{stopped}.owed").exists)
    assert (home / "runs" / alone / "process.json").exists()
    eventually((home / "store" / result_object(alone)).exists)


def stages_of(name: str, lines: Iterable[str]) -> list[str]:
    """Return what the function of a name printed, without what others and the runner add."""
    said = [line.partition(": ") for line in lines]
    return [stage for who, _, stage in said if who == name and stage in STAGES]


@pytest.mark.parametrize("place", PLACES)
def test_calls_give_what_their_functions_do_and_say_once_that_the_server_is_away(
    outage: Outage, place: str
) -> None:
    assert {name: outage.gave[f"{place}-{name}"] for name in CALLS} == CALLS
    lines = outage.clients[place].lines
    assert "\n".join(lines).count("cannot be reached") == len(CALLS)
    for name in CALLS:
        assert stages_of(f"{place}-{name}", lines) == STAGES


@pytest.mark.parametrize("place", PLACES)
def test_what_happened_while_the_server_was_away_is_recorded_when_it_is_back(
    outage: Outage, place: str, quick_cloud: QuickCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who does not see where a run is leaves its state alone.
    looked_at = {run.id: run.state for run in kinetic.list_runs()}
    assert "Crashed" not in {looked_at[outage.ids[f"{place}-{name}"]] for name in CALLS}
    if place == "cluster":
        for name, value in quick_cloud.environment.items():
            monkeypatch.setenv(name, value)
    known = {run.id: run for run in kinetic.list_runs()}
    for name in CALLS:
        run = known[outage.ids[f"{place}-{name}"]]
        assert run.state == ("Failed" if name == "raises" else "Completed")
        assert stages_of(f"{place}-{name}", run.logs()) == STAGES


def test_who_follows_a_log_is_shown_everything_once_while_the_server_is_away_and_after(
    outage: Outage,
) -> None:
    assert stages_of(FOLLOWED, outage.followed) == STAGES


def test_ctrl_c_stops_the_function_while_the_server_is_away(outage: Outage) -> None:
    run_id, shown = outage.ids["interrupted-run"], outage.clients["interrupted"].output.read_text()
    assert f"cancelling run {run_id}" in shown
    assert "their states are set when somebody looks again" in shown
    assert {run.id: run.state for run in kinetic.list_runs()}[run_id] == "Cancelled"


def test_a_run_that_ends_while_client_and_server_are_gone_is_settled_when_somebody_looks(
    outage: Outage,
) -> None:
    run_id = outage.ids["killed-run"]
    shown = outage.project.python(
        "-c",
        f"import kinetic; run = kinetic.attach({run_id!r}); print(run.result(), run.state)",
    )
    assert shown.stdout.endswith("ending Completed\n"), shown.stderr
    assert run_id not in [run.id for run in kinetic.list_runs(state="running")]
    assert stages_of("killed-run", kinetic.attach(run_id).logs()) == STAGES
