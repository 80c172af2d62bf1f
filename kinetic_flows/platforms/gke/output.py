"""What pods print, as bytes with a position, read while a client observes the run."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    StreamBroken,
    core_path,
)
from kinetic_flows.core.errors import KineticError
from kinetic_flows.platforms.gke.diagnosis import INDEX_ANNOTATION, container_state, pod_phase
from kinetic_flows.platforms.gke.log_lines import LogCursor
from kinetic_flows.platforms.gke.state import NamespaceState, Object, RunView

logger = logging.getLogger(__name__)

UNREAD_BYTES = 1 << 20
"""Reading pauses while so much is unread: a run that prints without end fills no memory."""

KEPT_BYTES = 64 << 10
"""How much of what was read stays for those who ask for the last lines."""

SILENCE_SECONDS = 600.0
FULL_PAUSE_SECONDS = 0.05
TRIES = 4
LAST_PAUSE_SECONDS = 15.0
ENDING_SECONDS = 1.0
"""How much later than its output's end a pod's own end may be known."""

ENDING_LOOK_SECONDS = 0.02
RUNS_KEPT = 1000


class RunOutput:
    """The output of one run's first host, over all its pods; safe to use from any thread."""

    def __init__(self) -> None:
        self.pods: set[str] = set()
        self.busy = False
        self.draining = False
        self._guard = threading.Lock()
        self._data = bytearray()
        self._start = 0
        self._read_to = 0

    def append(self, chunk: bytes) -> None:
        """Add output."""
        with self._guard:
            self._data += chunk
            if self.draining:
                self._drop(len(self._data) - KEPT_BYTES - UNREAD_BYTES)

    def read(self, position: int) -> tuple[bytes, int]:
        """Return what there is from a position on, and the position after it.

        Of what was read before, only the last `KEPT_BYTES` can be read again.
        """
        with self._guard:
            end = self._start + len(self._data)
            found = bytes(self._data[max(position - self._start, 0) :])
            self._read_to = end
            self._drop(len(self._data) - KEPT_BYTES)
            return found, max(end, position)

    @property
    def is_full(self) -> bool:
        """Whether reading on has to wait until a client observes the run."""
        unread = self._start + len(self._data) - self._read_to
        return not self.draining and unread >= UNREAD_BYTES

    def _drop(self, count: int) -> None:
        if count > 0:
            del self._data[:count]
            self._start += count


class _End(Enum):
    """How an answer that follows a pod's output ended."""

    CLEAN = "clean"
    BROKEN = "broken"
    GONE = "gone"


class PodOutputs:
    """Follows the output of runs' pods.

    Args:
        client: The cluster.
        namespace: Where the pods are.
        state: Told when output has come to its end.
    """

    def __init__(self, client: KubernetesClient, namespace: str, state: NamespaceState) -> None:
        self._client = client
        self._namespace = namespace
        self._state = state
        self._guard = threading.Lock()
        self._runs: dict[str, RunOutput] = {}

    def read(self, run_id: str, view: RunView, position: int) -> tuple[bytes, int]:
        """Return a run's output from a position on, as far as it is known by now."""
        output = self._runs.setdefault(run_id, RunOutput())
        self._start_next(output, run_id, view)
        self._forget_oldest()
        return output.read(position)

    def finish(self, run_id: str, view: Callable[[], RunView], seconds: float) -> None:
        """Fetch the rest of an ended run's output, for no longer than a limit."""
        output = self._runs.setdefault(run_id, RunOutput())
        output.draining = True

        def is_fetched() -> bool:
            self._start_next(output, run_id, view())
            return not output.busy

        self._state.wait(is_fetched, seconds)

    def _forget_oldest(self) -> None:
        if len(self._runs) > RUNS_KEPT:
            with self._guard:
                idle = [run_id for run_id, output in self._runs.items() if not output.busy]
                for run_id in idle[: len(self._runs) - RUNS_KEPT]:
                    del self._runs[run_id]

    def _start_next(self, output: RunOutput, run_id: str, view: RunView) -> None:
        """Follow the next pod whose output was not followed yet, unless one is being followed."""
        with self._guard:
            pod = None if output.busy else _next_pod(view, output.pods)
            if pod is not None:
                output.busy = True
                output.pods.add(pod["metadata"]["uid"])
                self._client.spawn(self._follow(output, run_id, pod["metadata"]["name"]))

    async def _follow(self, output: RunOutput, run_id: str, pod: str) -> None:
        """Read a pod's output to its end, for as long as the pod lives if need be."""
        cursor, failures = LogCursor(), 0
        try:
            while failures < TRIES or self._phase(run_id, pod) == "Running":
                has_ended, before = self._has_ended(run_id, pod), cursor.total
                end = await self._stream(output, pod, cursor)
                if end is _End.GONE:
                    break
                if end is _End.CLEAN and has_ended:
                    break
                # Answers end cleanly when a kubelet is restarted, too: of a pod that was not
                # known to have ended, the last seconds are asked for once more.
                if end is _End.CLEAN and await self._ends_now(run_id, pod):
                    continue
                failures = 0 if cursor.total > before else failures + 1
                await asyncio.sleep(min(0.2 * 2**failures, LAST_PAUSE_SECONDS))
        finally:
            output.busy = False
            self._state.notify()

    async def _ends_now(self, run_id: str, pod: str) -> bool:
        """Whether a pod has ended, as one does with its output; its own word may take a moment."""
        deadline = time.monotonic() + ENDING_SECONDS
        while not self._has_ended(run_id, pod):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(ENDING_LOOK_SECONDS)
        return True

    def _has_ended(self, run_id: str, pod: str) -> bool:
        return self._phase(run_id, pod) not in ("Pending", "Running")

    def _phase(self, run_id: str, pod: str) -> str | None:
        pods = self._state.view(run_id).pods
        return next((pod_phase(each) for each in pods if each["metadata"]["name"] == pod), None)

    async def _stream(self, output: RunOutput, pod: str, cursor: LogCursor) -> _End:
        """Read a pod's output on from where an earlier connection ended."""
        path = core_path(self._namespace, "pods", pod) + "/log"
        query = cursor.open()
        try:
            async with self._client.open_stream(
                path, query, silence_seconds=SILENCE_SECONDS
            ) as chunks:
                async for chunk in chunks:
                    output.append(cursor.take(chunk))
                    while output.is_full:
                        await asyncio.sleep(FULL_PAUSE_SECONDS)
        except (KineticError, StreamBroken) as error:
            logger.debug("output of pod %s: %s", pod, error)
            # A pod that is gone took its output with it; another may only not be ready yet.
            is_gone = isinstance(error, KubernetesRefused) and error.status in (403, 404)
            return _End.GONE if is_gone else _End.BROKEN
        return _End.CLEAN


def _next_pod(view: RunView, known: set[str]) -> Object | None:
    """Return the oldest pod of the first host whose output was not asked for yet."""
    pods = [
        pod
        for pod in view.pods
        if _host(pod) in (None, "0") and pod["metadata"]["uid"] not in known and _has_begun(pod)
    ]
    return min(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), default=None)


def _has_begun(pod: Object) -> bool:
    return pod_phase(pod) == "Running" or container_state(pod, "terminated") is not None


def _host(pod: Object) -> Any:
    return (pod["metadata"].get("annotations") or {}).get(INDEX_ANNOTATION)
