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

from kinetic_flows.clients.kubernetes.client import KubernetesUnreachable, StreamBroken
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL
from kinetic_flows.platforms.gke.output import KEPT_BYTES, UNREAD_BYTES, PodOutputs
from kinetic_flows.platforms.gke.state import NamespaceState

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


def stamped(text: bytes) -> bytes:
    """Return output as nodes give it, every line with its time: a second after the one before."""
    lines = text.splitlines(keepends=True)
    return b"".join(b"2026-01-01T00:00:%02d.000000000Z " % n + each for n, each in enumerate(lines))


class ScriptedPods:
    """Stands in for a client: what each connection to each pod's log brings."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Any]] = {}
        self.given = 0
        self.queries: list[dict[str, str]] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def spawn(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    @asynccontextmanager
    async def open_stream(
        self, path: str, query: Any, *, silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.queries.append(query)
        scripts = self.logs[path.split("/")[-2]]
        script = scripts.pop(0) if scripts else KubernetesUnreachable("nothing more is scripted")
        if isinstance(script, Exception):
            raise script
        since = query.get("sinceTime", "").encode()[:19]
        yield self._play([each for each in script if not _is_before(each, since)])

    async def _play(self, script: list[Any]) -> AsyncIterator[bytes]:
        for each in script:
            if isinstance(each, Exception):
                raise each
            self.given += 1
            yield each


def _is_before(part: Any, since: bytes) -> bool:
    return isinstance(part, bytes) and part[:19] < since


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def pods() -> Iterator[ScriptedPods]:
    scripted = ScriptedPods()
    yield scripted
    scripted.spawn(_end_others()).result()
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


def parts(text: bytes) -> list[bytes]:
    return [each + b"\n" for each in stamped(text).split(b"\n")[:-1]]


def test_a_connection_that_breaks_loses_and_repeats_nothing(pods):
    one, two, three = parts(b"one\ntwo\nthree\n")
    pods.logs["p"] = [[one, two[:-2], StreamBroken("reset")], [one, two, three]]
    reader = Reader(pods, pod("p"))
    reader.until(lambda: reader.seen == b"one\ntwo\nthree\n")
    assert pods.queries[1]["sinceTime"] == "2026-01-01T00:00:00Z"


def test_an_outage_while_the_pod_runs_is_waited_out(pods):
    one, two = parts(b"one\ntwo\n")
    gone = [KubernetesUnreachable("no route") for _ in range(2)]
    pods.logs["p"] = [[one, StreamBroken("reset")], *gone, [one, two]]
    reader = Reader(pods, pod("p"))
    reader.until(lambda: reader.seen == b"one\ntwo\n")


def test_a_clean_end_while_the_pod_runs_is_not_the_end_of_its_output(pods):
    one, two, three = parts(b"one\ntwo\nthree\n")
    pods.logs["p"] = [[one, two], [one, two], [one, two, three]]
    reader = Reader(pods, pod("p"))
    reader.until(lambda: reader.seen == b"one\ntwo\nthree\n")
    assert not pods.logs["p"]


def test_the_output_of_a_pod_that_is_known_to_have_ended_is_asked_for_once(pods):
    pods.logs["p"] = [[stamped(b"all\n")]]
    reader = Reader(pods, with_an_end(pod("p", "Succeeded")))
    reader.finish()
    assert reader.seen == b"all\n"
    assert len(pods.queries) == 1


def test_what_a_pod_printed_while_its_kubelet_was_restarted_is_not_lost_with_its_end(pods):
    one, two = parts(b"one\ntwo\n")
    pods.logs["p"] = [[one], [one, two]]
    reader = Reader(pods, pod("p"))
    reader.until(lambda: reader.seen == b"one\n")
    reader.state.put("pods", with_an_end(pod("p", "Succeeded")))
    reader.finish()
    assert reader.seen == b"one\ntwo\n"


def test_each_pod_of_a_restarted_run_is_read_once_in_their_order(pods):
    pods.logs = {"p": [[stamped(b"first\n")]], "pp": [[stamped(b"second\n")]]}
    reader = Reader(pods, pod("pp", "Succeeded"), pod("p", "Failed"))
    reader.state.put("pods", with_an_end(pod("p", "Failed")))
    reader.state.put("pods", with_an_end(pod("pp", "Succeeded")))
    reader.until(lambda: reader.seen == b"first\nsecond\n")


def with_an_end(item: dict[str, Any]) -> dict[str, Any]:
    item["status"]["containerStatuses"] = [{"state": {"terminated": {"exitCode": 0}}}]
    return item


def test_of_a_slice_only_the_first_hosts_output_is_read(pods):
    pods.logs = {"ppp": [[stamped(b"host 0\n")]]}
    ended = [
        with_an_end(pod(uid, "Succeeded", host=host)) for uid, host in (("p", "1"), ("ppp", "0"))
    ]
    reader = Reader(pods, *ended)
    reader.until(lambda: reader.seen == b"host 0\n")


def test_reading_pauses_while_nobody_looks_and_goes_on_then(pods):
    chunk = b"x" * (UNREAD_BYTES // 2) + b"\n"
    pods.logs["p"] = [parts(chunk * 8)]
    reader = Reader(pods, pod("p"))
    reader.look()
    for _ in range(100):
        pods.spawn(asyncio.sleep(0)).result()
    assert pods.given <= len(reader.seen) // len(chunk) + 2
    reader.until(lambda: len(reader.seen) == len(chunk) * 8)


def test_the_end_of_a_long_unread_output_is_kept_when_its_run_has_ended(pods):
    long_line = b"x" * UNREAD_BYTES + b"\n"
    pods.logs["p"] = [parts(long_line * 20 + b"the end\n")]
    reader = Reader(pods, with_an_end(pod("p", "Succeeded")))
    reader.finish()
    assert reader.seen.endswith(b"the end\n")
    assert len(reader.seen) <= UNREAD_BYTES + KEPT_BYTES
    assert reader.position == 20 * len(long_line) + len(b"the end\n")


def test_the_last_lines_can_be_read_again_from_the_start(pods):
    pods.logs["p"] = [[stamped(b"all of it\n")]]
    reader = Reader(pods, with_an_end(pod("p", "Succeeded")))
    reader.finish()
    again, position = reader.outputs.read(RUN, reader.state.view(RUN), 0)
    assert (again, position) == (b"all of it\n", 10)
