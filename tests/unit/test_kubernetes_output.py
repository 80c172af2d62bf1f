"""What a run prints, through connections that break, pause and end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kinetic_flows.clients.kubernetes_client import KubernetesUnreachable, StreamBroken
from kinetic_flows.naming import RUN_ID_POD_LABEL
from kinetic_flows.platforms.kubernetes_output import KEPT_BYTES, UNREAD_BYTES, PodOutputs
from kinetic_flows.platforms.kubernetes_state import NamespaceState

RUN = "11111111-2222-4333-8444-555555555555"


def pod(uid: str, phase: str = "Running", host: str | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": uid,
        "uid": uid,
        "creationTimestamp": f"2026-01-01T00:00:0{len(uid)}Z",
        "labels": {RUN_ID_POD_LABEL: RUN},
    }
    if host is not None:
        metadata["annotations"] = {"batch.kubernetes.io/job-completion-index": host}
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase}}


class ScriptedPods:
    """Stands in for a client: what each connection to each pod's log brings."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Any]] = {}
        self.given = 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def spawn(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    @asynccontextmanager
    async def open_stream(
        self, path: str, query: Any, *, silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        script = self.logs[path.split("/")[-2]].pop(0)
        if isinstance(script, Exception):
            raise script
        yield self._play(script)

    async def _play(self, script: list[Any]) -> AsyncIterator[bytes]:
        for each in script:
            if isinstance(each, Exception):
                raise each
            self.given += 1
            yield each


@pytest.fixture
def pods() -> Iterator[ScriptedPods]:
    scripted = ScriptedPods()
    yield scripted
    scripted.loop.call_soon_threadsafe(scripted.loop.stop)
    scripted.thread.join()
    scripted.loop.close()


class Reader:
    """Reads a run's output as a follower does."""

    def __init__(self, pods: ScriptedPods, *existing: dict[str, Any]) -> None:
        self.state = NamespaceState()
        for each in existing:
            self.state.put("pods", each)
        client: Any = pods
        self.outputs = PodOutputs(client, "default", self.state)
        self.seen, self.position = b"", 0

    def look(self) -> bytes:
        output, self.position = self.outputs.read(RUN, self.state.view(RUN), self.position)
        self.seen += output
        return self.seen

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline, self.seen
            self.look()
            time.sleep(0.005)

    def finish(self) -> None:
        self.outputs.finish(RUN, lambda: self.state.view(RUN), 10)
        self.look()


def test_a_connection_that_breaks_loses_and_repeats_nothing(pods):
    pods.logs["p"] = [[b"one\ntw", StreamBroken("reset")], [b"one\n", b"two\nthree\n"]]
    reader = Reader(pods, pod("p"))
    reader.until(lambda: reader.seen == b"one\ntwo\nthree\n")


def test_an_outage_while_the_pod_runs_is_waited_out(pods):
    gone = [KubernetesUnreachable("no route") for _ in range(2)]
    pods.logs["p"] = [[b"one\n", StreamBroken("reset")], *gone, [b"one\n", b"two\n"]]
    reader = Reader(pods, pod("p"))
    reader.until(lambda: reader.seen == b"one\ntwo\n")


def test_each_pod_of_a_restarted_run_is_read_once_in_their_order(pods):
    pods.logs = {"p": [[b"first\n"]], "pp": [[b"second\n"]]}
    reader = Reader(pods, pod("pp"), pod("p", "Failed"))
    reader.state.put("pods", {**pod("p", "Running")})
    reader.until(lambda: reader.seen == b"first\nsecond\n")


def test_of_a_slice_only_the_first_hosts_output_is_read(pods):
    pods.logs = {"ppp": [[b"host 0\n"]]}
    reader = Reader(pods, pod("p", host="1"), pod("ppp", host="0"))
    reader.until(lambda: reader.seen == b"host 0\n")


def test_reading_pauses_while_nobody_looks_and_goes_on_then(pods):
    chunk = b"x" * (UNREAD_BYTES // 2)
    pods.logs["p"] = [[chunk] * 8]
    reader = Reader(pods, pod("p"))
    reader.look()
    for _ in range(100):
        pods.spawn(asyncio.sleep(0)).result()
    assert pods.given <= len(reader.seen) // len(chunk) + 2
    reader.until(lambda: len(reader.seen) == len(chunk) * 8)


def test_the_end_of_a_long_unread_output_is_kept_when_its_run_has_ended(pods):
    pods.logs["p"] = [[b"x" * UNREAD_BYTES] * 20 + [b"the end\n"]]
    reader = Reader(pods, pod("p"))
    reader.finish()
    assert reader.seen.endswith(b"the end\n")
    assert len(reader.seen) <= UNREAD_BYTES + KEPT_BYTES
    assert reader.position == 20 * UNREAD_BYTES + len(b"the end\n")


def test_the_last_lines_can_be_read_again_from_the_start(pods):
    pods.logs["p"] = [[b"all of it\n"]]
    reader = Reader(pods, pod("p"))
    reader.finish()
    again, position = reader.outputs.read(RUN, reader.state.view(RUN), 0)
    assert (again, position) == (b"all of it\n", 10)
