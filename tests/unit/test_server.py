"""The background server's record, without a Prefect server."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from kinetic_flows.clients.prefect.server import BackgroundServer, ServerRecord
from kinetic_flows.clients.prefect.server_access import (
    PROOF_PATH,
    access_to,
    make_auth_string,
    proof,
    read_auth_string,
)
from kinetic_flows.clients.prefect.server_answers import taken_port
from kinetic_flows.core.errors import PrefectServerError
from kinetic_flows.core.processes import ProcessIdentity, exit_code, hold, start_detached

BUSY_ANSWERS = 4


class _BusyAtFirst(BaseHTTPRequestHandler):
    answers = 0
    auth_string = ""

    def do_GET(self) -> None:
        type(self).answers += 1
        url = urlsplit(self.path)
        self.send_response(503 if self.answers <= BUSY_ANSWERS else 200)
        self.end_headers()
        if self.auth_string and url.path == PROOF_PATH:
            (nonce,) = parse_qs(url.query)["nonce"]
            answer = {"proof": proof(self.auth_string, self.server.server_address[1], nonce)}
            self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(_BusyAtFirst, "answers", 0)
    with HTTPServer(("127.0.0.1", 0), _BusyAtFirst) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield http.server_port
        http.shutdown()
        thread.join()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ProcessIdentity]:
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    started = start_detached(
        sleep, environment={}, log_file=tmp_path / "log", life_file=tmp_path / "alive"
    )
    yield started
    if started.is_alive():
        os.kill(started.pid, 9)
    while started.is_alive():
        pass
    exit_code(started)


@contextmanager
def held(life_file: Path) -> Iterator[None]:
    """Hold the lock of a server that lives somewhere."""
    descriptor = hold(life_file)
    yield
    os.close(descriptor)


def keep(server: BackgroundServer, record: ServerRecord) -> None:
    server.directory.mkdir()
    (server.directory / "server.json").write_text(json.dumps(asdict(record)))


@pytest.fixture
def record(busy_port: int, process: ProcessIdentity) -> ServerRecord:
    return ServerRecord(process=process, port=busy_port, prefect_version=version("prefect"))


def test_a_server_that_lives_but_is_busy_is_waited_for_and_not_replaced(
    tmp_path: Path, record: ServerRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = BackgroundServer(tmp_path, {})
    keep(server, record)
    monkeypatch.setattr(_BusyAtFirst, "auth_string", make_auth_string(server.directory))
    assert server.ensure() == record
    assert record.process.is_alive()
    assert access_to(record.api_url) == _BusyAtFirst.auth_string
    assert server.environment(record)["PREFECT_API_AUTH_STRING"] == _BusyAtFirst.auth_string


def test_a_server_of_an_earlier_version_is_used_as_it_is_and_told_of_once(
    tmp_path: Path, record: ServerRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_BusyAtFirst, "answers", BUSY_ANSWERS)
    server, told = BackgroundServer(tmp_path, {}), []
    server.directory.mkdir()
    earlier = {"pid": record.process.pid, "started": record.process.started}
    fields = {"process": earlier, "port": record.port, "prefect_version": record.prefect_version}
    (server.directory / "server.json").write_text(json.dumps(fields))
    for _ in range(2):
        assert server.ensure(told.append).port == record.port
    (notice,) = told
    assert "open to everybody" in notice
    assert server.environment(server.ensure()) == {"PREFECT_API_URL": record.api_url}
    assert record.process.is_alive()


def test_whoever_listens_at_the_port_and_does_not_know_the_password_is_not_the_server(
    tmp_path: Path, record: ServerRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_BusyAtFirst, "answers", BUSY_ANSWERS)
    monkeypatch.setattr(_BusyAtFirst, "auth_string", "kinetic:guessed")
    server = BackgroundServer(tmp_path, {})
    keep(server, record)
    make_auth_string(server.directory)
    assert server.status() is None
    assert not server.recognize(record.api_url)
    assert access_to(record.api_url) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_address_of_the_own_server_is_enough_for_its_user(
    host: str, tmp_path: Path, record: ServerRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_BusyAtFirst, "answers", BUSY_ANSWERS)
    server = BackgroundServer(tmp_path, {})
    keep(server, record)
    monkeypatch.setattr(_BusyAtFirst, "auth_string", make_auth_string(server.directory))
    url = f"http://{host}:{record.port}/api"
    assert server.recognize(url)
    assert access_to(url) == _BusyAtFirst.auth_string
    assert not server.recognize(f"http://{host}.example:{record.port}/api")
    assert not server.recognize(f"http://{host}:{record.port + 1}/api")


def test_a_home_whose_server_runs_on_another_host_gets_no_second_one(
    tmp_path: Path, record: ServerRecord
) -> None:
    server = BackgroundServer(tmp_path, {})
    process = replace(record.process, host="gpu-box/1", boot="other", pid_namespace="pid:[1]")
    keep(server, replace(record, process=process))
    with held(server.directory / "server.alive"):
        for act in (server.ensure, server.stop):
            with pytest.raises(PrefectServerError, match="runs on gpu-box") as refused:
                act()
    assert "KINETIC_HOME" in (refused.value.hint or "")
    assert not server.stop(forget=True)
    assert not (server.directory / "server.json").exists()


def test_a_database_that_another_server_has_open_is_left_alone(tmp_path: Path) -> None:
    server = BackgroundServer(tmp_path, {})
    server.directory.mkdir()
    with (
        held(server.directory / "server.alive"),
        pytest.raises(PrefectServerError, match="another Prefect server has the database"),
    ):
        server.ensure()
    assert not (server.directory / "server.json").exists()


def test_the_server_gets_a_password_and_no_page_but_its_own_may_use_it(tmp_path: Path) -> None:
    server = BackgroundServer(tmp_path, {"PREFECT_SERVER_API_AUTH_STRING": "another's"})
    server.directory.mkdir()
    given = server._server_environment(4300)
    assert given["PREFECT_SERVER_API_AUTH_STRING"] == read_auth_string(server.directory)
    assert given["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    origins = given["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert origins == ["http://127.0.0.1:4300", "http://localhost:4300"]


def test_servers_that_start_at_once_do_not_get_the_same_port() -> None:
    with taken_port(0) as first:
        preferred = first.getsockname()[1]
        with taken_port(preferred) as second:
            assert second.getsockname()[1] != preferred
    with taken_port(preferred) as again:
        assert again.getsockname()[1] == preferred
