"""The way to a Prefect server in a cluster, by a port that its API server forwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prefect.settings import PREFECT_PROFILES_PATH, load_profiles, temporary_settings

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused
from kinetic_flows.clients.kubernetes.port_forward import PodPort, PortForward
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.errors import CloudError, ConfigurationError
from kinetic_flows.platforms.gke.setup.prefect.prefect_connection import open_server
from kinetic_flows.platforms.gke.setup.prefect.prefect_server import secret
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.idle import IdleRuntime
from loopback.kubernetes.node_groups import NodeGroup

POD = PodPort(namespace="prefect", pod="prefect-server-0", port=4200)
LARGE = 5_000_000


class Echo(BaseHTTPRequestHandler):
    """Answers with what it is sent, or with a lot."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"x" * LARGE if self.path == "/large" else self.path.encode())

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def cluster(tmp_path: Path, echo: int) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path, runtime=IdleRuntime()) as running:
        running.add_nodes(NodeGroup(name="cpu", nodes=1))
        running.add_namespace("prefect")
        running.pod_ports[4200] = echo
        yield running


@pytest.fixture
def client(cluster: LoopbackCluster) -> Iterator[KubernetesClient]:
    client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    yield client
    client.close()


def start_pod(client: KubernetesClient, cluster: LoopbackCluster) -> None:
    """Run what stands for the server's pod."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD.pod},
        "spec": {"containers": [{"name": "server", "image": "prefecthq/prefect"}]},
    }
    client.ask("POST", "/api/v1/namespaces/prefect/pods", body=pod)
    cluster.wait_for("pods", lambda item: item["status"].get("phase") == "Running")


def read(port: int, path: str = "/hello", body: bytes | None = None) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}{path}", data=body, timeout=30) as answer:
        content: bytes = answer.read()
        return content


@contextmanager
def forwarded(client: KubernetesClient, told: list[str] | None = None) -> Iterator[int]:
    forward = PortForward(client, POD, (told if told is not None else []).append)
    port = forward.open()
    try:
        yield port
    finally:
        forward.close()


def test_connections_lead_to_the_pod_whatever_is_sent(
    client: KubernetesClient, cluster: LoopbackCluster
) -> None:
    start_pod(client, cluster)
    with forwarded(client) as port:
        assert read(port) == b"/hello"
        assert len(read(port, "/large")) == LARGE
        sent = os.urandom(LARGE)
        assert read(port, "/", sent) == sent
        together = [threading.Thread(target=read, args=(port, "/large")) for _ in range(4)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
    with pytest.raises(OSError, match="refused"):
        read(port)


def test_only_this_machine_can_use_the_port(
    client: KubernetesClient, cluster: LoopbackCluster
) -> None:
    start_pod(client, cluster)
    with forwarded(client) as port, socket.socket() as other:
        # Free at this machine's other addresses, and so not listened at there.
        other.bind(("127.0.0.2", port))


def test_a_pod_that_is_replaced_is_waited_for_and_told(
    client: KubernetesClient, cluster: LoopbackCluster
) -> None:
    start_pod(client, cluster)
    told: list[str] = []
    with forwarded(client, told) as port:
        assert read(port) == b"/hello"
        cluster.remove("pods", POD.pod, "prefect")
        answers: list[bytes] = []
        waiting = threading.Thread(target=lambda: answers.append(read(port, "/again")))
        waiting.start()
        _until(lambda: told)
        start_pod(client, cluster)
        waiting.join()
    assert answers == [b"/again"]
    assert "cannot be reached" in told[0]
    assert told[1:] == ["port 4200 of pod prefect/prefect-server-0 is reached again"]


def test_an_api_server_that_restarts_breaks_connections_and_not_the_port(
    client: KubernetesClient, cluster: LoopbackCluster
) -> None:
    start_pod(client, cluster)
    with forwarded(client) as port:
        assert read(port) == b"/hello"
        cluster.stop_api()
        cluster.start_api()
        assert read(port) == b"/hello"


def test_a_server_that_does_not_listen_yet_is_told(
    client: KubernetesClient, cluster: LoopbackCluster
) -> None:
    start_pod(client, cluster)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        cluster.pod_ports[4200] = taken.getsockname()[1]
        told: list[str] = []
        with forwarded(client, told) as port, pytest.raises(OSError):  # noqa: PT011
            read(port)
    assert "connection refused" in told[0]


def test_what_cannot_be_forwarded_is_refused_at_once(
    client: KubernetesClient, cluster: LoopbackCluster
) -> None:
    with pytest.raises(KubernetesRefused) as missing:
        PortForward(client, POD).open()
    assert missing.value.status == 404
    start_pod(client, cluster)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="cannot be used") as refused:
            PortForward(client, POD).open(taken.getsockname()[1])
    assert "--port" in str(refused.value.hint)


def test_why_there_is_no_way_to_a_server_is_told_in_words(
    client: KubernetesClient, cluster: LoopbackCluster
) -> None:
    with pytest.raises(CloudError, match="there is no Prefect server in cluster team"):
        open_server(client, "team")
    make_password(client, "kinetic:secret")
    with pytest.raises(CloudError, match="does not run at the moment"):
        open_server(client, "team")
    start_pod(client, cluster)
    cluster.access.denials.append(Denial(resource="pods/portforward", verb="create"))
    with pytest.raises(CloudError, match="may not reach") as refused:
        open_server(client, "team")
    assert "--member" in str(refused.value.hint)


def make_password(client: KubernetesClient, auth_string: str) -> None:
    body = secret("prefect-server", **{"auth-string": auth_string})
    client.ask("POST", "/api/v1/namespaces/prefect/secrets", body=body)


def test_the_command_leads_prefects_own_client_to_the_clusters_server(
    client: KubernetesClient,
    cluster: LoopbackCluster,
    prefect_server: BackgroundServer,
    tmp_path: Path,
) -> None:
    record = prefect_server.status()
    assert record is not None
    password = prefect_server.environment(record)["PREFECT_API_AUTH_STRING"]
    make_password(client, password)
    start_pod(client, cluster)
    cluster.pod_ports[4200] = int(record.api_url.rpartition(":")[2].partition("/")[0])
    environ = {
        **os.environ,
        "HOME": str(tmp_path),
        "KINETIC_HOME": str(tmp_path / "kinetic"),
        "KUBECONFIG": str(cluster.kubeconfig()),
    }
    command = [sys.executable, "-c", "from kinetic_flows.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "server", "connect", "team", "--port", "0", "--json"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        while not said.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            said += line
        told = json.loads(said)
        asked = subprocess.run(
            [*command, "prefect", "work-pool", "ls"],
            env={**environ, "PREFECT_PROFILE": told["prefect_profile"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr
        assert told["prefect_version"] == record.prefect_version
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    # What needs the server afterwards opens the way itself.
    before = len(cluster.requests)
    listed = subprocess.run(
        [*command, "runs", "ls", "--json"],
        env={**environ, "PREFECT_PROFILE": told["prefect_profile"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    assert isinstance(json.loads(listed.stdout), list)
    assert any("/portforward?" in each for each in cluster.requests[before:])
    assert errors == "kinetic: closed\n"
    assert password not in said + errors
    with temporary_settings({PREFECT_PROFILES_PATH: tmp_path / ".prefect" / "profiles.toml"}):
        assert load_profiles(include_defaults=False)["kinetic-team"].to_environment_variables() == {
            "PREFECT_API_URL": told["api_url"],
            "PREFECT_API_AUTH_STRING": password,
        }


def _until(holds: Any) -> None:
    """Wait until something holds; the test's own limit ends it otherwise."""
    while not holds():
        threading.Event().wait(0.02)
