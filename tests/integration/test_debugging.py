"""`debug=True` with a real debugger, on hosts of this machine and in a pod."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from projects import Project, make_project

from dap import DebugClient
from kinetic_flows.core.errors import UsageError
from loopback.quick_cloud import QuickCloud
from runner_jobs import wait_until

FUNCTIONS = """
    import kinetic

    @kinetic.run(debug=True, cache_for=True)
    def doubled(value):
        result = 2 * value
        return result
"""
LINE = 6


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[Project]:
    monkeypatch.setenv("PREFECT_API_URL", prefect_api_url)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    project = make_project(tmp_path / "project", monkeypatch, {"watched_functions.py": FUNCTIONS})
    yield project
    sys.modules.pop("watched_functions", None)


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("watched_functions")


class Called:
    """A call in a thread of its own, and what it prints; a test that fails leaves it behind.

    Args:
        capsys: Takes what is printed.
        function: The function.
        value: What it is called with.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str], function: Any, value: int) -> None:
        self._capsys = capsys
        self.text = ""
        self._future: Future[int] = Future()
        threading.Thread(target=self._call, args=(function, value), daemon=True).start()

    def _call(self, function: Any, value: int) -> None:
        try:
            self._future.set_result(function(value))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._future.set_exception(error)

    def configurations(self) -> list[dict[str, Any]]:
        """Return the entries for an editor, as soon as the terminal shows them."""
        wait_until(lambda: self._future.done() or self.has("remote project path ."), seconds=30)
        assert not self._future.done(), self.text
        found = re.findall(r'^  (\{"name": .*"pathMappings".*\}),?$', self.text, re.MULTILINE)
        return [json.loads(text) for text in found]

    def result(self) -> int:
        """Return what it has returned."""
        return self._future.result(timeout=60)

    def has(self, text: str) -> bool:
        """Whether a text was printed so far."""
        self.text += self._capsys.readouterr().err
        return text in self.text


def test_an_editor_attaches_to_a_pod_as_the_terminal_says_and_stops_at_a_line_of_the_project(
    functions: ModuleType,
    project: Project,
    quick_cloud: QuickCloud,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    file, call = project.root / "watched_functions.py", Called(capsys, functions.doubled, 21)
    (configuration,) = call.configurations()
    with DebugClient(configuration["connect"]["port"]) as client:
        assert client.attach(configuration, file, LINE)
        thread, frame = client.stopped_frame()
        assert (frame["source"]["path"], frame["line"]) == (str(file), LINE)
        assert client.evaluate(frame, "result") == "42"
        client.ask("setExpression", expression="result", value="43", frameId=frame["id"])
        client.ask("continue", threadId=thread)
        assert call.result() == 43
    assert call.has("a debugger is attached after")
    assert call.has("cache_for does nothing with debug=True")


def test_each_host_waits_on_a_port_of_its_own_and_goes_on_alone(
    functions: ModuleType, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.root / "watched_functions.py"
    call = Called(capsys, functions.doubled.with_options(hosts=2), 2)
    found = call.configurations()
    names = [each["name"] for each in found]
    assert names == ["kinetic: doubled, host 0", "kinetic: doubled, host 1"]
    for configuration in found:
        with DebugClient(configuration["connect"]["port"]) as client:
            client.attach(configuration, file, LINE)
            thread, frame = client.stopped_frame()
            client.ask("setExpression", expression="result", value="5", frameId=frame["id"])
            client.ask("continue", threadId=thread)
    assert call.result() == 5
    assert call.has(f'"configurations": {json.dumps(names)}')


def test_sweeps_and_deployments_are_not_debugged(functions: ModuleType) -> None:
    with pytest.raises(UsageError, match="map makes one run for each input: each would wait"):
        functions.doubled.map([1, 2])
    with pytest.raises(UsageError, match="deploy makes runs that nobody waits for") as failure:
        functions.doubled.deploy("nightly")
    assert "with_options(debug=False).deploy(...)" in str(failure.value.hint)
