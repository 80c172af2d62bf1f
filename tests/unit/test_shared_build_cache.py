"""The team's build cache where Prefect does not let it be saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from kinetic_flows.clients.prefect.build_cache import shared_build_cache
from kinetic_flows.core.settings.settings import load_settings, resolve_settings


class NoProfiles:
    def load(self, name: str) -> None:
        raise AssertionError(name)

    def names(self) -> tuple[str, ...]:
        return ()


class Refuse(BaseHTTPRequestHandler):
    """A Prefect API whose administrators let this user save nothing."""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b'{"detail":"You lack the permission manage_blocks."}'
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _refuse

    def log_message(self, *_args: object) -> None: ...


@pytest.fixture
def refusing_api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


def test_without_permission_to_save_blocks_there_is_none_and_a_warning(
    refusing_api: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Prefect's logging keeps records of some libraries from the root logger.
    monkeypatch.setattr(
        logging.getLogger("kinetic_flows.clients.prefect.build_cache"), "handlers", [caplog.handler]
    )
    environ = {"KINETIC_PROJECT": "my-project-1"}
    cloud = resolve_settings(load_settings(environ), NoProfiles(), environ=environ).cloud
    assert cloud is not None
    with caplog.at_level(logging.WARNING), temporary_settings({PREFECT_API_URL: refusing_api}):
        assert shared_build_cache(cloud, refusing_api) is None
    said = " ".join(caplog.messages)
    assert "builds are not cached for others" in said
    assert "403" in said
