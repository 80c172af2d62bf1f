"""Plain requests to the background Prefect server, as a program of its user's makes them."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Generator
from uuid import uuid4

import httpx


class PrefectAuth(httpx.Auth):
    """The password in this process's environment, and a token where something is changed."""

    requires_response_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Complete a request's headers."""
        password = b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
        authorization = {"Authorization": f"Basic {password}"}
        request.headers.update(authorization)
        if request.method != "GET":
            client = uuid4().hex
            query = f"client={client}".encode()
            token_url = request.url.copy_with(path="/api/csrf-token", query=query)
            answer = yield httpx.Request("GET", token_url, headers=authorization)
            request.headers["Prefect-Csrf-Token"] = answer.json()["token"]
            request.headers["Prefect-Csrf-Client"] = client
        yield request


PREFECT = httpx.Client(
    auth=PrefectAuth(), timeout=60, limits=httpx.Limits(max_keepalive_connections=0)
)
"""Asks the server whose password this process has, however busy the machine is."""
