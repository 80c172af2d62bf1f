"""The background server's record, without a Prefect server."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from kinetic_flows.processes import ProcessIdentity, exit_code, start_detached
from kinetic_flows.server import BackgroundServer, ServerRecord

BUSY_ANSWERS = 4


class _BusyAtFirst(BaseHTTPRequestHandler):
    answers = 0

    def do_GET(self) -> None:
        type(self).answers += 1
        self.send_response(503 if self.answers <= BUSY_ANSWERS else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy_port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _BusyAtFirst) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield http.server_port
        http.shutdown()
        thread.join()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ProcessIdentity]:
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    started = start_detached(sleep, environment={}, log_file=tmp_path / "log")
    yield started
    if started.is_alive():
        os.kill(started.pid, 9)
    while started.is_alive():
        pass
    exit_code(started)


def test_a_server_that_lives_but_is_busy_is_waited_for_and_not_replaced(
    tmp_path: Path, busy_port: int, process: ProcessIdentity
) -> None:
    server = BackgroundServer(tmp_path, {})
    record = ServerRecord(process=process, port=busy_port, prefect_version=version("prefect"))
    server.directory.mkdir()
    (server.directory / "server.json").write_text(json.dumps(asdict(record)))
    assert server.ensure() == record
    assert process.is_alive()
