"""What the assembler asks of a build's surroundings: the metadata server, and an index."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.remote import DownloadedWheels, metadata_token
from loopback.small_wheels import make_wheel
from loopback.wire import Fault, Request, Response, WireServer

TOKEN = b'{"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"}'


def serve(content: bytes) -> WireServer:
    return WireServer(lambda request: Response(body=content)).start()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tries follow one another at once."""
    monkeypatch.setattr(
        "kinetic_flows.images.assembly.remote.RETRY_PAUSES_SECONDS", (0.0, 0.0, 0.0)
    )


@pytest.fixture
def index(tmp_path: Path) -> Iterator[WireServer]:
    """An index with one wheel."""
    (tmp_path / "index").mkdir()
    content = tmp_path / "index" / make_wheel(tmp_path / "index", "flax", "1.0").filename
    server = WireServer(lambda request: Response(body=content.read_bytes())).start()
    yield server
    server.stop()


def wheel_at(index: WireServer, tmp_path: Path) -> WheelFile:
    wheel = make_wheel(tmp_path / "index", "flax", "1.0")
    return replace(wheel, url=f"{index.url}/{wheel.filename}")


def test_token_is_asked_for_as_the_metadata_server_wants_it(quick: None) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return Response(body=TOKEN)

    server = WireServer(answer).start()
    with server.fault(Fault(kind="status", status=503)):
        assert metadata_token(f"127.0.0.1:{server.port}") == "ya29.token"
    server.stop()
    assert asked[0].headers["Metadata-Flavor"] == "Google"
    assert asked[0].path.endswith("/instance/service-accounts/default/token")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}"])
def test_metadata_server_without_a_token_is_told(quick: None, content: bytes) -> None:
    server = serve(content)
    with pytest.raises(ImageError, match="the metadata server gives no access token"):
        metadata_token(f"127.0.0.1:{server.port}")
    server.stop()


def test_wheel_is_downloaded_once_however_many_ask(index: WireServer, tmp_path: Path) -> None:
    wheels, wheel = DownloadedWheels(tmp_path, tmp_path / "cache"), wheel_at(index, tmp_path)
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(wheels.fetch, [wheel] * 8))
    assert len(set(paths)) == 1
    assert len(index.requests) == 1


def test_download_that_broke_off_is_tried_again(
    quick: None, index: WireServer, tmp_path: Path
) -> None:
    wheels, wheel = DownloadedWheels(tmp_path, tmp_path / "cache"), wheel_at(index, tmp_path)
    with (
        index.fault(Fault(kind="truncate")),
        index.fault(Fault(kind="status", status=502)),
    ):
        assert wheels.fetch(wheel).stat().st_size == wheel.size_bytes


def test_missing_wheel_is_told_with_its_address(
    quick: None, index: WireServer, tmp_path: Path
) -> None:
    wheels, wheel = DownloadedWheels(tmp_path, tmp_path / "cache"), wheel_at(index, tmp_path)
    with (
        index.fault(Fault(kind="status", status=404, times=9)),
        pytest.raises(ImageError, match=rf"cannot be downloaded from {index.url}/.*404"),
    ):
        wheels.fetch(wheel)
    assert len(index.requests) == 1
    assert list((tmp_path / "cache").iterdir()) == []
