"""The background Prefect server: started once, found again, replaced when it is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from kinetic_flows.errors import PrefectServerError
from kinetic_flows.server import BackgroundServer


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
        assert len(notices) == 1
        assert server.status() == record

        _pretend_version(server, "0.0.1")
        upgraded = server.ensure()
        assert upgraded.process.pid != record.process.pid, "an upgraded Prefect restarts it"
        assert upgraded.port == record.port, "its address stays"
        assert not record.process.is_alive()

        os.killpg(upgraded.process.pid, signal.SIGKILL)
        _wait_for_end(upgraded.process.is_alive)
        assert server.status() is None, "a stale record is no server"
        revived = server.ensure()
        assert revived.is_healthy()
    finally:
        stopped = server.stop()
    assert stopped
    assert not revived.process.is_alive()
    assert server.status() is None
    assert not server.stop()


def test_many_writers_at_once_never_collide(prefect_api_url: str) -> None:
    """A plain `prefect server start` answers some of these with 503, and some after a minute."""
    with httpx.Client(base_url=prefect_api_url, timeout=120) as client:
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


def _occupy_preferred_port(taken: socket.socket) -> None:
    from kinetic_flows.server import PREFERRED_PORT

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
