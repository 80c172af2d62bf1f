"""Calls amid what people have set and made in Prefect for flows of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import Project, make_project

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery

FUNCTIONS = """
    import os, time
    from pathlib import Path

    import kinetic

    @kinetic.run(requirements=[])
    def fail(path):
        with open(path, "a") as seen:
            seen.write("called ")
        raise ValueError("as it is")

    @kinetic.run(requirements=[])
    def double(value):
        return 2 * value
"""

FAILING = """
    import sys

    from around import double, fail

    assert double(1) == double(1) == 2
    try:
        fail(sys.argv[1])
    except ValueError:
        print("failed once")
"""

IN_PROCESSES = """
    import os, sys, threading
    from pathlib import Path

    import kinetic
    from prefect import flow, task
    from prefect.task_runners import ProcessPoolTaskRunner

    @kinetic.run(requirements=[])
    def where(value):
        return value, os.environ.get("KINETIC_RUN_ID", "here")

    @task
    def ask(value):
        return where(value)

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def pooled():
        return ask.submit(1).result()

    @flow
    def served(path: str):
        value, place = where(2)
        Path(path).write_text(f"{value} {place}")

    def start(path):
        from prefect.deployments import run_deployment
        from prefect.exceptions import ObjectNotFound

        while True:
            try:
                run = run_deployment("served/here", parameters={"path": path}, poll_interval=0.5)
            except ObjectNotFound:
                continue
            print("served:", run.state.name, flush=True)
            os._exit(0)

    if __name__ == "__main__":
        print("pooled:", *pooled())
        threading.Thread(target=start, args=sys.argv[1:], daemon=True).start()
        served.serve("here")
"""

THEIR_DEFAULTS = {
    "PREFECT_FLOWS_DEFAULT_RETRIES": "2",
    "PREFECT_TASKS_DEFAULT_RETRIES": "2",
    "PREFECT_TASKS_DEFAULT_PERSIST_RESULT": "true",
    "PREFECT_TASKS_DISABLE_CACHING": "true",
    "PREFECT_TASKS_REFRESH_CACHE": "true",
    "PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS": "1",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK": "local-file-system/nobody-has-made-it",
    "PREFECT_LOGGING_LOG_PRINTS": "true",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "error",
}


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    files = {"around.py": FUNCTIONS, "failing.py": FAILING, "processes.py": IN_PROCESSES}
    return make_project(tmp_path / "project", monkeypatch, files)


def test_prefects_defaults_for_peoples_flows_do_not_reach_ours(
    project: Project, api: PrefectApi, tmp_path: Path, shared_kinetic_home: Path
) -> None:
    kept = shared_kinetic_home / "store" / "results"
    project.python("-c", "from around import double; double(0)")
    before = {path.name for path in kept.iterdir()}
    done = project.python(
        "failing.py", str(tmp_path / "seen"), KINETIC_PROGRESS="verbose", **THEIR_DEFAULTS
    )
    assert done.stdout.endswith("failed once\n"), done.stdout + done.stderr
    assert (tmp_path / "seen").read_text() == "called "
    # Nothing is kept but what build was made: no values, no exceptions with keys of runs.
    assert {path.name for path in kept.iterdir()} == before
    assert all(path.name.startswith("kinetic-") for path in kept.iterdir())
    assert "cached)" in done.stderr
    (run,) = api.find_runs(RunQuery(function="double"), limit=1)
    assert any("package (" in line.message for line in api.logs(run.id))


def test_a_scripts_functions_run_remotely_from_processes_that_prefect_starts(
    project: Project, tmp_path: Path
) -> None:
    done = project.python("processes.py", str(tmp_path / "said"), PREFECT_RUNNER_POLL_FREQUENCY="1")
    assert done.returncode == 0, done.stdout + done.stderr
    pooled = next(line for line in done.stdout.splitlines() if line.startswith("pooled: "))
    value, place = pooled.removeprefix("pooled: ").split()
    assert value == "1"
    assert place != "here"
    assert "served: Completed" in done.stdout
    value, place = (tmp_path / "said").read_text().split()
    assert value == "2"
    assert place != "here"
