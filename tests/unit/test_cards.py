"""What handles show of themselves in a REPL and in a notebook, asking nobody."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kinetic_flows.api import run as run_module
from kinetic_flows.api.deployment import Deployment
from kinetic_flows.api.run import Run
from kinetic_flows.api.run_group import RunGroup
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.cards import Card
from kinetic_flows.core.job import RunTicket
from kinetic_flows.runs.group import GroupState, MapItem

URL = "http://127.0.0.1:4200/runs/flow-run/run-1"
EVIL = "train(<script>alert(1)</script>)\x1b[2J"
RUN: Run[Any] = Run(ticket=RunTicket(run_id="run-1", name=EVIL, run_key="secret"), url=URL)


def test_a_run_shows_a_few_lines_and_nothing_that_is_secret() -> None:
    shown = repr(RUN)
    assert shown == f"<Run train(<script>alert(1)</script>)\\x1b[2J\n  id: run-1\n  page: {URL}>"
    page = RUN._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert f"<a href='{URL}'>{URL}</a>" in page
    assert "secret" not in shown + page


@pytest.mark.parametrize(("name", "stays"), [("Running", False), ("Completed", True)])
def test_a_run_shows_the_state_that_was_seen_last(name: str, stays: bool) -> None:
    run = pickle.loads(pickle.dumps(RUN))
    record = RunRecord(
        id="run-1",
        name="train",
        state_type=name.upper(),
        state_name=name,
        message="",
        created=datetime.now(UTC),
    )
    run_module._remember_state(run, record)
    assert f"state: {name}" in repr(run)
    assert ("`run.state` asks again" in repr(run)) is not stays


class Source:
    """A group whose state a test makes."""

    def __init__(self) -> None:
        self.state = GroupState()

    def wait(self, seconds: float) -> None: ...

    def cancel(self) -> None: ...

    def abandon(self) -> None: ...


def test_a_group_shows_how_far_it_is() -> None:
    source = Source()
    for index in range(3):
        source.state.put(MapItem(index=index, state="Running", state_type="RUNNING"))
    source.state.end(MapItem(index=0, state="Completed", state_type="COMPLETED"))
    group: RunGroup[Any] = RunGroup(id="group-1", name="train", url=URL, source=source, cloud={})
    assert "inputs: 1 of 3 launched have ended" in repr(group)
    assert "states: 2 Running, 1 Completed" in repr(group)
    assert "<progress value='1' max='3'>" in group._repr_html_()


DEPLOYMENT: Deployment[Any] = Deployment(
    id="1",
    name="train/nightly",
    url=URL,
    change="created",
    image="r/i@sha256:0",
    work_pool="kinetic",
    worker_type="kubernetes",
    schedules=("0 2 * * *",),
    paused=True,
    parameters={"rate": 0.1},
    parameter_schema={},
    tags=(),
    concurrency_limit=None,
)


def test_a_deployment_is_shown_in_a_few_lines() -> None:
    assert repr(DEPLOYMENT) == (
        "<Deployment train/nightly: 0 2 * * *, paused\n"
        "  work pool kinetic, image r/i@sha256:0\n"
        f"  {URL}>"
    )
    assert "on demand" in repr(replace(DEPLOYMENT, schedules=()))


def test_a_deployment_shows_when_it_runs_and_what_starts_its_runs() -> None:
    shown = DEPLOYMENT._repr_html_()
    assert "<td style='text-align:left'>0 2 * * * (paused)</td>" in shown
    assert "rate=0.1" in shown
    assert "kinetic worker start kinetic" in shown
    assert "<td style='text-align:left'>r/i@sha256:0</td>" in shown
    assert "schedules" not in replace(DEPLOYMENT, schedules=(), paused=False)._repr_html_()


def test_what_is_long_is_folded_away_and_is_text() -> None:
    page = Card(kind="RunPlan", title="f", details="<b>all</b> of it").html()
    assert "<details><summary>more</summary><pre>&lt;b&gt;all&lt;/b&gt; of it</pre>" in page
