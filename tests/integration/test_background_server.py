"""The background Prefect server: started once, found again, replaced when it is gone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pexpect
import pytest
from databases import give_database
from prefect_http import PREFECT, PrefectAuth
from websockets import Subprotocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.errors import PrefectServerError


def test_its_whole_life(tmp_path: Path) -> None:
    """One test for the life of one server, as each start takes many seconds."""
    notices: list[str] = []
    with socket.socket() as taken:
        _occupy_preferred_port(taken)
        with ThreadPoolExecutor(4) as pool:
            servers = [BackgroundServer(tmp_path, os.environ) for _ in range(4)]
            records = list(pool.map(lambda server: server.ensure(notices.append), servers))
    server, record = servers[0], records[0]
    try:
        assert len({each.process.pid for each in records}) == 1, "concurrent starts make one server"
        assert [notice.startswith("starting") for notice in notices].count(True) == 1
        assert server.status() == record
        assert not [path for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077]
        _it_lets_a_browser_in_once(server)

        _pretend_version(server, "0.0.1")
        upgraded = server.ensure()
        assert upgraded.process.pid != record.process.pid, "an upgraded Prefect restarts it"
        assert upgraded.port == record.port, "its address stays"
        assert not record.process.is_alive()

        os.killpg(upgraded.process.pid, signal.SIGKILL)
        _wait_for_end(upgraded.process.is_alive)
        assert server.status() is None, "a stale record is no server"
        revived = server.ensure()
        assert server.status() == revived
    finally:
        stopped = server.stop()
    assert stopped
    assert not revived.process.is_alive()
    assert server.status() is None
    assert not server.stop()


def test_everything_but_its_health_takes_the_password(prefect_api_url: str) -> None:
    routes = PREFECT.get(f"{prefect_api_url}/openapi.json").json()["paths"]
    asked = {
        (method, path.removeprefix("/api"))
        for path, methods in routes.items()
        for method in methods
        if path.removeprefix("/api") not in ("/health", "/ready")
    }
    assert len(asked) > 150
    with httpx.Client(base_url=prefect_api_url, timeout=120) as stranger:
        answered = {stranger.request(method, path).status_code for method, path in asked}
        assert answered == {401, 403}, "403: Prefect asks for the token against cross-site requests"
        assert {stranger.get(path).status_code for path in ("/health", "/ready")} == {200}
        rebound = stranger.get("/health", headers={"Host": "evil.example"})
        foreign = stranger.get("/health", headers={"Origin": "http://evil.example"})
    assert [rebound.status_code, foreign.status_code] == [403, 403]
    assert "access-control-allow-origin" not in foreign.headers


def test_a_change_takes_a_token_besides_the_password(prefect_api_url: str) -> None:
    user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    answer = httpx.post(f"{prefect_api_url}/flows/", json={"name": "x"}, auth=(user, password))
    assert (answer.status_code, "CSRF" in answer.text) == (403, True)


def test_events_are_told_to_nobody_without_the_password(prefect_api_url: str) -> None:
    url = prefect_api_url.replace("http:", "ws:") + "/events/out"

    async def greet(token: str, origin: str | None = None) -> str:
        async with connect(url, subprotocols=[Subprotocol("prefect")], origin=origin) as socket:
            await socket.send(json.dumps({"type": "auth", "token": token}))
            return str(json.loads(await socket.recv())["type"])

    assert asyncio.run(greet(os.environ["PREFECT_API_AUTH_STRING"])) == "auth_success"
    with pytest.raises(ConnectionClosed, match="Invalid token"):
        asyncio.run(greet("kinetic:guessed"))
    with pytest.raises(InvalidStatus):
        asyncio.run(greet(os.environ["PREFECT_API_AUTH_STRING"], "http://evil.example"))


def test_many_writers_at_once_never_collide(prefect_api_url: str) -> None:
    """A plain `prefect server start` answers some of these with 503, and some after a minute."""
    with httpx.Client(base_url=prefect_api_url, auth=PrefectAuth(), timeout=120) as client:
        flow = client.post("/flows/", json={"name": "crowded"}).json()["id"]

        def create(number: int) -> set[int]:
            run = client.post("/flow_runs/", json={"flow_id": flow, "name": str(number)})
            state = {"state": {"type": "RUNNING"}}
            changed = client.post(f"/flow_runs/{run.json()['id']}/set_state", json=state)
            artifact = {"key": f"crowded-{number % 3}", "flow_run_id": run.json()["id"]}
            written = client.post("/artifacts/", json={**artifact, "type": "markdown"})
            ended = client.delete(f"/flow_runs/{run.json()['id']}")
            return {answer.status_code for answer in (run, changed, written, ended)}

        with ThreadPoolExecutor(12) as pool:
            assert set.union(*pool.map(create, range(60))) == {201, 204}


def test_a_server_that_does_not_start_shows_its_last_words(tmp_path: Path) -> None:
    server = BackgroundServer(tmp_path, os.environ)
    server.directory.mkdir(parents=True)
    (server.directory / "prefect.db").mkdir()
    with pytest.raises(PrefectServerError) as caught:
        server.ensure()
    assert str(server.log_file) in (caught.value.hint or "")
    assert "unable to open database file" in caught.value.message


def test_two_homes_that_start_a_server_at_once_get_one_each(tmp_path: Path) -> None:
    servers = [BackgroundServer(tmp_path / name, os.environ) for name in ("one", "two")]
    for server in servers:
        give_database(server.home)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda server: server.ensure(), servers)
    try:
        assert first.port != second.port
        assert [server.status() for server in servers] == [first, second]
        assert first.process.is_alive()
        assert second.process.is_alive()
    finally:
        for server in servers:
            server.stop()


def test_a_server_whose_starter_gave_up_goes_on_and_serves_the_next_caller(
    tmp_path: Path,
) -> None:
    server = BackgroundServer(tmp_path, os.environ)
    give_database(tmp_path)
    try:
        starter = _starter(tmp_path)
        starter.expect("starting a background Prefect")
        _wait_for_end(lambda: server.starting() is None)
        begun = server.starting()
        starter.sendintr()
        starter.expect(pexpect.EOF)
        told = starter.before
        starter.wait()
        assert starter.exitstatus == 130
        assert "goes on starting" in told
        assert "`kinetic server stop` ends it" in told
        assert "Traceback" not in told
        notices: list[str] = []
        assert server.ensure(notices.append) == begun
        assert notices == ["waiting for the background Prefect server, which is being started"]
    finally:
        assert server.stop()


def test_a_server_can_be_stopped_while_it_starts(tmp_path: Path) -> None:
    server = BackgroundServer(tmp_path, os.environ)
    give_database(tmp_path)
    starter = _starter(tmp_path)
    starter.expect("starting a background Prefect")
    _wait_for_end(lambda: server.starting() is None)
    begun = server.starting()
    assert server.stop()
    assert begun is not None
    assert not begun.process.is_alive()
    starter.expect("was stopped while it started")
    starter.expect(pexpect.EOF)
    starter.wait()
    assert starter.exitstatus == PrefectServerError.exit_code
    assert server.starting() is None


def _starter(home: Path) -> pexpect.spawn[str]:
    """Start `kinetic server start` on a terminal."""
    command = str(Path(sys.executable).with_name("kinetic"))
    environment = {**os.environ, "KINETIC_HOME": str(home)}
    return pexpect.spawn(
        command,
        ["server", "start"],
        env=environment,
        encoding="utf-8",
        timeout=60,
        dimensions=(40, 200),
    )


def _it_lets_a_browser_in_once(server: BackgroundServer) -> None:
    record = server.status()
    assert record is not None
    link = server.sign_in_url(record)
    assert [httpx.get(link).status_code for _ in range(2)] == [200, 403]


def _occupy_preferred_port(taken: socket.socket) -> None:
    from kinetic_flows.clients.prefect.server import PREFERRED_PORT

    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("127.0.0.1", PREFERRED_PORT))
    except OSError:
        return  # somebody else occupies it, which serves as well
    taken.listen()


def _pretend_version(server: BackgroundServer, prefect_version: str) -> None:
    path = server.directory / "server.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "prefect_version": prefect_version})
    )


def _wait_for_end(is_alive: object) -> None:
    deadline = time.monotonic() + 30
    while callable(is_alive) and is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.05)
