"""Data of the web in a run: one file, by its digest."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import data_work
from kinetic_flows.runner_image.runner.contract import Fault

from kinetic_flows.core.job import EXIT_DATA_UNAVAILABLE, EXIT_OBJECT_REFUSED
from kinetic_flows.core.job_parts import DataSpec
from loopback.hub import ranged
from loopback.wire import Fault as Spoil
from loopback.wire import Request, Response, WireServer
from stored_data import Bring, a_run

CONTENT = bytes(range(256)) * 20_000


class Web:
    """A server of one file, with ranges or without, and with redirects to it."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.has_ranges = True
        self.asked: list[str | None] = []
        self.wire = WireServer(self._answer).start()

    @property
    def spec(self) -> DataSpec:
        return self.spec_of("/file.bin")

    def spec_of(self, path: str) -> DataSpec:
        return DataSpec(
            kind="web",
            identity=hashlib.sha256(CONTENT).hexdigest(),
            source=f"{self.wire.url}{path}",
            name=path.rpartition("/")[2],
            is_file=True,
            place={"url": f"{self.wire.url}{path}"},
        )

    def _answer(self, request: Request) -> Response:
        if request.path.startswith("/moved/"):
            return Response(status=302, headers={"Location": "/file.bin"})
        if request.path != "/file.bin":
            return Response(status=404, body=b"not here")
        self.asked.append(request.headers.get("Range"))
        if self.has_ranges:
            return ranged(request, self.content, {})
        return Response(body=self.content)


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.wire.stop()


@pytest.fixture
def bring(tmp_path: Path) -> Iterator[Bring]:
    with a_run(tmp_path) as bring:
        yield bring


def test_a_file_is_brought_under_its_name(web: Web, bring: Bring) -> None:
    [path] = bring(web.spec)
    assert (Path(path).name, Path(path).read_bytes()) == ("file.bin", CONTENT)


def test_a_redirect_is_followed(web: Web, bring: Bring) -> None:
    [path] = bring(web.spec_of("/moved/other.bin"))
    assert (Path(path).name, Path(path).read_bytes()) == ("other.bin", CONTENT)


@pytest.mark.parametrize("has_ranges", [True, False])
def test_what_breaks_off_goes_on(web: Web, bring: Bring, has_ranges: bool) -> None:
    web.has_ranges = has_ranges
    with web.wire.fault(Spoil(kind="truncate")):
        [path] = bring(web.spec)
    assert Path(path).read_bytes() == CONTENT
    assert web.asked[0] is None
    assert str(web.asked[1]).startswith("bytes=")


@pytest.mark.parametrize("has_ranges", [True, False])
def test_the_next_run_goes_on_where_one_ended(
    web: Web,
    bring: Bring,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_ranges: bool,
) -> None:
    cache = str(tmp_path / "cache")
    monkeypatch.setattr("kinetic_flows.runner_image.runner.data_http.TRIES", 1)
    with (
        web.wire.fault(Spoil(kind="truncate")),
        pytest.raises(Fault, match="cannot be fetched") as caught,
    ):
        bring(web.spec, KINETIC_DATA_CACHE=cache)
    assert caught.value.exit_code == EXIT_DATA_UNAVAILABLE
    web.has_ranges = has_ranges
    [path] = bring(web.spec, KINETIC_DATA_CACHE=cache)
    assert Path(path).read_bytes() == CONTENT
    assert web.asked[1:] == [f"bytes={len(CONTENT) // 2}-"]


def test_what_was_left_of_another_file_is_not_kept(
    web: Web, bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = str(tmp_path / "cache")
    web.content = b"before" * 1000
    monkeypatch.setattr("kinetic_flows.runner_image.runner.data_http.TRIES", 1)
    with web.wire.fault(Spoil(kind="truncate")), pytest.raises(Fault):
        bring(web.spec, KINETIC_DATA_CACHE=cache)
    web.content = CONTENT
    [path] = bring(web.spec, KINETIC_DATA_CACHE=cache)
    assert Path(path).read_bytes() == CONTENT


def test_another_digest_is_refused_by_name_and_nothing_is_kept(
    web: Web, bring: Bring, tmp_path: Path
) -> None:
    web.content = b"something else"
    with pytest.raises(Fault, match=f"{web.spec.source} is refused: its SHA-256 is") as caught:
        bring(web.spec, KINETIC_DATA_CACHE=str(tmp_path / "cache"))
    assert caught.value.exit_code == EXIT_OBJECT_REFUSED
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.name for path in kept] == ["lock"]


def test_a_file_that_cannot_be_written_to_its_end_is_no_copy(web: Web, bring: Bring) -> None:
    """The last write takes a part of what it is given, as where a disk becomes full."""
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) - 100, most))
    try:
        with pytest.raises(Fault, match="cannot be written: File too large"):
            bring(web.spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))


def test_an_answer_of_the_server_is_named(web: Web, bring: Bring) -> None:
    with pytest.raises(Fault, match=r"/gone\.bin cannot be fetched: HTTP 404"):
        bring(web.spec_of("/gone.bin"))


def test_how_far_it_is_is_told_where_it_takes_long(
    web: Web, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_work, "FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr(data_work, "_LOOK_SECONDS", 0.01)
    said: list[str] = []
    fault: Any = Spoil(kind="stall", pause_seconds=0.3)
    with web.wire.fault(fault):
        bring(web.spec, said=said)
    assert said[0] == f"data {web.spec.source}: 0 bytes, 0 bytes/s"
    assert said[-1].startswith(f"data {web.spec.source}: 5.1 MB in 1 file, after ")
