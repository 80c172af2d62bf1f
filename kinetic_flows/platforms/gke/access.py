"""The way to a run's pods: commands in their containers, and ports of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, BinaryIO, TypeVar

from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused
from kinetic_flows.clients.kubernetes.exec import PodCommand, Streams, execute_within
from kinetic_flows.clients.kubernetes.port_forward import PodPort, PortForward
from kinetic_flows.core.errors import LaunchError, UsageError
from kinetic_flows.core.own_streams import OwnStreams, chunks_of
from kinetic_flows.core.process_access import Executed, HostProcess
from kinetic_flows.platforms.gke.diagnosis import (
    container_state,
    created_at,
    host_index,
    launch_error,
    pod_phase,
)
from kinetic_flows.platforms.gke.rights import INSIGHT, lacking_rights
from kinetic_flows.platforms.gke.state import Object, RunView
from kinetic_flows.platforms.gke.waiting import explain_waiting
from kinetic_flows.platforms.gke.watcher import NamespaceWatcher

T = TypeVar("T")


def granting(namespace: str) -> str:
    """Return what grants the right to look into runs; who set the cluster up may do it.

    Args:
        namespace: Where the runs are.
    """
    return (
        f"kubectl create role kinetic-insight --namespace {namespace} --verb=get,create "
        "--resource=pods/exec,pods/portforward && kubectl create rolebinding kinetic-insight "
        f"--namespace {namespace} --role=kinetic-insight --user=YOUR-ADDRESS"
    )


class PodAccess:
    """Starts commands in the pods of runs.

    Args:
        client: The cluster.
        namespace: Where the pods are.
        watcher: Who knows them.
    """

    def __init__(self, client: KubernetesClient, namespace: str, watcher: NamespaceWatcher) -> None:
        self._client = client
        self._namespace = namespace
        self._watcher = watcher

    def hosts(self, key: str) -> tuple[HostProcess, ...]:
        """Return the hosts of a run, slice by slice.

        Raises:
            LaunchError: The cluster does not tell.
        """
        return tuple(process for process, _ in self._hosts(key))

    def execute(
        self, key: str, host: int, command: Sequence[str], *, limit_seconds: float
    ) -> Executed:
        """Run a command in a host's container, and return what it printed.

        Raises:
            LaunchError: It could not be started, was not allowed, or took too long.
        """
        output, errors = bytearray(), bytearray()
        streams = Streams(output=_into(output), errors=_into(errors))
        code = self._run(self._command(key, host, command), streams, limit_seconds)
        return Executed(exit_code=code, output=bytes(output), errors=bytes(errors))

    def stream(
        self, key: str, host: int, command: Sequence[str], source: BinaryIO, target: BinaryIO
    ) -> Executed:
        """Run a command whose input and output are streams.

        Raises:
            LaunchError: It could not be started, or was not allowed.
            OSError: The source or the target has raised it.
        """
        errors = bytearray()

        async def write(content: bytes) -> None:
            await asyncio.to_thread(target.write, content)

        streams = Streams(output=write, errors=_into(errors), source=chunks_of(source.read))
        code = self._run(self._command(key, host, command, has_input=True), streams)
        return Executed(exit_code=code, output=b"", errors=bytes(errors))

    def attach(
        self, key: str, host: int, command: Sequence[str], *, terminal: bool, reads: bool = True
    ) -> int:
        """Run a command with this process's own streams; return its exit code.

        Raises:
            LaunchError: It could not be started, or was not allowed.
        """
        found = self._command(key, host, command, has_input=True, has_terminal=terminal)
        with OwnStreams(terminal=terminal).opened() as own:
            streams = Streams(
                output=own.output,
                errors=own.errors,
                source=own.source(reads=reads),
                sizes=own.sizes() if terminal else None,
            )
            return self._run(found, streams)

    @contextmanager
    def forward(
        self, key: str, host: int, port: int, local_port: int, tell: Callable[[str], None]
    ) -> Iterator[int]:
        """Lead a port of this machine to one of the host's pod, also of one that replaces it.

        Raises:
            LaunchError: There is no such pod, or this user may not.
            ConfigurationError: The port of this machine is taken.
        """

        def target() -> PodPort:
            _, pod = self._host(key, host)
            return PodPort(namespace=self._namespace, pod=pod["metadata"]["name"], port=port)

        forward = PortForward(self._client, target, tell)
        try:
            found = forward.open(local_port)
        except KubernetesRefused as refusal:
            raise self._refused(refusal, "reach a port of it", "portforward") from refusal
        try:
            yield found
        finally:
            forward.close()

    # Which pod

    def _hosts(self, key: str) -> Iterator[tuple[HostProcess, Object | None]]:
        number = 0
        for part in self._watcher.slices(key):
            view = self._watcher.state.view(part)
            if view.job is None and not view.pods:
                continue
            for index in range(_completions(view)):
                pod = _newest(view, index)
                yield _process(number, view, pod), pod
                number += 1

    def _host(self, key: str, host: int) -> tuple[HostProcess, Object]:
        found = list(self._hosts(key))
        if not 0 <= host < len(found):
            raise UsageError(
                f"there is no host {host} of this run: it has {len(found)}",
                value=host,
                hint=f"give 0 to {len(found) - 1}" if found else "has it ended? `kinetic runs ls`",
            )
        process, pod = found[host]
        if pod is None or not process.is_running:
            raise LaunchError(f"host {host} cannot be reached: {process.why_not}", value=host)
        return process, pod

    def _command(
        self,
        key: str,
        host: int,
        command: Sequence[str],
        *,
        has_input: bool = False,
        has_terminal: bool = False,
    ) -> PodCommand:
        _, pod = self._host(key, host)
        return PodCommand(
            namespace=self._namespace,
            pod=pod["metadata"]["name"],
            container=pod["spec"]["containers"][0]["name"],
            command=tuple(command),
            has_input=has_input,
            has_terminal=has_terminal,
        )

    # How

    def _run(self, command: PodCommand, streams: Streams, seconds: float | None = None) -> int:
        try:
            work = execute_within(self._client, command, streams)
            return _result(self._client.spawn(work), seconds)
        except KubernetesRefused as refusal:
            raise self._refused(refusal, "start a command in it", "exec") from refusal
        except TimeoutError:
            raise LaunchError(
                f"{command} did not answer within {seconds:g} seconds", value=command.pod
            ) from None

    def _refused(self, refusal: KubernetesRefused, action: str, subresource: str) -> LaunchError:
        """Say why a pod cannot be reached; a refused websocket's answer has no words."""
        if refusal.status == HTTPStatus.NOT_FOUND:
            return LaunchError(
                "the pod is gone", value=refusal.status, hint="has the run ended? `kinetic runs ls`"
            )
        if refusal.status != HTTPStatus.FORBIDDEN:
            return launch_error(refusal, action)
        wanted = [each for each in INSIGHT if each.subresource == subresource]
        lacking = self._client.spawn(lacking_rights(self._client, self._namespace, wanted)).result()
        said = "; ".join(lacking) or f"the cluster forbids to {action}"
        return LaunchError(
            said, value=self._namespace, hint=f"whoever may grant it: {granting(self._namespace)}"
        )


