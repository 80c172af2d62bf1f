"""`kinetic runs bisect`: mixtures of two real runs, until a change is named."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import Project, make_project

import kinetic
from kinetic_flows.cli.main import main

MAIN = """
    import sys
    import time
    from importlib.metadata import version
    from pathlib import Path

    import kinetic
    import bisect_data
    import bisect_scale

    @kinetic.run
    def bisect_train(rate: float, marker: str = "", holds: str = ""):
        while holds and Path(holds).exists():
            time.sleep(0.02)
        loss = rate * bisect_scale.SCALE + bisect_data.OFFSET
        told = Path(marker).read_text() if marker else "0"
        return {"loss": loss, "six": int(version("six")[2:4]), "marker": float(told)}

    @kinetic.run
    def bisect_strict(rate: float):
        return bisect_scale.checked(rate)
"""
SCALE = """
    SCALE = 2

    def checked(rate):
        return rate
"""
BEFORE = {
    "bisect_main.py": MAIN,
    "bisect_scale.py": SCALE,
    "bisect_data.py": "OFFSET = 0\n",
    "bisect_old.py": "",
    "requirements.txt": "six==1.16.0\niniconfig==2.0.0\n",
}
AFTER = {
    "bisect_main.py": MAIN + "\n    NEW = 1\n",
    "bisect_scale.py": SCALE.replace("SCALE = 2", "SCALE = 5").replace(
        "return rate", "raise ValueError(rate)"
    ),
    "bisect_data.py": "OFFSET = 0  # as before\n",
    "bisect_new.py": "x = 1\n",
    "requirements.txt": "six==1.17.0\niniconfig==2.1.0\n",
}

CHANGED = (
    "bisect_new.py, bisect_data.py, bisect_main.py, bisect_scale.py, requirements.txt, "
    "bisect_old.py"
)
"""New files first, then what uses them, gone ones last."""

Command = Callable[..., tuple[int, str, str]]
Call = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_kinetic_home: Path) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    return make_project(tmp_path / "project", monkeypatch, BEFORE)


@pytest.fixture
def command(project: Project, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        for name in [each for each in sys.modules if each.startswith("bisect_")]:
            del sys.modules[name]
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


@pytest.fixture
def called(command: Command) -> Call:
    def call(function: str, *arguments: str, fails: bool = False) -> str:
        code, out, err = command(
            "run", f"bisect_main.py:{function}", *arguments, "--detach", "--json"
        )
        assert code == 0, err
        run_id: str = json.loads(out)["id"]
        assert command("runs", "result", run_id)[0] == (21 if fails else 0)
        return run_id

    return call


def _change(project: Project, *names: str) -> None:
    project.write({name: AFTER[name] for name in names or AFTER})
    if not names:
        (project.root / "bisect_old.py").unlink()


def _bisected(command: Command, *arguments: str) -> Any:
    code, out, err = command("runs", "bisect", *arguments, "--yes", "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.usefixtures("prefect_api_url")
def test_the_file_or_package_is_named_that_moved_a_value_and_nothing_is_run_twice(
    project: Project, command: Command, called: Call, tmp_path: Path
) -> None:
    holds, marker = tmp_path / "holds", tmp_path / "marker"
    marker.write_text("1")
    arguments = ("0.1", "--holds", str(holds), "--marker", str(marker))
    good = called("bisect_train", *arguments)
    marker.write_text("2")
    _change(project)
    bad = called("bisect_train", *arguments)
    loss = ("runs", "bisect", good, bad, "--metric", "loss")

    code, out, err = command(*loss, "--dry-run")
    assert (code, out) == (0, "")
    assert err.splitlines()[:3] == [
        f"loss: 0.2 in {good[:8]} (good), 0.5 in {bad[:8]} (bad)",
        "packages  2 changes: iniconfig 2.0.0 → 2.1.0, six 1.16.0 → 1.17.0",
        f"    code  6 changes: {CHANGED}",
    ]
    assert err.splitlines()[3].startswith("at most 5 runs on cpu, each as long as one of the two (")
    for options, words in (
        ((), "nothing was started: it has to be confirmed"),
        (("--seconds",), "--metric and --seconds do not go together"),
        (("--repeats", "0"), "--repeats"),
        (("--noise", "-1"), "--noise"),
    ):
        code, out, err = command(*loss, *options)
        assert (code, out, words in err) == (2, "", True), err

    holds.touch()
    cancelled = _interrupted(*loss, "--yes")
    assert cancelled.state == "Cancelled"
    holds.unlink()

    code, out, err = command(*loss, "--yes")
    assert code == 0, err
    assert out.splitlines()[:2] == [
        "it is bisect_scale.py (code)",
        "loss: 0.2 before it, 0.5 with it, on top of the 5 changes before it",
    ]
    assert "-SCALE = 2\n+SCALE = 5\n" in out
    assert "--- a/bisect_data.py" not in out
    told = _bisected(command, *loss[2:], "--lower-is-better")
    assert [each["name"] for each in told["found"]] == ["bisect_scale.py"]
    assert len(told["replays"]) <= told["most_runs"] == 5
    ids = [run_id for each in told["replays"] for run_id in each["runs"]]
    assert all(f"{run_id[:8]}  " in err for run_id in ids)
    assert cancelled.id not in ids
    mixture = kinetic.attach(ids[0])
    assert mixture.function == "bisect_train"
    assert mixture.diff(bad).of("arguments") == ()

    # What was run for one value is not run again for another.
    six = _bisected(command, good, bad, "--metric", "six", "--lower-is-better")
    assert [each["shown"] for each in six["found"]] == ["six 1.16.0 → 1.17.0"]
    assert {run_id for each in six["replays"] for run_id in each["runs"]} & set(ids)

    # What the function reads from elsewhere is no change of these.
    code, out, err = command("runs", "bisect", good, bad, "--metric", "marker", "--yes")
    assert code == 1
    assert f"it is none of these changes: the good run {good[:8]} came to 1, and run again" in out
    assert ") to 2\n" in out
    assert not [line for line in err.splitlines() if line.endswith(" ...")], "nothing was started"
    code, _, err = command("runs", "bisect", good, good, "--metric", "marker")
    assert (code, f"nothing differs between {good} and {good}" in err) == (2, True)


def _interrupted(*words: str) -> kinetic.Run[Any]:
    """Press Ctrl-C while a mixture runs, and return its run."""
    program = str(Path(sys.executable).with_name("kinetic"))
    search = subprocess.Popen([program, *words], stderr=subprocess.PIPE, text=True)
    assert search.stderr is not None
    line = next(each for each in search.stderr if each.endswith(" ...\n"))
    search.send_signal(signal.SIGINT)
    search.communicate(timeout=60)
    assert search.returncode == 130
    return kinetic.attach(line.split()[0])


@pytest.mark.usefixtures("prefect_api_url")
def test_the_change_is_named_that_makes_a_run_fail(
    project: Project, command: Command, called: Call
) -> None:
    good = called("bisect_strict", "0.1")
    _change(project, "bisect_scale.py")
    bad = called("bisect_strict", "0.1", fails=True)
    trained = called("bisect_train", "0.1")
    code, _, err = command("runs", "bisect", trained, good, "--metric", "loss")
    assert (code, "of two functions: bisect_train and bisect_strict" in err) == (2, True)
    told = _bisected(command, good, bad)
    assert (told["good"]["value"], told["bad"]["value"]) == ("returns", "ValueError")
    assert [each["name"] for each in told["found"]] == ["bisect_scale.py"]
