"""Runs whose processes cannot reach the Prefect API: their client tells of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from prefect_http import PREFECT
from projects import make_project

from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import load_settings
from kinetic_flows.core.streams import STDOUT_LOGGER
from kinetic_flows.flows.run import execute
from kinetic_flows.plans.draft import Call, draft_call
from kinetic_flows.platforms.local.platform import LocalPlatform
from kinetic_flows.platforms.local.processes import LocalProcesses
from kinetic_flows.runs.results import unpack_result
from kinetic_flows.runs.session import open_session

SOURCE = """
    import time
    import kinetic

    @kinetic.run
    def train(steps):
        for number in range(steps):
            print("step", number, flush=True)
            time.sleep(0.5)
        return steps
"""


class OutOfReach(LocalProcesses):
    """Processes on a machine that has no way to the API."""

    def reaches(self, url: str) -> bool:
        return False


def test_states_and_output_are_in_prefect_all_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    project = make_project(tmp_path / "project", monkeypatch, {"mirrored_job.py": SOURCE})
    train = project.module("mirrored_job").train
    settings, environ = load_settings(), dict(os.environ)
    platform = LocalPlatform(settings.home, environ)
    platform.launcher = OutOfReach(settings.home / "runs", platform.registry.python, environ)
    call = Call(function=train.fn, args=(4,), kwargs={}, options=train.options)
    draft = draft_call(call, settings, platform, cwd=Path.cwd(), sys_path=sys.path, environ=environ)
    with open_session(settings, environ, NullProgress(), platform) as session:
        launched = execute(draft, session, wait=True)
        assert launched.envelope is not None
        assert unpack_result(launched.envelope, launched.ticket) == 4
        run_id = launched.ticket.run_id
        logged = session.api.logs(run_id)
    lines = [line.message for line in logged if line.logger == STDOUT_LOGGER]
    assert lines == [f"step {number}" for number in range(4)]
    asked = {"flow_run_id": run_id}
    states = PREFECT.get(f"{prefect_api_url}/flow_run_states/", params=asked).json()
    names = [each["name"] for each in sorted(states, key=lambda each: each["timestamp"])]
    assert (names[0], names[-2:]) == ("Preparing", ["Running", "Completed"])
