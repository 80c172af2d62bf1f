"""Who may speak to the background Prefect server: its own pages, and programs of this machine."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

import pytest

from kinetic_flows.clients.prefect import server_gate
from kinetic_flows.clients.prefect.server_access import (
    LINK_SECONDS,
    LinkTokens,
    make_link_token,
    proof,
)
from kinetic_flows.clients.prefect.server_gate import Gate, refusal

AUTH = "kinetic:secret"
PORT = 4242
OWN = "127.0.0.1:4242"


def headers(host: str, origin: str | None = None) -> list[tuple[bytes, bytes]]:
    given = [(b"host", host.encode())]
    return [*given, (b"origin", origin.encode())] if origin is not None else given


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (OWN, None),
        ("localhost:4242", None),
        ("[::1]:4242", None),
        ("127.0.0.1", None),
        ("localhost:8080", "http://localhost:8080"),  # a forwarded port
        (OWN, "http://127.0.0.1:4242"),
        (OWN, "http://localhost:4242"),
    ],
)
def test_programs_and_own_pages_are_let_through(host: str, origin: str | None) -> None:
    assert refusal(headers(host, origin), PORT) == ""


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example:4242", None),  # a name that was made to point here
        ("127.0.0.1.evil.example", None),
        ("localhost.evil.example:4242", None),
        ("evil.example@127.0.0.1", "http://evil.example"),
        ("", None),
        ("[", None),
        ("192.168.0.7:4242", None),
        (OWN, "http://evil.example"),
        (OWN, "http://127.0.0.1:8080"),  # a page of somebody else on this machine
        (OWN, "https://127.0.0.1:4242"),
        (OWN, "null"),
        (OWN, ""),
        ("evil.example", "http://evil.example"),
    ],
)
def test_others_are_refused(host: str, origin: str | None) -> None:
    assert refusal(headers(host, origin), PORT)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Say that it was reached."""
    await send({"type": "reached", "by": scope["type"]})


def ask(kind: str = "http", path: str = "/api/flows/filter", query: str = "",
        host: str = OWN, gate: Gate | None = None) -> list[dict[str, Any]]:  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": headers(host)}
    asyncio.run((gate or Gate(application, AUTH, PORT))(scope, receive, send))
    return sent


def test_what_is_refused_never_reaches_the_application() -> None:
    assert ask()[0]["type"] == "reached"
    assert ask("websocket")[0]["type"] == "reached"
    assert ask(host="evil.example")[0]["status"] == 403
    (closed,) = ask("websocket", host="evil.example")
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


def test_the_life_of_the_application_is_none_of_the_gates_business() -> None:
    assert ask("lifespan", host="evil.example") == [{"type": "reached", "by": "lifespan"}]


def test_the_server_proves_that_it_knows_the_password_without_saying_it() -> None:
    _, body = ask(path="/kinetic/proof", query="nonce=abc")
    assert json.loads(body["body"]) == {"proof": proof(AUTH, PORT, "abc")}
    assert proof(AUTH, PORT, "abc") != proof(AUTH, PORT + 1, "abc"), "it cannot be passed on"
    assert b"secret" not in body["body"]


def test_a_link_hands_the_password_to_one_browser_only() -> None:
    gate = Gate(application, AUTH, PORT)
    token = make_link_token(AUTH, server_gate.time.time())
    start, body = ask(path="/kinetic/sign-in", query=f"token={token}", gate=gate)
    assert start["status"] == 200
    assert (b"cache-control", b"no-store") in start["headers"]
    assert b64encode(AUTH.encode()) in body["body"]
    start, body = ask(path="/kinetic/sign-in", query=f"token={token}", gate=gate)
    assert start["status"] == 403
    assert b"kinetic ui" in body["body"]
    assert b64encode(AUTH.encode()) not in body["body"]


def test_tokens_are_genuine_and_new() -> None:
    tokens, now = LinkTokens(AUTH), 1_000_000.0
    good = make_link_token(AUTH, now)
    said, _, signature = good.rpartition(".")
    later = f"{int(now + 10 * LINK_SECONDS)}.{said.partition('.')[2]}.{signature}"
    for bad in (
        "",
        "..",
        "1.2",
        "\u00fc",
        "9e999.a.b",
        later,
        make_link_token("kinetic:other", now),
    ):
        assert not tokens.redeem(bad, now)
    assert not tokens.redeem(good, now + LINK_SECONDS + 1)
    assert tokens.redeem(good, now)
    assert not tokens.redeem(good, now)


@pytest.mark.parametrize(
    ("page", "opened"),
    [
        ("/runs/flow-run/0d2c6c69-23b8", "/runs/flow-run/0d2c6c69-23b8"),
        ("//evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ('/");alert(1)//', "/"),
        ("/</script><script>alert(1)", "/"),
    ],
)
def test_a_link_leads_to_pages_of_the_server_only(page: str, opened: str) -> None:
    token = make_link_token(AUTH, server_gate.time.time())
    query = urlencode({"token": token, "page": page})
    _, body = ask(path="/kinetic/sign-in", query=query)
    assert f'location.replace("{opened}")'.encode() in body["body"]
