"""One damaged or foreign run hinders no command: each run is judged by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from databases import give_database
from projects import make_project

import kinetic
from kinetic_flows.cli import main
from kinetic_flows.clients.prefect.api import NewRun, PrefectApi
from kinetic_flows.clients.prefect.labels import (
    CACHED_FROM_LABEL,
    INDEX_LABEL,
    RUN_TAG,
    STORE_LABEL,
)
from kinetic_flows.core.job import RUN_KEY_VARIABLE
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.runs.reconcile import reconcile
from kinetic_flows.runs.session import own_session
from kinetic_flows.runs.settle import store_label

FUNCTIONS = """
    import kinetic

    @kinetic.run(requirements=[])
    def double(value):
        return 2 * value
"""

KEY = "ab" * 32


@pytest.fixture
def functions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
) -> Iterator[ModuleType]:
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    project = make_project(tmp_path / "project", monkeypatch, {"undamaged.py": FUNCTIONS})
    yield project.module("undamaged")
    sys.modules.pop("undamaged", None)


def _make(api: PrefectApi, labels: dict[str, Any], job_variables: dict[str, Any]) -> str:
    """Make a running flow run that looks like one of ours."""
    return api.create_run(
        NewRun(
            flow="double",
            name="damaged",
            parent_flow_run_id=None,
            parameters={},
            tags=(RUN_TAG,),
            labels=labels,
            job_variables=job_variables,
            state_type="RUNNING",
            state_name="Running",
        )
    )


def test_commands_work_amid_damaged_and_foreign_runs(
    functions: ModuleType,
    api: PrefectApi,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = tmp_path / "home"
    with own_session(NullProgress()) as session:
        here, platform = {STORE_LABEL: store_label(session.platform)}, session.platform
    keyless = _make(api, here, {"env": {RUN_KEY_VARIABLE: "not a key"}})
    emptied = _make(api, here, {"env": {RUN_KEY_VARIABLE: KEY}})
    listed = _make(api, here, {"env": [{"name": "A", "value": "1"}]})
    odd = {**here, CACHED_FROM_LABEL: 7, INDEX_LABEL: "first"}
    labelled = _make(api, odd, {"env": {RUN_KEY_VARIABLE: KEY}})
    blocked = _make(api, here, {"env": {RUN_KEY_VARIABLE: KEY}})
    _make(api, {}, {"env": 7})
    (home / "runs" / emptied).mkdir(parents=True)
    (home / "runs" / emptied / "process.json").touch()
    # What cannot even be opened stands for all that nobody thought of.
    (home / "runs" / blocked / "process.json").mkdir(parents=True)
    results = home / "store" / "runs" / keyless
    results.mkdir(parents=True)
    (results / "result.pkl").write_bytes(b"kinetic-result-1\nsignature\n{}\nbody")
    (home / "clients").mkdir(exist_ok=True)
    (home / "clients" / f"{keyless}.json").write_text("")

    assert functions.double(1) == 2
    for _ in range(2):
        reconcile(platform, api)
    states = {run_id: api.read_run(run_id).state_type for run_id in (keyless, emptied, listed)}
    assert set(states.values()) == {"CRASHED"}, "each got the state that could be found out"
    assert api.read_run(labelled).state_type == "CRASHED"
    assert api.read_run(blocked).state_type == "RUNNING", "what cannot be read is left"
    named = [record for record in caplog.records if blocked in record.getMessage()]
    assert len(named) == 1
    assert {run.id for run in kinetic.list_runs()} >= {keyless, emptied, listed, labelled, blocked}
    for command in (
        ["runs", "ls"],
        ["runs", "ls", "--json"],
        ["runs", "show", keyless],
        ["runs", "cleanup", "--dry-run", "--older-than-days", "0"],
        ["deployments", "ls"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0, command
    assert keyless in capsys.readouterr().out
    api.set_state(blocked, "CRASHED")


def test_a_call_that_lost_its_server_ends_soon_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
        import json, os, signal
        from pathlib import Path

        import kinetic
        import kinetic_flows.flows.prepare_tasks as steps
        from kinetic_flows.clients.prefect import server as servers

        # At the usual port, somebody else's server may answer once this one is gone.
        servers.PREFERRED_PORT = 0
        lock = steps.lock_draft

        def lock_without_server(*arguments, **options):
            home = Path(os.environ["KINETIC_HOME"])
            server = servers.BackgroundServer(home, os.environ).status()
            os.kill(server.process.pid, signal.SIGKILL)
            return lock(*arguments, **options)

        steps.lock_draft = lock_without_server

        @kinetic.run(requirements=[])
        def double(value):
            return 2 * value

        try:
            double(1)
        except kinetic.KineticError as error:
            print(type(error).__name__, error.message)
    """
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    project = make_project(tmp_path / "project", monkeypatch, {"losing.py": program})
    give_database(tmp_path / "home")
    done = project.python("losing.py", KINETIC_HOME=str(tmp_path / "home"), timeout_seconds=150)
    assert done.stdout.startswith("PrefectUnreachable the Prefect API at http://127.0.0.1"), (
        done.stdout + done.stderr
    )
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "Error logging to API" not in done.stderr
    assert "EventsWorker" not in done.stderr
    (owed,) = (tmp_path / "home" / "clients").iterdir()
    assert json.loads(owed.read_text())["state_type"] == "FAILED"
