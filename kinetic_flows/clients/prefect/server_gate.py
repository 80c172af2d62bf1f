"""The gate of the background Prefect server: who may speak to it at all.

Prefect itself asks every request to its API for the password. The gate turns away web pages of
other origins, and names that were made to point to this machine (DNS rebinding), whatever they
ask for. It also answers two questions that Prefect does not know: whether the server knows the
password, and a browser's, that comes with a link for one use.
"""

from __future__ import annotations

import html
import json
import re
import time
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from kinetic_flows.clients.prefect.server_access import PROOF_PATH, SIGN_IN_PATH, LinkTokens, proof

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

_OWN_PAGE = re.compile(r"/(?:[A-Za-z0-9_-]+/?)*")

POLICY_VIOLATION = 1008
"""The code that ends a websocket which is refused (RFC 6455, 7.4.1)."""


class Gate:
    """An ASGI application in front of another, for this machine's own pages and programs.

    Args:
        app: The application that answers who is let through.
        auth_string: The server's.
        port: Where it listens.
    """

    def __init__(self, app: ASGIApp, auth_string: str, port: int) -> None:
        self._app = app
        self._auth_string = auth_string
        self._port = port
        self._links = LinkTokens(auth_string)
        self._own: dict[str, Callable[[str], tuple[int, str, str]]] = {
            PROOF_PATH: self._prove,
            SIGN_IN_PATH: self._sign_in,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on one request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = refusal(scope["headers"], self._port)
        if refused and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refused})
        elif refused:
            await _answer(send, 403, "text/plain", refused)
        elif scope["type"] == "http" and scope["path"] in self._own:
            answer = self._own[scope["path"]]
            await _answer(send, *answer(scope.get("query_string", b"").decode("latin-1")))
        else:
            await self._app(scope, receive, send)

    def _prove(self, query: str) -> tuple[int, str, str]:
        (nonce,) = parse_qs(query).get("nonce", [""])[:1]
        answer = {"proof": proof(self._auth_string, self._port, nonce)}
        return 200, "application/json", json.dumps(answer)

    def _sign_in(self, query: str) -> tuple[int, str, str]:
        """Hand the password to a browser, where Prefect's UI keeps it for its own pages."""
        (token,) = parse_qs(query).get("token", [""])[:1]
        if not self._links.redeem(token, time.time()):
            return 403, "text/html", _page("This link was used, or is too old: <code>kinetic ui"
                                           "</code> makes a new one.")  # fmt: skip
        kept = b64encode(self._auth_string.encode()).decode()
        (page,) = parse_qs(query).get("page", ["/"])[:1]
        script = (
            f"localStorage.setItem('prefect-password', {json.dumps(kept)});"
            f"location.replace({json.dumps(page if _OWN_PAGE.fullmatch(page) else '/')});"
        )
        return 200, "text/html", _page(f"<script>{script}</script>Opening Prefect ...")


def refusal(headers: list[tuple[bytes, bytes]], port: int) -> str:
    """Return why a request is refused for where it comes from; empty when it is not.

    Args:
        headers: The request's, their names in lower case.
        port: Where the server listens.
    """
    given = {name: value.decode("latin-1") for name, value in headers}
    host, origin = given.get(b"host", ""), given.get(b"origin")
    if _name_of(f"http://{host}") not in LOOPBACK_NAMES:
        return f"this server is for its own machine only, not for {host}"
    own = {f"http://{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    if origin is not None and origin not in own | {f"http://{host}"}:
        return f"pages of {origin} may not use this server"
    return ""


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _page(content: str) -> str:
    return f"<!doctype html><title>{html.escape('Prefect')}</title><p>{content}"


async def _answer(send: Send, status: int, kind: str, text: str) -> None:
    headers = {
        "content-type": f"{kind}; charset=utf-8",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
    }
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": text.encode()})
