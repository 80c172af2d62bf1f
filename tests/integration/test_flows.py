"""Runs in people's own flows, and flows that run remotely themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from prefect import flow, get_client, tags, task
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.futures import as_completed
from prefect.settings import PREFECT_API_URL, temporary_settings
from projects import make_project

import kinetic
from kinetic_flows.clients.prefect.api import RunQuery, connect
from kinetic_flows.core.errors import UsageError

FUNCTIONS = """
    import kinetic

    @kinetic.run
    def double(value):
        return 2 * value
"""

FLOWS = """
    from pathlib import Path

    import kinetic
    from prefect import flow, task

    @task(retries=1)
    def count(path):
        place = Path(path)
        place.write_text(place.read_text() + "t" if place.exists() else "t")
        if len(place.read_text()) < 2:
            raise ValueError("the task's first try")
        return len(place.read_text())

    @kinetic.run(requirements=["prefect>=3.8.8,<3.9", "fastapi<0.155"])
    @flow(retries=1)
    def pipeline(path, flow_path):
        counted = count(path)
        place = Path(flow_path)
        if not place.exists():
            place.touch()
            raise ValueError("the flow's first try")
        return counted

    if __name__ == "__main__":
        import sys
        print("value:", pipeline(sys.argv[1], sys.argv[2]))
"""


@pytest.fixture
def functions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[ModuleType]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    files = {"flow_functions.py": FUNCTIONS, "remote_flows.py": FLOWS}
    project = make_project(tmp_path / "project", monkeypatch, files)
    yield project.module("flow_functions")
    sys.modules.pop("flow_functions", None)
    sys.modules.pop("remote_flows", None)


def _children(api_url: str, parent: str) -> list[tuple[str, str]]:
    """Return the names and ids of the flow runs below one."""
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(
                {"parent_flow_run_id": {"any_": [parent]}}
            ),
            sort=FlowRunSort.NAME_ASC,
            limit=50,
        )
    return [(run.name, str(run.id)) for run in found]


@pytest.mark.usefixtures("place")
def test_runs_made_in_a_flow_are_below_it_and_give_it_futures(
    functions: ModuleType, prefect_api_url: str
) -> None:
    ids: dict[str, str] = {}

    @task
    def plus_one(value: int) -> int:
        return value + 1

    @flow
    def study() -> list[int]:
        from prefect.runtime import flow_run

        ids["study"] = str(flow_run.id)
        with tags("study-7"):
            called = functions.double(1)
            run = functions.double.submit(2)
            group = functions.double.map([3, 4])
        future = run.as_future()
        first = next(iter(as_completed([future]))).result()
        after = plus_one.submit(future, wait_for=[future])
        ids["group"] = group.id
        return [called, first, after.result(), *group.as_future().result()]

    with temporary_settings({PREFECT_API_URL: prefect_api_url}):
        assert study() == [2, 4, 5, 6, 8]
    children = _children(prefect_api_url, ids["study"])
    names = sorted(name for name, _ in children)
    assert names == ["double on cpu", "double(value=1)", "double(value=2)"]
    assert ids["group"] in {run_id for _, run_id in children}
    members = _children(prefect_api_url, ids["group"])
    assert [name for name, _ in members] == ["double(value=3)", "double(value=4)"]
    with connect(prefect_api_url) as api:
        tagged = {each.id for each in api.find_runs(RunQuery(tag="study-7"))}
    called = {run_id for _, run_id in (*children, *members)} - {ids["group"]}
    assert called <= tagged, "the functions' own runs, and not only the flow run above them"


@pytest.mark.usefixtures("place")
def test_a_flow_that_runs_remotely_shows_its_own_tasks_and_retries(
    functions: ModuleType, tmp_path: Path, prefect_api_url: str
) -> None:
    from importlib import import_module

    pipeline = import_module("remote_flows").pipeline
    run = pipeline.submit(str(tmp_path / "counted"), str(tmp_path / "seen"))
    assert run.result(timeout_seconds=300) == 3
    with connect(prefect_api_url) as api:
        record = api.read_run(run.id)
    assert record.state_type == "COMPLETED"
    wanted = TaskRunFilter.model_validate({"flow_run_id": {"any_": [run.id]}})
    with (
        temporary_settings({PREFECT_API_URL: prefect_api_url}),
        get_client(sync_client=True) as client,
    ):
        states = client.read_flow_run_states(UUID(run.id))
        for _ in range(200):
            tasks = client.read_task_runs(
                task_run_filter=wanted, sort=TaskRunSort.NAME_ASC, limit=50
            )
            counted = [each for each in tasks if each.name.startswith("count")]
            if len(counted) >= 2 and all(each.state_name == "Completed" for each in tasks):
                break
    assert {each.state_name for each in tasks} == {"Completed"}
    assert [each.name for each in tasks if each.name.startswith("count")]
    assert "AwaitingRetry" in {state.name for state in states}
    assert any("the task's first try" in line for line in run.logs())


def test_a_flow_in_a_script_runs_remotely(functions: ModuleType, tmp_path: Path) -> None:
    from projects import Project

    (tmp_path / "seen").touch()
    ended = Project(root=Path.cwd()).python(
        "remote_flows.py", str(tmp_path / "counted"), str(tmp_path / "seen"), timeout_seconds=300
    )
    assert ended.stdout.splitlines()[-1] == "value: 2", ended.stderr


def test_retries_of_a_flow_are_its_own() -> None:
    @flow
    def pipeline() -> None: ...

    with pytest.raises(UsageError, match=r"@flow\(retries=\.\.\.\)"):
        kinetic.run(retries=2)(pipeline)
