"""Commands in pods over the Kubernetes API: streams, exit codes, terminals, and refusals."""

from __future__ import annotations

import io
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from kubernetes_runs import a_launcher, a_request, launch

from kinetic_flows.clients.kubernetes import exec as pod_exec
from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.errors import LaunchError, UsageError
from kinetic_flows.core.launcher import Phase
from kinetic_flows.platforms.gke.access import PodAccess
from kinetic_flows.platforms.gke.watcher import NamespaceWatcher
from loopback.kubernetes.access import TOKEN, Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.idle import IdleRuntime
from loopback.kubernetes.node_groups import NodeGroup

RUN = "9229eced-0000-4000-8000-000000000001"
NO_NODES = "l4"
OF_SLICES = "9229eced-0000-4000-8000-000000000002"
LARGE = 3_000_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path_factory.mktemp("exec"), runtime=IdleRuntime()) as running:
        running.add_nodes(NodeGroup(name="cpu", nodes=1))
        yield running


@pytest.fixture(scope="module")
def client(cluster: LoopbackCluster) -> Iterator[KubernetesClient]:
    client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    start_job(client, "train", {"prefect.io/flow-run-id": RUN}, hosts=2)
    for number in (0, 1):
        key = f"{OF_SLICES}-s{number}"
        labels = {"prefect.io/flow-run-id": OF_SLICES, "kinetic-flows/slice": key}
        start_job(client, f"slice-{number}", labels, hosts=2)
    await_pods(cluster, 6)
    yield client
    client.close()


@pytest.fixture(scope="module")
def access(client: KubernetesClient) -> PodAccess:
    return PodAccess(client, "default", NamespaceWatcher(client, "default"))


def start_job(client: KubernetesClient, name: str, labels: dict[str, str], hosts: int) -> None:
    pod = {
        "restartPolicy": "Never",
        "containers": [{"name": "prefect-job", "image": "python:3.11"}],
    }
    spec = {
        "completions": hosts,
        "parallelism": hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }
    client.ask("POST", "/apis/batch/v1/namespaces/default/jobs", body=job)


def await_pods(cluster: LoopbackCluster, count: int) -> None:
    running = set()

    def are_there(pod: dict[str, Any]) -> bool:
        if pod["status"].get("phase") == "Running":
            running.add(pod["metadata"]["name"])
        return len(running) == count

    cluster.wait_for("pods", are_there)


