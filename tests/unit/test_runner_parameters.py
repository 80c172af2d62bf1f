"""What the function of a deployment's run is called with, in the runner as it starts."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kinetic_flows.runner_image.runner.endings import State
from kinetic_flows.runner_image.runner.parameters import converted, with_parameters
from kinetic_flows.runner_image.runner.prefect_api import PrefectApi
from kinetic_flows.runner_image.runner.reporter import Reporter

from kinetic_flows.core.envelope import open_result
from kinetic_flows.core.job import EXIT_PARAMETERS_UNAVAILABLE, EXIT_PAYLOAD_UNREADABLE
from prefect_wire import serve
from runner_jobs import RUN_KEY, Job, wait

RUN_ID = str(UUID(int=7))


def plain(a: int, b: int = 2, *, c: int = 3) -> Any: ...
def positional(a: int, /, b: int = 2) -> Any: ...
def collecting(a: int, b: int = 2, *args: int, c: int = 3, **kwargs: int) -> Any: ...


@pytest.mark.parametrize(
    ("function", "args", "parameters", "called_with"),
    [
        (plain, (), {"a": 1}, ((1, 2), {"c": 3})),
        (plain, (), {"a": 1, "c": 5}, ((1, 2), {"c": 5})),
        (plain, ("self",), {"b": 7}, (("self", 7), {"c": 3})),
        (positional, (), {"a": 1}, ((1, 2), {})),
        (
            collecting,
            (),
            {"a": 1, "args": [8, 9], "kwargs": {"z": 0}},
            ((1, 2, 8, 9), {"c": 3, "z": 0}),
        ),
        (plain, (), {}, ((), {"b": 2, "c": 3})),
    ],
)
def test_parameters_become_arguments_by_name(
    function: Any, args: tuple[Any, ...], parameters: dict[str, Any], called_with: Any
) -> None:
    assert with_parameters(function, args, {}, parameters) == called_with


def test_values_are_what_their_annotations_say() -> None:
    assert converted("2026-01-02", date) == date(2026, 1, 2)
    assert converted("2026-01-02", "unknown") == "2026-01-02"
    assert converted("3", str) == "3"


def _start(job: Job, url: str, **variables: str) -> Any:
    """Start a job that was written before its run had an id, as a Prefect worker does."""
    job.changes = {
        "run_id": "",
        "result": "",
        "output_dir": str(job.root / "outputs"),
        "prefect": {"api_url": "", "flow_run_id": "", "parameters": True, "engine": False},
    }
    return wait(job.start(PREFECT__FLOW_RUN_ID=RUN_ID, PREFECT_API_URL=url, **variables))


SOURCE = """
    import os
    def main(rate: float, steps: int = 3):
        return rate, steps, os.environ["KINETIC_RUN_ID"], os.environ["KINETIC_OUTPUT_DIR"]
"""


def test_a_run_that_a_worker_started_is_called_with_its_parameters(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", source=SOURCE)
    with serve() as prefect:
        prefect.parameters = {"rate": 0.5}
        prefect.failures = {f"/api/flow_runs/{RUN_ID}": [503, 503]}
        ended = _start(job, prefect.url)
    assert ended.exit_code == 0, ended.output + ended.errors
    data = (job.root / "runs" / RUN_ID / "result.pkl").read_bytes()
    value = __import__("pickle").loads(open_result(data, RUN_KEY, RUN_ID).body)
    assert value == (0.5, 3, RUN_ID, str(job.root / "outputs" / RUN_ID))
    assert prefect.state_names == ["Running", "Completed"]
    assert {path.split("/")[3] for _, path, _ in prefect.requests if "flow_runs" in path} == {
        RUN_ID
    }


def test_phases_that_take_time_are_told_before_the_function_begins() -> None:
    with serve() as prefect:
        reporter = Reporter(PrefectApi(prefect.url, RUN_ID, {}), lambda: None, lambda _: None)
        reporter.start()
        reporter.set_state(State("RUNNING", "Running"))
        reporter.label({"kinetic.seconds.install": 12.5})
        reporter.finish(State("COMPLETED", "Completed"))
        assert prefect.labels == {"kinetic.seconds.install": 12.5}
        assert prefect.state_names == ["Running", "Completed"]


def test_a_server_that_takes_no_labels_gets_the_state_all_the_same() -> None:
    warnings: list[str] = []
    with serve() as prefect:
        prefect.failures = {f"/api/flow_runs/{RUN_ID}/labels": [404]}
        reporter = Reporter(PrefectApi(prefect.url, RUN_ID, {}), lambda: None, warnings.append)
        reporter.start()
        reporter.label({"kinetic.seconds.install": 12.5})
        reporter.finish(State("COMPLETED", "Completed"))
        assert prefect.state_names == ["Completed"]
    assert warnings == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [("tangerine-fox", "main(rate=0.5)"), ("the third try", "the third try")],
)
def test_a_run_that_has_no_name_but_prefects_gets_that_of_its_call(
    given: str, shown: str, tmp_path: Path
) -> None:
    job = Job(tmp_path / "store", source=SOURCE)
    with serve() as prefect:
        prefect.parameters, prefect.name, prefect.wants_csrf = {"rate": 0.5}, given, True
        ended = _start(job, prefect.url)
        assert prefect.name == shown
    assert ended.exit_code == 0, ended.output + ended.errors
    assert prefect.state_names == ["Running", "Completed"]


def test_a_run_whose_parameters_cannot_be_read_says_so(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", source=SOURCE)
    with serve() as prefect:
        prefect.wanted_authorization = "Bearer nobody-has-it"
        ended = _start(job, prefect.url)
    assert ended.exit_code == EXIT_PARAMETERS_UNAVAILABLE
    assert "parameters could not be read from Prefect: HTTP 401" in ended.output + ended.errors
    data = (job.root / "runs" / RUN_ID / "result.pkl").read_bytes()
    header = open_result(data, RUN_KEY, RUN_ID).header
    assert (header.status, header.exit_code) == ("crashed", EXIT_PARAMETERS_UNAVAILABLE)


def test_a_parameter_that_the_function_does_not_have_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", source=SOURCE)
    with serve() as prefect:
        prefect.parameters = {"rate": 0.5, "stepz": 4}
        ended = _start(job, prefect.url)
    assert ended.exit_code == EXIT_PAYLOAD_UNREADABLE
    assert "the run's parameters do not fit main: it has no parameter stepz" in ended.output
