"""Requests that write, one at a time; those that collided, again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kinetic_flows.clients.prefect import server_process
from kinetic_flows.clients.prefect.server_process import OneWriterAtATime, writes


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/api/flow_runs/", True),
        ("POST", "/api/flow_runs/1-2/set_state", True),
        ("PATCH", "/api/flow_runs/1-2", True),
        ("DELETE", "/api/deployments/1-2", True),
        ("POST", "/api/logs/", True),
        ("GET", "/api/flow_runs/1-2", False),
        ("POST", "/api/flow_runs/filter", False),
        ("POST", "/api/flow_runs/count", False),
        ("POST", "/api/events/count-by/day", False),
        ("POST", "/api/flow_runs/paginate", False),
    ],
)
def test_what_writes_is_told_from_the_request(method: str, path: str, expected: bool) -> None:
    assert writes(method, path) is expected


class Prefect:
    """An application as Prefect's: it collides, and raises what it has answered already."""

    def __init__(self, collisions: int = 0) -> None:
        self.collisions = collisions
        self.answering = 0
        self.most_at_once = 0
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        self.answering += 1
        self.most_at_once = max(self.most_at_once, self.answering)
        await asyncio.sleep(0.001)
        self.answering -= 1
        failed = self.collisions > 0
        self.collisions -= failed
        await send({"type": "http.response.start", "status": 503 if failed else 201})
        await send({"type": "http.response.body", "body": b"{}"})
        if failed:
            raise RuntimeError("database is locked")


async def request(app: Any, *body: bytes, method: str = "POST") -> int:
    """Send a request in these pieces; return the one status that was answered."""
    pieces = [
        {"type": "http.request", "body": piece, "more_body": number < len(body) - 1}
        for number, piece in enumerate(body)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return pieces.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": "/api/flow_runs/"}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return int(sent[0]["status"])


async def _together(prefect: Prefect, method: str) -> list[int]:
    app = OneWriterAtATime(prefect)
    return await asyncio.gather(*[request(app, b"{}", method=method) for _ in range(5)])


def test_requests_that_write_wait_for_one_another() -> None:
    prefect = Prefect()
    assert asyncio.run(_together(prefect, "POST")) == [201] * 5
    assert prefect.most_at_once == 1


def test_requests_that_read_do_not_wait() -> None:
    prefect = Prefect()
    assert asyncio.run(_together(prefect, "GET")) == [201] * 5
    assert prefect.most_at_once == 5


def test_a_collision_is_tried_again_with_the_whole_body() -> None:
    prefect = Prefect(collisions=2)
    assert asyncio.run(request(OneWriterAtATime(prefect), b'{"a":', b"1}")) == 201
    assert prefect.bodies == [b'{"a":1}'] * 3


def test_a_lasting_collision_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "COLLISION_PAUSE_SECONDS", 0)
    prefect = Prefect(collisions=1000)
    assert asyncio.run(request(OneWriterAtATime(prefect), b"{}")) == 503
    assert len(prefect.bodies) == server_process.COLLISION_TRIES


def test_a_client_that_is_slow_to_send_keeps_nobody_waiting() -> None:
    async def scenario() -> int:
        app = OneWriterAtATime(Prefect())

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(3600)
            raise AssertionError

        async def send(message: Any) -> None:
            raise AssertionError(message)

        scope = {"type": "http", "method": "POST", "path": "/api/flows/"}
        slow = asyncio.create_task(app(scope, receive, send))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            status = await request(app, b"{}")
        slow.cancel()
        return status

    assert asyncio.run(scenario()) == 201


def test_an_error_of_the_application_is_raised() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(request(OneWriterAtATime(broken), b"{}"))
