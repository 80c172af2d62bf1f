"""The part of Prefect's REST API that a run needs, over urllib.

Facts from Prefect's API reference (https://docs.prefect.io/v3/api-ref/rest-api) and its
settings reference: `PREFECT_API_AUTH_STRING` is `user:password` of basic authentication and
comes before `PREFECT_API_KEY`; a server with CSRF protection answers 403 until a token of
`GET csrf-token?client=…` is sent along.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

TIMEOUT_SECONDS = 10.0

_RETRIED_CODES = (408, 425, 429)


class ApiError(Exception):
    """A request failed.

    Attributes:
        is_final: Whether the same request can only fail again.
    """

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class LogEntry(NamedTuple):
    """An entry of a run's log.

    Attributes:
        seconds: When it was printed or logged, since the epoch.
        text: What.
        level: Its level, as `logging` has it.
        logger: Its logger's name.
    """

    seconds: float
    text: str
    level: int
    logger: str


class PrefectApi:
    """A connection to one Prefect API for one flow run.

    Args:
        url: The API's URL.
        flow_run_id: The flow run.
        environ: Where the credentials are.
    """

    def __init__(self, url: str, flow_run_id: str, environ: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._flow_run_id = flow_run_id
        self._authorization = _authorization(environ)
        self._client = os.urandom(16).hex()
        self._csrf_token: str | None = None

    def set_state(
        self, state_type: str, name: str, message: str, timeout_seconds: float
    ) -> Mapping[str, Any]:
        """Propose a state; return the server's answer (`status`, `state`)."""
        state = {"type": state_type, "name": name, "message": message or None}
        path = f"flow_runs/{self._flow_run_id}/set_state"
        answer: Mapping[str, Any] = self._post(path, {"state": state}, timeout_seconds)
        return answer

    def send_logs(self, entries: list[LogEntry], timeout_seconds: float) -> None:
        """Send log entries."""
        logs = [
            {
                "name": entry.logger,
                "level": entry.level,
                "message": entry.text,
                "timestamp": _iso(entry.seconds),
                "flow_run_id": self._flow_run_id,
            }
            for entry in entries
        ]
        self._post("logs/", logs, timeout_seconds)

    def read_state(self, timeout_seconds: float) -> str:
        """Return the type of the flow run's state."""
        answer = self.read_flow_run(timeout_seconds)
        return str((answer.get("state") or {}).get("type") or "")

    def state_of(self, flow_run_id: str, timeout_seconds: float) -> str:
        """Return the type of another flow run's state; empty for one that is not there."""
        state = self.read_state_of(flow_run_id, timeout_seconds)
        return str((state or {}).get("type") or "")

    def read_state_of(self, flow_run_id: str, timeout_seconds: float) -> Mapping[str, Any] | None:
        """Return another flow run's state; None for one that is not there."""
        try:
            answer = self.get(f"flow_runs/{flow_run_id}", timeout_seconds)
        except ApiError as error:
            # What is in front of a server that is away for now may answer so, too, if not in JSON.
            if str(error).startswith("HTTP 404: {"):
                return None
            raise
        return answer.get("state") or {}

    def set_state_of(
        self, flow_run_id: str, state_type: str, name: str, message: str, timeout_seconds: float
    ) -> None:
        """Propose a state of another flow run."""
        state = {"type": state_type, "name": name, "message": message or None}
        self._post(f"flow_runs/{flow_run_id}/set_state", {"state": state}, timeout_seconds)

    def get(self, path: str, timeout_seconds: float) -> Mapping[str, Any]:
        """Return an object of the API."""
        answer: Mapping[str, Any] = self._request("GET", path, None, timeout_seconds)
        return answer

    def create(self, path: str, body: Mapping[str, Any], timeout_seconds: float) -> Any:
        """Create an object, or look for objects; return the answer."""
        return self._post(path, dict(body), timeout_seconds)

    def read_call(self, timeout_seconds: float) -> tuple[str, dict[str, Any]]:
        """Return the flow run's name, and what it is to be called with, by name."""
        answer = self.read_flow_run(timeout_seconds)
        parameters = answer.get("parameters")
        if not isinstance(parameters, dict):
            raise ApiError("it answers without parameters; is it a Prefect API?", is_final=True)
        return str(answer.get("name") or ""), parameters

    def read_secret(self, name: str, timeout_seconds: float) -> str:
        """Return what a Secret block holds, which this run may know; JSON where it is no text."""
        path = f"block_types/slug/secret/block_documents/name/{name}?include_secrets=true"
        answer = self._request("GET", path, None, timeout_seconds)
        value = answer["data"]["value"]
        return value if isinstance(value, str) else json.dumps(value)

    def label(self, labels: Mapping[str, float | str], timeout_seconds: float) -> None:
        """Add labels to the flow run's."""
        path = f"flow_runs/{self._flow_run_id}/labels"
        self._send("PATCH", path, dict(labels), timeout_seconds)

    def rename(self, name: str, timeout_seconds: float) -> None:
        """Give the flow run a name."""
        self._send("PATCH", f"flow_runs/{self._flow_run_id}", {"name": name}, timeout_seconds)

    def read_artifacts(self, key: str, timeout_seconds: float) -> list[Mapping[str, Any]]:
        """Return the flow run's artifacts that have a key, the oldest first."""
        wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": [self._flow_run_id]}}
        body = {"artifacts": wanted, "sort": "CREATED_DESC"}
        found = self._post("artifacts/filter", body, timeout_seconds)
        if not isinstance(found, list):
            raise ApiError("it answers without artifacts; is it a Prefect API?", is_final=True)
        return found[::-1]

    def publish_markdown(self, key: str, markdown: str, timeout_seconds: float) -> None:
        """Show a Markdown text among the flow run's artifacts."""
        body = {"key": key, "type": "markdown", "data": markdown, "flow_run_id": self._flow_run_id}
        self._post("artifacts/", body, timeout_seconds)

    def replace_markdown(self, artifact: str, markdown: str, timeout_seconds: float) -> None:
        """Show another text in place of an artifact's.

        Args:
            artifact: The artifact's id.
            markdown: The text.
            timeout_seconds: How long that may take.
        """
        self._send("PATCH", f"artifacts/{artifact}", {"data": markdown}, timeout_seconds)

    def tell(
        self,
        kind: str,
        which: str,
        payload: Mapping[str, Any],
        occurred: float,
        timeout_seconds: float,
    ) -> None:
        """Send an event of the flow run; see `events.event_of`."""
        from .events import event_of

        flow_run = {**self.read_flow_run(timeout_seconds), "id": self._flow_run_id}
        event = event_of(flow_run, kind, which, payload, _iso(occurred))
        self._post("events", [event], timeout_seconds)

    def read_flow_run(self, timeout_seconds: float) -> Mapping[str, Any]:
        """Return the flow run, as the API describes it."""
        return self.get(f"flow_runs/{self._flow_run_id}", timeout_seconds)

    def _post(self, path: str, body: Any, timeout_seconds: float) -> Any:
        return self._send("POST", path, body, timeout_seconds)

    def _send(self, method: str, path: str, body: Any, timeout_seconds: float) -> Any:
        # A server fails at all of a request in which half a surrogate pair stands, such as for a
        # byte of a file's name that is no UTF-8.
        data = json.dumps(body, ensure_ascii=False).encode(errors="replace")
        try:
            return self._request(method, path, data, timeout_seconds)
        except _CsrfTokenWanted:
            self._csrf_token = None
        token = self._request("GET", f"csrf-token?client={self._client}", None, timeout_seconds)
        self._csrf_token = str(token["token"])
        return self._request(method, path, data, timeout_seconds)

    def _request(self, method: str, path: str, data: bytes | None, timeout_seconds: float) -> Any:
        # Imported late: these cost more than the rest of the runner together.
        import http.client
        import urllib.error
        import urllib.request

        request = urllib.request.Request(f"{self._url}/{path}", data, method=method)  # noqa: S310
        for name, value in self._headers(method).items():
            request.add_unredirected_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=timeout_seconds) as response:  # noqa: S310
                text = response.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise _refusal(error.code, error.read(2000).decode(errors="replace")) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ApiError(f"{reason}", is_final=False) from error

    def _headers(self, method: str) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "kinetic-runner"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        if self._csrf_token and method != "GET":
            headers["Prefect-Csrf-Token"] = self._csrf_token
            headers["Prefect-Csrf-Client"] = self._client
        return headers