def _result(future: Future[T], seconds: float | None) -> T:
    """Wait for spawned work; it ends with whoever waits for it."""
    try:
        return future.result(seconds)
    except BaseException:
        future.cancel()
        raise


def _into(buffer: bytearray) -> Callable[[bytes], Coroutine[Any, Any, None]]:
    async def take(content: bytes) -> None:
        buffer.extend(content)

    return take


def _completions(view: RunView) -> int:
    return int(((view.job or {}).get("spec") or {}).get("completions") or 1)


def _newest(view: RunView, index: int) -> Object | None:
    """Return the pod of one host of a slice: one that runs, else the last that was made."""
    pods = [pod for pod in view.pods if (host_index(pod) or "0") == str(index)]
    return max(pods, key=lambda pod: (_runs(pod), created_at(pod)), default=None)


def _runs(pod: Object) -> bool:
    return pod_phase(pod) == "Running" and container_state(pod, "running") is not None


def _process(number: int, view: RunView, pod: Object | None) -> HostProcess:
    if pod is not None and _runs(pod):
        return HostProcess(host=number, place=pod["metadata"]["name"], is_running=True)
    place = pod["metadata"]["name"] if pod else ""
    why = "its pod has ended"
    if pod is None or pod_phase(pod) == "Pending":
        waiting = explain_waiting(view.job, view.pods, view.events) if view.job else None
        why = f"its pod has not begun: {waiting.message if waiting else 'it is starting'}"
    return HostProcess(host=number, place=place, is_running=False, why_not=why)
