"""A real Cloud Storage server: fake-gcs-server, one process for the whole session."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from loopback.tools import fake_gcs_server
from loopback.wire import wait_until


class StorageServer:
    """fake-gcs-server on a free port, its objects under a directory.

    It does not hold preconditions on resumable uploads: see `loopback.storage_wire` for that.

    Args:
        directory: Where the objects are kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> StorageServer:
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(fake_gcs_server()),
                    *("-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port)),
                    *("-backend", "memory", "-external-url", self.url),
                    *("-public-host", "127.0.0.1"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 15, "the start of fake-gcs-server")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def create_bucket(self, name: str) -> str:
        """Make a bucket, unless it is there."""
        body = json.dumps({"name": name}).encode()
        request = Request(f"{self.url}/storage/v1/b?project=p", data=body, method="POST")
        request.add_header("Content-Type", "application/json")
        try:
            urlopen(request, timeout=10).close()
        except HTTPError as error:
            if error.code != 409:
                raise
        return name

    def _answers(self) -> bool:
        try:
            urlopen(f"{self.url}/storage/v1/b?project=p", timeout=2).close()
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
