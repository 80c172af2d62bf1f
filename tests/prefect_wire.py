"""A small HTTP server with the part of Prefect's API that a run uses, whose answers can be set.

Facts from https://docs.prefect.io/v3/api-ref/rest-api; the integration tests hold the runner
against the real server.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from kinetic_flows.core.streams import RESULT_LOGGER

CSRF_TOKEN = "t0ken"
SECRET_BLOCKS = "/api/block_types/slug/secret/block_documents/name/"
FLOW_ID = "5a1f0e1c-2b6e-4c80-9d4a-3c7f7b1e2d10"


@dataclass
class PrefectWire:
    """What the server was told, and how it is to answer.

    Attributes:
        states: Every state that was set, in order.
        batches: Every batch of logs, in order.
        requests: Method, path and headers of every request, in order.
        current_type: The flow run's state type.
        wanted_authorization: The only `Authorization` that is let in; None for any.
        wants_csrf: Whether a CSRF token is wanted.
        failures: Status codes to answer the next requests with, by the start of their path.
        delay_seconds: How long each answer takes.
        parameters: The flow run's parameters.
        name: The flow run's name.
        labels: Labels that were added to the flow run's.
        events: Every event, in order.
        artifacts: The artifacts of the flow run, in order.
        other_runs: State types of other flow runs; empty for one that is not there.
        secrets: What its Secret blocks hold, by name.
    """

    states: list[dict[str, Any]] = field(default_factory=list)
    batches: list[list[dict[str, Any]]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    current_type: str = "PENDING"
    wanted_authorization: str | None = None
    wants_csrf: bool = False
    csrf_tokens: int = 0
    failures: dict[str, list[int]] = field(default_factory=dict)
    delay_seconds: float = 0.0
    parameters: dict[str, Any] = field(default_factory=dict)
    name: str = "train()"
    labels: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    other_runs: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    url: str = ""

    @property
    def messages(self) -> list[str]:
        """What was logged, without what the runner says of the result."""
        return [log["message"] for log in self._logs if log["name"] != RESULT_LOGGER]

    @property
    def results(self) -> list[str]:
        """What the runner has logged of the result."""
        return [log["message"] for log in self._logs if log["name"] == RESULT_LOGGER]

    @property
    def _logs(self) -> list[dict[str, Any]]:
        return [log for batch in self.batches for log in batch]

    @property
    def state_names(self) -> list[str]:
        """The names of all states that were set."""
        return [state["name"] for state in self.states]

    def cancel(self) -> None:
        """Do what a person does in the UI."""
        self.current_type = "CANCELLING"

    def answer(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        """Answer a request."""
        self.requests.append((method, path, headers))
        time.sleep(self.delay_seconds)
        for start, codes in self.failures.items():
            if path.startswith(start) and codes:
                return codes.pop(0), {"detail": "as the test wished"}
        wanted = self.wanted_authorization
        if wanted and headers.get("Authorization") != wanted:
            return 401, {"detail": "Unauthorized"}
        if path.startswith("/api/csrf-token?client="):
            self.csrf_tokens += 1
            token = f"{CSRF_TOKEN}{self.csrf_tokens}"
            client = path.rpartition("=")[2]
            return 200, {"token": token, "client": client, "expiration": "2100-01-01T00:00:00Z"}
        if method != "GET" and self.wants_csrf and not self._has_token(headers):
            detail = "Invalid CSRF token or client identifier."
            missing = "Prefect-Csrf-Token" not in headers
            return 403, {"detail": "Missing CSRF token." if missing else detail}
        return self._served(method, path, body)

    def _has_token(self, headers: dict[str, str]) -> bool:
        token = headers.get("Prefect-Csrf-Token")
        return token == f"{CSRF_TOKEN}{self.csrf_tokens}" and "Prefect-Csrf-Client" in headers

    def _served(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/api/logs/":
            self.batches.append(body)
            return 201, None
        if path == "/api/events/filter":
            [identity] = body["filter"]["id"]["id"]
            return 200, {"events": [each for each in self.events if each["id"] == identity]}
        if path == "/api/events":
            self.events += body
            return 204, None
        if path.startswith("/api/artifacts/"):
            return self._served_artifact(method, path.removeprefix("/api/artifacts/"), body)
        if path.startswith(SECRET_BLOCKS):
            return self._served_secret(path.removeprefix(SECRET_BLOCKS).partition("?")[0])
        if path.endswith("/set_state"):
            return 201, self._set_state(body["state"])
        if method == "PATCH":
            return self._changed(path, body)
        state_type = self.other_runs.get(path.rpartition("/")[2], self.current_type)
        if not state_type:
            return 404, {"detail": "Flow run not found"}
        run = {
            "name": self.name,
            "state": {"type": state_type},
            "parameters": self.parameters,
            "labels": self.labels,
            "tags": ["kinetic", "cpu"],
            "flow_id": FLOW_ID,
        }
        return 200, {"id": path.rpartition("/")[2], **run}

    def _changed(self, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/labels"):
            self.labels |= body
        else:
            self.name = body["name"]
        return 204, None

    def _served_secret(self, name: str) -> tuple[int, Any]:
        if name not in self.secrets:
            return 404, {"detail": "Block document not found"}
        return 200, {"name": name, "data": {"value": self.secrets[name]}}

    def _served_artifact(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "filter":
            keys = body["artifacts"]["key"]["any_"]
            return 200, [each for each in reversed(self.artifacts) if each["key"] in keys]
        if method == "PATCH":
            [found] = [each for each in self.artifacts if each["id"] == path]
            found |= body
            return 204, None
        self.artifacts.append({**body, "id": str(uuid4())})
        return 201, self.artifacts[-1]

    def _set_state(self, state: dict[str, Any]) -> dict[str, Any]:
        if self.current_type == "CANCELLING" and state["type"] == "RUNNING":
            return {"status": "REJECT", "state": {"type": self.current_type}}
        self.states.append(state)
        self.current_type = state["type"]
        return {"status": "ACCEPT", "state": state, "details": {"type": "accept_details"}}


@contextmanager
def serve() -> Iterator[PrefectWire]:
    """Serve on a free port until the end of the block."""
    wire = PrefectWire()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        do_PATCH = do_POST

        def _answer(self, body: Any) -> None:
            code, value = wire.answer(self.command, self.path, dict(self.headers), body)
            data = json.dumps(value).encode() if value is not None else b""
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    wire.url = f"http://127.0.0.1:{server.server_port}/api"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
