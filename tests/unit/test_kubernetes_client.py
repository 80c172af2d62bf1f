"""Requests to an API server that is busy, breaks off, refuses, or knows a login no more."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import (
    RETRY_SECONDS,
    KubernetesClient,
    KubernetesRefused,
    KubernetesUnreachable,
)
from loopback.wire import Fault, Request, Response, WireServer

PODS = "/api/v1/namespaces/default/pods"
PLUGIN = """\
#!/bin/sh
echo >> "$0.logins"
token=$(wc -l < "$0.logins" | tr -d ' ')
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
  "status": {"token": "'$token'"}}'
"""


def answer(request: Request) -> Response:
    """Say whose request it was."""
    token = str(request.headers.get("Authorization")).removeprefix("Bearer ")
    return Response(body=json.dumps({"token": token}).encode())


@pytest.fixture
def server() -> Iterator[WireServer]:
    server = WireServer(answer).start()
    yield server
    server.stop()


@pytest.fixture
def client(server: WireServer, tmp_path: Path) -> Iterator[KubernetesClient]:
    """A client that logs in with a plugin, whose tokens are counted from 1."""
    plugin = tmp_path / "plugin"
    plugin.write_text(PLUGIN)
    plugin.chmod(0o755)
    version = "client.authentication.k8s.io/v1"
    login = {"apiVersion": version, "command": str(plugin), "interactiveMode": "Never"}
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"exec": login}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    client = KubernetesClient(Kubeconfig(path=str(path)))
    yield client
    client.close()


@pytest.mark.parametrize("kind", ["status", "reset"])
def test_a_busy_or_broken_answer_is_asked_for_again(
    client: KubernetesClient, server: WireServer, kind: Literal["status", "reset"]
) -> None:
    with server.fault(Fault(kind=kind)):
        assert client.ask("POST", PODS, body={}) == {"token": "1"}
    assert len(server.requests) == 2


def test_a_login_that_has_expired_is_made_anew_once(
    client: KubernetesClient, server: WireServer
) -> None:
    with server.fault(Fault(kind="status", status=401)):
        assert client.ask("GET", PODS) == {"token": "2"}

    with (
        server.fault(Fault(kind="status", status=401, times=9)),
        pytest.raises(KubernetesRefused) as caught,
    ):
        client.ask("GET", PODS)
    assert caught.value.status == 401
    assert len(server.requests) == 4


def test_a_refusal_is_final(client: KubernetesClient, server: WireServer) -> None:
    with (
        server.fault(Fault(kind="status", status=409)),
        pytest.raises(KubernetesRefused, match=f"409 to GET {PODS}"),
    ):
        client.ask("GET", PODS)
    assert len(server.requests) == 1


def test_a_server_that_stays_away_is_named_after_the_last_try(
    client: KubernetesClient, server: WireServer
) -> None:
    with (
        server.fault(Fault(kind="reset", times=9)),
        pytest.raises(KubernetesUnreachable, match=server.url) as caught,
    ):
        client.ask("POST", PODS, body={})
    assert isinstance(caught.value.__cause__, OSError)
    assert len(server.requests) == 1 + len(RETRY_SECONDS)


def test_a_client_that_nobody_has_any_more_closes_its_connections(
    server: WireServer, tmp_path: Path
) -> None:
    path = tmp_path / "config"
    path.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                "contexts": [{"name": "x", "context": {"cluster": "c"}}],
                "current-context": "x",
            }
        )
    )
    before = set(threading.enumerate())
    client = KubernetesClient(Kubeconfig(path=str(path)))
    client.ask("GET", PODS)
    (thread,) = (
        each for each in set(threading.enumerate()) - before if each.name == "kinetic-kubernetes"
    )
    del client
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