def api_of(job: Mapping[str, Any], environ: Mapping[str, str]) -> PrefectApi | None:
    """Return a connection for a job's flow run; None where it names no API."""
    spec = job["prefect"]
    return PrefectApi(spec["api_url"], spec["flow_run_id"], environ) if spec else None


class _CsrfTokenWanted(ApiError):
    """The server protects itself against cross-site requests, or the token is too old."""


def _refusal(code: int, text: str) -> ApiError:
    message = f"HTTP {code}: {text[:300]}"
    if code == 403 and "CSRF" in text:
        return _CsrfTokenWanted(message, is_final=False)
    if code == 403 and "client identifier" in text:
        return _CsrfTokenWanted(message, is_final=False)
    return ApiError(message, is_final=400 <= code < 500 and code not in _RETRIED_CODES)


def _authorization(environ: Mapping[str, str]) -> str | None:
    user_and_password = environ.get("PREFECT_API_AUTH_STRING")
    if user_and_password:
        from binascii import b2a_base64

        return "Basic " + b2a_base64(user_and_password.encode(), newline=False).decode()
    key = environ.get("PREFECT_API_KEY")
    return f"Bearer {key}" if key else None


def _iso(seconds: float) -> str:
    from time import gmtime, strftime

    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(whole)) + f".{micros:06d}+00:00"
