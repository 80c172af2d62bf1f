"""Secret Manager's REST API, as pods ask it, on one port with what clients ask by gRPC.

https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import google_crc32c
import grpc

from loopback.grpc_services import Refusal
from loopback.secret_manager import SecretManager
from loopback.split import is_http2, pass_on

_CODES = {grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.PERMISSION_DENIED: 403}


class SecretManagerFront(ThreadingHTTPServer):
    """Answers REST, and passes gRPC on.

    Args:
        secrets: The secrets.
        grpc_endpoint: Where gRPC is answered; None for nowhere.

    Attributes:
        asked: Paths that were asked for.
        faults: Status codes that the next requests are answered with.
        damages: Whether what arrives is not what the checksum says.
    """

    daemon_threads = True

    def __init__(self, secrets: SecretManager, grpc_endpoint: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.secrets = secrets
        self.asked: list[str] = []
        self.faults: list[int] = []
        self.damages = False
        self._grpc_port = int((grpc_endpoint or ":0").rpartition(":")[2])
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def start(self) -> SecretManagerFront:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if is_http2(request):
            pass_on(request, self._grpc_port)
        else:
            super().finish_request(request, client_address)


class _Request(BaseHTTPRequestHandler):
    server: SecretManagerFront

    def do_GET(self) -> None:
        name, colon, method = self.path.removeprefix("/v1/").rpartition(":")
        self.server.asked.append(self.path)
        if self.server.faults:
            code, answer = self.server.faults.pop(0), {"error": {"message": "injected"}}
        elif not colon or method != "access":
            code, answer = 404, {"error": {"message": "no such method"}}
        else:
            code, answer = self._access(name)
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _access(self, name: str) -> tuple[int, dict[str, Any]]:
        try:
            data = self.server.secrets.content(name)
        except Refusal as refusal:
            return _CODES[refusal.code], {"error": {"message": str(refusal)}}
        checksum = google_crc32c.value(data) + int(self.server.damages)
        payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(checksum)}
        return 200, {"name": name, "payload": payload}

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""
