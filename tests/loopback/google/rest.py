"""The REST side of the loopback Google."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

from loopback.google.answers import GoogleRefusal, missing
from loopback.google.calls import Calls
from loopback.google.rpc import WhoCalls
from loopback.google.state import Caller
from loopback.wire import Handler, Request, Response


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request is about.

    Attributes:
        parts: What the groups of the route's path stand for.
        query: The query.
        body: The document that was sent; empty for none.
        target: The path with its query, as it was sent.
        caller: Who asks.
    """

    parts: tuple[str, ...]
    query: Mapping[str, str]
    body: dict[str, Any]
    target: str
    caller: Caller


@dataclass(frozen=True, kw_only=True)
class Route:
    """A method of an API.

    Attributes:
        method: The HTTP method.
        path: A pattern of its path.
        name: Its name, as in the API's reference.
        api: First word of the API's host.
        act: Answers, with a document.
    """

    method: str
    path: str
    name: str
    api: str
    act: Callable[[Asked], dict[str, Any] | None]


class Rest:
    """Answers requests by REST.

    Args:
        calls: Every call goes through it.
        routes: What is answered.
        who: Who calls.

    Attributes:
        open: What is answered by paths whoever asks.
        first: What is asked first; where it answers, nobody else is.
    """

    def __init__(self, calls: Calls, routes: Sequence[Route], who: WhoCalls) -> None:
        self.open: dict[str, Handler] = {}
        self.first: Callable[[Request], Response | None] = lambda _: None
        self._calls = calls
        self._routes = [(re.compile(route.path), route) for route in routes]
        self._who = who

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        if request.path in self.open:
            return self.open[request.path](request)
        answered = self.first(request)
        if answered is not None:
            return answered
        try:
            document = self._answer(request)
        except GoogleRefusal as refusal:
            return _json(refusal.document(), refusal.http)
        return Response(status=204) if document is None else _json(document, 200)

    def _answer(self, request: Request) -> dict[str, Any] | None:
        caller = self._who(lambda name: request.headers.get(name))
        for pattern, route in self._routes:
            match = pattern.fullmatch(request.path)
            if match and route.method == request.method:
                asked = Asked(
                    parts=tuple(unquote(part) for part in match.groups()),
                    query=request.query,
                    body=json.loads(request.body) if request.body else {},
                    target=request.target,
                    caller=caller,
                )
                return self._calls.answer(route.api, route.name, caller, partial(route.act, asked))
        raise missing(f"The requested URL {request.path} was not found on this server.")


def _json(document: dict[str, Any], status: int) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "application/json; charset=UTF-8"},
        body=json.dumps(document).encode(),
    )