def run(access: PodAccess, *command: str) -> tuple[int, bytes, bytes]:
    done = access.execute(RUN, 0, command, limit_seconds=30)
    return done.exit_code, done.output, done.errors


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
def test_output_errors_and_exit_code_come_apart(
    access: PodAccess, cluster: LoopbackCluster, protocol: str
) -> None:
    with cluster.speaking(protocol):
        assert run(access, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
        assert run(access, "sh", "-c", "kill -9 $$")[0] == 137
        assert run(access, "echo", "a b&c=d+e%20", "")[1] == b"a b&c=d+e%20 \n"


def test_all_of_a_large_output_comes(access: PodAccess) -> None:
    code, output, _ = run(access, "head", "-c", str(LARGE), "/dev/zero")
    assert (code, len(output)) == (0, LARGE)


def test_input_ends_where_its_stream_does(access: PodAccess) -> None:
    source, target = io.BytesIO(b"x" * LARGE), io.BytesIO()
    done = access.stream(RUN, 1, ["wc", "-c"], source, target)
    assert (done.exit_code, target.getvalue().strip()) == (0, str(LARGE).encode())


def test_a_command_may_read_as_late_as_it_likes(
    access: PodAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_exec, "QUIET_SECONDS", 0.05)
    command, target = ["sh", "-c", "sleep 0.5; wc -c"], io.BytesIO()
    done = access.stream(RUN, 0, command, io.BytesIO(b"x" * LARGE), target)
    assert (done.exit_code, target.getvalue().strip()) == (0, str(LARGE).encode())


def test_what_comes_is_taken_as_slowly_as_somebody_likes(
    access: PodAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_exec, "QUIET_SECONDS", 0.05)

    class Pager(io.BytesIO):
        def write(self, content: Any) -> int:
            if not self.tell():
                time.sleep(0.5)
            return super().write(content)

    target = Pager()
    command = ["head", "-c", str(LARGE), "/dev/zero"]
    assert access.stream(RUN, 0, command, io.BytesIO(), target).exit_code == 0
    assert target.tell() == LARGE


def test_a_connection_that_says_nothing_any_more_is_broken(
    access: PodAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_exec, "QUIET_SECONDS", 0.2)
    # Nothing answers on it, as behind a way through a network that is gone.
    monkeypatch.setattr(aiohttp.ClientWebSocketResponse, "ping", unasked)
    with pytest.raises(LaunchError, match=r"broke off: it has said nothing for 0\.2 seconds"):
        access.execute(RUN, 0, ["tail", "-f", "/dev/null"], limit_seconds=30)


async def unasked(_websocket: aiohttp.ClientWebSocketResponse, _message: bytes) -> None:
    """Ask nothing."""


def test_a_source_that_fails_is_told(access: PodAccess) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        access.stream(RUN, 0, ["cat"], Broken(), io.BytesIO())


def test_hosts_are_counted_over_slices(access: PodAccess) -> None:
    hosts = access.hosts(OF_SLICES)
    assert [host.host for host in hosts] == [0, 1, 2, 3]
    assert [host.place[:9] for host in hosts] == [
        "slice-0-0",
        "slice-0-1",
        "slice-1-0",
        "slice-1-1",
    ]
    assert all(host.is_running for host in hosts)
    assert access.hosts("9229eced-0000-4000-8000-00000000000f") == ()
    with pytest.raises(UsageError, match="no host 4 of this run: it has 4"):
        access.execute(OF_SLICES, 4, ["true"], limit_seconds=30)


def test_a_program_that_is_not_there_is_named(access: PodAccess) -> None:
    with pytest.raises(LaunchError, match='"nosuch": No such file or directory'):
        run(access, "nosuch")


def test_a_command_that_says_nothing_is_not_waited_for_without_end(access: PodAccess) -> None:
    with pytest.raises(LaunchError, match=r"did not answer within 0\.2 seconds"):
        access.execute(RUN, 0, ["tail", "-f", "/dev/null"], limit_seconds=0.2)


@pytest.mark.parametrize("verb", ["get", "create"])
def test_who_may_not_is_told_what_grants_it(
    access: PodAccess, cluster: LoopbackCluster, verb: str
) -> None:
    denial = Denial(resource="pods/exec", verb=verb)
    cluster.access.denials.append(denial)
    try:
        with pytest.raises(LaunchError) as caught:
            run(access, "true")
    finally:
        cluster.access.denials.remove(denial)
    assert f"you may not {verb} pods/exec in namespace 'default'" in caught.value.message
    assert caught.value.hint is not None
    assert "--verb=get,create --resource=pods/exec,pods/portforward" in caught.value.hint


def test_a_token_that_has_expired_is_read_anew(access: PodAccess, cluster: LoopbackCluster) -> None:
    path = cluster.kubeconfig()
    before, written = dict(cluster.access.users), path.read_text()
    try:
        cluster.access.users = {"another-token": "tester@example.com"}
        path.write_text(written.replace(TOKEN, "another-token"))
        assert run(access, "echo", "in")[1] == b"in\n"
    finally:
        cluster.access.users = before
        path.write_text(written)
    assert run(access, "echo", "in")[1] == b"in\n"


@pytest.fixture
def greeting() -> Iterator[int]:
    """A port of this machine at which whoever connects is greeted."""

    class Greet(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"hello")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def greeted(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        return connection.makefile("rb").read()


def test_a_forwarded_port_leads_to_the_pod_that_takes_anothers_place(
    cluster: LoopbackCluster, greeting: int
) -> None:
    cluster.pod_ports[6006] = greeting
    told: list[str] = []
    with a_launcher(cluster) as launcher:
        run = launch(launcher, a_request("pass", max_preemptions=1))
        run.until(Phase.RUNNING)
        (first,) = launcher.access.hosts(run.run_id)
        with launcher.access.forward(run.run_id, 0, 6006, 0, told.append) as port:
            assert greeted(port) == b"hello"
            cluster.drain(first.place)
            cluster.wait_for("pods", lambda pod: is_another(pod, run.run_id, first.place))
            assert greeted(port) == b"hello"
            (second,) = launcher.access.hosts(run.run_id)
            assert second.place != first.place
        launcher.stop(run.run_id, 1)


def is_another(pod: dict[str, Any], run_id: str, place: str) -> bool:
    metadata = pod["metadata"]
    is_of_run = metadata["labels"].get("prefect.io/flow-run-id") == run_id
    return is_of_run and metadata["name"] != place and pod["status"].get("phase") == "Running"


def test_a_host_without_a_node_says_what_it_waits_for(cluster: LoopbackCluster) -> None:
    with a_launcher(cluster) as launcher:
        run = launch(launcher, a_request("pass", accelerator=NO_NODES))
        run.until(Phase.PENDING, reason="no node pool")
        (host,) = launcher.access.hosts(run.run_id)
        assert not host.is_running
        assert host.why_not.startswith("its pod has not begun: ")
        with pytest.raises(LaunchError, match=r"host 0 cannot be reached: its pod has not begun"):
            launcher.access.execute(run.run_id, 0, ["true"], limit_seconds=30)
        launcher.stop(run.run_id, 1)
