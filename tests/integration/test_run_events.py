"""Events of runs on a real Prefect server, and the automation of docs/prefect-ui.md."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from prefect_http import PREFECT
from projects import make_project

from kinetic_flows.clients.prefect.api import NewRun, connect
from kinetic_flows.clients.prefect.events import tell_event
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.runs import wait_events
from kinetic_flows.runs.wait_events import WaitEvents
from runner_jobs import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "prefect-ui.md"
NAME = "Tell of kinetic runs"


@contextmanager
def chat() -> Iterator[tuple[str, Queue[str]]]:
    """A chat whose webhook takes messages: its URL, and what was told there."""
    told: Queue[str] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", told
    finally:
        server.shutdown()
        server.server_close()


def recipe() -> str:
    """The page's script."""
    [script] = re.findall(r"```python\n(import os\n.*?)```", PAGE.read_text(), re.S)
    return script


@pytest.fixture
def automation(prefect_api_url: str) -> Iterator[None]:
    """Removes the automation afterwards: the server is shared."""
    yield
    wanted = {"automations": {"name": {"any_": [NAME]}}}
    found = PREFECT.post(f"{prefect_api_url}/automations/filter", json=wanted).json()
    assert found
    for each in found:
        PREFECT.delete(f"{prefect_api_url}/automations/{each['id']}").raise_for_status()


@pytest.mark.usefixtures("automation")
def test_a_chat_is_told_of_a_run_that_waits(
    prefect_api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_events, "LASTING_SECONDS", 0.0)
    with chat() as (url, told), connect(prefect_api_url) as api:
        monkeypatch.setenv("WEBHOOK_URL", url)
        exec(compile(recipe(), PAGE, "exec"), {})
        new = NewRun(
            flow="train",
            name="train(rate=0.1)",
            parent_flow_run_id=None,
            parameters={},
            tags=("kinetic",),
            labels={"kinetic.function": "train"},
            job_variables={},
        )
        run_id = api.create_run(new)
        session: Any = SimpleNamespace(api=api)
        events = WaitEvents(RunTicket(run_id=run_id, name="train", run_key=""), session)
        reason = "it waits in queue `gpus`, 3 runs before it"
        seen = Observation(phase=Phase.PENDING, reason=reason, cause="queue")
        events.take(seen, is_relayed=False)
        message = told.get(timeout=120)
    subject, body, link = message.splitlines()
    assert subject == "train(rate=0.1): kinetic.run.pending"
    assert body == reason
    assert link == f"{prefect_api_url.removesuffix('/api')}/runs/flow-run/{run_id}"


SOURCE = """
    import kinetic

    @kinetic.run
    def built_once():
        pass
"""


def names_of_events(api_url: str, run_ids: list[str]) -> list[tuple[str, str]]:
    """Return the runs and names of what was told of runs, in order."""
    wanted = {
        "resource": {"id": [f"prefect.flow-run.{run_id}" for run_id in run_ids]},
        "event": {"prefix": ["kinetic.run."]},
        "order": "ASC",
    }
    found = PREFECT.post(f"{api_url}/events/filter", json={"filter": wanted}).json()["events"]
    return [(each["resource"]["prefect.resource.id"][-36:], each["event"]) for each in found]


def test_a_build_is_told_once_and_of_a_warm_call_nothing_is(
    prefect_api_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    project = make_project(tmp_path / "project", monkeypatch, {"built_job.py": SOURCE})
    function = project.module("built_job").built_once
    cold = function.submit()
    cold.result()
    warm = function.submit()
    warm.result()
    run_ids = [cold.id, warm.id]
    with connect(prefect_api_url) as api:
        tell_event(api, warm.id, "pending")
    last = (warm.id, "kinetic.run.pending")
    wait_until(lambda: last in names_of_events(prefect_api_url, run_ids))
    assert names_of_events(prefect_api_url, run_ids) == [(cold.id, "kinetic.run.built"), last]
