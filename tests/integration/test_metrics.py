"""What runs use, from outside: while they go on, afterwards, in a terminal and on their page."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from projects import make_project

import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.artifacts import RunArtifacts
from kinetic_flows.clients.prefect.flow_names import RUN_ARTIFACT
from kinetic_flows.core.run_page import WHAT_IT_USED
from terminals import Terminal

FUNCTIONS = """
    import os, time
    import kinetic

    @kinetic.run(capture_env_vars=["KINETIC_METRICS"])
    def measured(go, fails=False):
        block = bytearray(96 << 20)
        while not os.path.exists(go):
            sum(range(100_000))
            # Those who look need the CPUs as well.
            time.sleep(0.01)
        if fails:
            raise ValueError("as asked")
        return len(block)

    hosts = measured.with_options(hosts=2)
"""


@pytest.fixture
def functions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[ModuleType]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.setenv("KINETIC_METRICS", "0.2")
    project = make_project(tmp_path / "project", monkeypatch, {"measured_functions.py": FUNCTIONS})
    yield project.module("measured_functions")
    sys.modules.pop("measured_functions", None)


def read_by(run: kinetic.Run[int], hosts: int = 1) -> None:
    """Wait until the run's hosts have said what they use."""
    while True:
        metrics = run.metrics()
        if len(metrics.hosts) == hosts and all(len(each.readings) > 3 for each in metrics.hosts):
            return
        time.sleep(0.1)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints."""
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("place", ["cluster"], indirect=True)
@pytest.mark.usefixtures("place")
def test_what_a_run_uses_is_known_while_it_runs_and_afterwards(
    functions: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = functions.measured.submit(str(tmp_path / "go"))
    read_by(run)
    live = run.metrics().hosts[0]
    assert not live.has_ended
    assert live.memory_bytes is not None
    assert live.memory_bytes > 96 << 20
    lines = printed(capsys, "runs", "top", run.id).splitlines()
    assert lines[0].startswith("measured(go='")
    assert lines[1].split()[:3] == ["HOST", "CPUS", "MEMORY"]
    assert lines[2].split()[0] == "0"
    (tmp_path / "go").touch()
    assert run.result() == 96 << 20
    ended = run.metrics().hosts[0]
    assert ended.has_ended
    assert len(ended.readings) >= len(live.readings)
    shown = printed(capsys, "runs", "show", run.id)
    assert re.search(r"^ +used  \d.* CPUs; memory .*; over ", shown, re.MULTILINE)


def test_each_host_says_what_it_uses_and_it_is_drawn_on_the_runs_page(
    functions: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], api: PrefectApi
) -> None:
    run = functions.hosts.submit(str(tmp_path / "go"), fails=True)
    read_by(run, hosts=2)
    (told,) = json.loads(printed(capsys, "runs", "top", run.id, "--json"))
    assert [(host["host"], host["now"]["chips"]) for host in told["hosts"]] == [(0, []), (1, [])]
    (tmp_path / "go").touch()
    with pytest.raises(ValueError, match="as asked"):
        run.result()
    metrics = run.metrics()
    assert {row["host"] for row in metrics.rows()} == {0, 1}
    shown = printed(capsys, "runs", "show", run.id)
    assert "used  host 0: " in shown
    assert "host 1: " in shown
    section = what_it_used(api, run.id)
    assert re.search(r"CPUs .*, in the mean", section)
    assert "![What the run used, over time](data:image/svg+xml;base64," in section
    ElementTree.fromstring(metrics.hosts[0].picture)


def what_it_used(api: PrefectApi, run_id: str) -> str:
    """Return a section of the run's page, as soon as it is there."""
    while True:
        page = RunArtifacts(api).read_markdown(run_id, RUN_ARTIFACT)
        assert page is not None
        section = page.text.partition(f"## {WHAT_IT_USED}\n")[2].partition("\n## ")[0]
        if section:
            return section
        time.sleep(0.1)


def test_the_table_lives_in_a_terminal_until_the_run_is_over(
    functions: ModuleType, tmp_path: Path
) -> None:
    run = functions.measured.submit(str(tmp_path / "go"))
    command = [sys.executable, "-c", "from kinetic_flows.cli.main import main; main()"]
    command += ["runs", "top"]
    terminal = Terminal([*command, run.id, "--every-seconds", "0.5"], dict(os.environ))
    other = Terminal(command, dict(os.environ))
    try:
        terminal.until(r"Running .*\nHOST.*\n0 .*[▁-█]\n\n.*Ctrl-C to leave")
        other.until(rf"{run.id[:8]}.*(\n.*)*Ctrl-C to leave")
        other.press("\x03")
        other.end()
        (tmp_path / "go").touch()
        run.result()
        terminal.until("Completed ")
        terminal.end()
    finally:
        terminal.close()
        other.close()
