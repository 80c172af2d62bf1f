"""The commands `kinetic run` and `kinetic runs`, through a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import Project, make_project

from kinetic_flows.cli.main import main
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import time
    from pathlib import Path

    import kinetic

    @kinetic.run
    def divide(left: float, right: float = 2.0):
        print(f"dividing {left} by {right}")
        return left / right

    @kinetic.run
    def steps(path: str, count: int):
        for number in range(count):
            print(f"step {number}", flush=True)
            while not Path(f"{path}.{number}").exists():
                time.sleep(0.02)
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_kinetic_home: Path
) -> Iterator[Project]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    yield make_project(tmp_path / "project", monkeypatch, {"cli_functions.py": FUNCTIONS})
    sys.modules.pop("cli_functions", None)


@pytest.fixture
def command(project: Project, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


def _until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _json(shown: tuple[int, str, str]) -> Any:
    code, out, err = shown
    assert code == 0, err
    return json.loads(out)


@pytest.mark.usefixtures("place")
def test_a_function_is_called_detached_looked_at_repeated_and_cancelled(
    command: Command, prefect_api_url: str, tmp_path: Path
) -> None:
    code, out, _ = command("run", "cli_functions.py:divide", "--left", "9")
    assert (code, out) == (0, "dividing 9.0 by 2.0\n4.5\n")
    assert _json(command("run", "cli_functions.py:divide", "8", "--json"))["result"] == 4.0
    code, out, err = command("run", "--json", "cli_functions.py:divide", "1", "--right=0")
    told = json.loads(out)["error"]
    assert (code, told["type"], told["exit_code"]) == (21, "ZeroDivisionError", 21)
    assert "line 9, in divide" in told["traceback"]
    assert "dividing 1.0 by 0.0" in err
    run = _json(command("run", "--detach", "--json", "cli_functions.py:divide", "1", "--right=0"))
    code, _, err = command("runs", "result", run["id"])
    assert code == 21
    assert err.startswith("kinetic: the function raised ZeroDivisionError: float division by zero")
    assert "line 9, in divide" in err
    shown = _json(command("runs", "show", run["id"][:20], "--json"))
    assert (shown["state"], shown["arguments"]) == ("Failed", {"left": "1.0", "right": "0.0"})
    assert f"{run['id']}" in command("runs", "show", run["url"])[1]
    code, out, err = command("runs", "logs", run["id"], "--tail", "1")
    assert (out, err) == ("", "ZeroDivisionError: float division by zero\n")
    again = _json(command("runs", "retry", run["id"], "--json"))
    assert _json(command("runs", "show", again["id"], "--json"))["retry_of"] == run["id"]
    code, out, _ = command("runs", "ls", "--name", "divide", "--since", "1h")
    titles = ["RUN", "NAME", "ON", "STATE", "WHO", "WHEN", "AT", "TOOK"]
    assert out.splitlines()[0].split() == titles
    assert f"{run['id'][:8]}  divide(left=1.0, right=0.0)" in out
    code, out, _ = command("runs", "show", run["id"][:8])
    assert f"retried as  {again['id']}" in out
    assert "state  Failed: ZeroDivisionError: float division by zero" in out
    assert "called by  " in out
    mine = command("runs", "ls", "--mine", "--function", "divide", "--tag", "cpu", "--json")[1]
    assert {run["id"], again["id"]} <= {each["id"] for each in json.loads(mine)}
    assert json.loads(command("runs", "ls", "--function", "divid", "--json")[1]) == []
    waiting = _json(
        command("run", "cli_functions.py:steps", str(tmp_path / "x"), "1", "--detach", "--json")
    )
    assert _json(command("runs", "cancel", waiting["id"], "--json"))["state"] == "Cancelled"
    listed = command("runs", "ls", "--state", "cancelled", "--jsonl")[1].splitlines()
    assert waiting["id"] in {json.loads(line)["id"] for line in listed}
    done = _json(command("run", "--detach", "--json", "cli_functions.py:divide", "6"))
    assert _json(command("runs", "result", done["id"], "--json"))["result"] == 3.0
    told = _json(command("runs", "logs", done["id"], "--json"))
    assert told == [{"line": "dividing 6.0 by 2.0", "stream": "stdout"}]
    lines = command("runs", "logs", done["id"], "--follow", "--jsonl")[1].splitlines()
    assert [json.loads(line) for line in lines] == told
    assert done["id"] in {each["id"] for each in _json(command("runs", "ls", "--json"))}
    cleaned = _json(command("runs", "cleanup", "--older-than-days", "0", "--dry-run", "--json"))
    assert {run["id"], done["id"]} <= set(cleaned["runs"])
    assert cleaned["removed"] is False


def test_runs_of_different_platforms_are_compared_and_those_of_one_taken_apart(
    project: Project,
    command: Command,
    prefect_api_url: str,
    quick_cloud: QuickCloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = ("run", "cli_functions.py:divide", "--left", "9", "--json")
    here = _json(command(*call))["id"]
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    changed = FUNCTIONS.replace("return left / right", "return left * right")
    project.write({"cli_functions.py": changed, "added.py": "x = 1\n"})
    sys.modules.pop("cli_functions", None)
    there = _json(command(*call))["id"]

    told = _json(command("runs", "diff", here, there, "--json"))
    assert [(each["path"], each["kind"]) for each in told["files"]] == [
        ("added.py", "added"),
        ("cli_functions.py", "changed"),
    ]
    caller = [each for each in told["differences"] if each["name"] == "platform"]
    assert [(each["before"], each["after"]) for each in caller] == [("local", "gke")]
    assert {"arguments", "options"} <= set(told["same"])
    code, _, err = command("runs", "bisect", here, there, "--yes")
    assert (code, "runs of two platforms can be compared by `kinetic runs diff`" in err) == (
        3,
        True,
    )

    project.write({"cli_functions.py": FUNCTIONS})
    sys.modules.pop("cli_functions", None)
    before = _json(command(*call))["id"]
    found = _json(command("runs", "bisect", before, there, "--yes", "--json"))
    assert [each["name"] for each in found["found"]] == ["cli_functions.py"]
    assert {each["verdict"] for each in found["replays"]} == {"good", "bad"}


def test_ctrl_c_cancels_a_call_whose_value_is_wanted_as_a_document(
    project: Project, command: Command, prefect_api_url: str, tmp_path: Path
) -> None:
    kinetic_command = str(Path(sys.executable).with_name("kinetic"))
    words = ["run", "cli_functions.py:steps", str(tmp_path / "x"), "1", "--json"]
    call = subprocess.Popen(
        [kinetic_command, *words],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert call.stderr is not None
    shown = iter(call.stderr.readline, "")
    assert any("step 0" in line for line in shown)
    call.send_signal(signal.SIGINT)
    out, err = call.communicate(timeout=60)
    assert (call.returncode, out) == (130, "")
    assert "was cancelled" in err
    assert "Traceback" not in err
    (newest,) = _json(command("runs", "ls", "--name", "steps", "--limit", "1", "--json"))
    assert newest["state"] == "Cancelled"


def test_bad_arguments_are_refused_with_a_hint(command: Command, prefect_api_url: str) -> None:
    code, _, err = command("run", "cli_functions.py:divide", "--left", "nine")
    assert (code, "do not fit divide" in err) == (2, True)
    code, _, err = command("runs", "ls", "--state", "runing")
    assert (code, "did you mean 'running'" in err) == (2, True)
    code, _, err = command("runs", "ls", "--since", "yesterday")
    assert (code, "30m, 2h, 7d" in err) == (2, True)
    code, _, err = command("runs", "show", "0000")
    assert (code, "no run's id starts or ends" in err) == (2, True)
