"""`kinetic plan`: it takes arguments and every option, and does nothing."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from textwrap import dedent

import pexpect
import pytest

from kinetic_flows.cli import main
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.options import RunOptions

SOURCE = """
    import kinetic

    @kinetic.run(capture_env_vars=["DATASET", "SERVICE_TOKEN"])
    def train(rate: float, *, steps: int = 3):
        return rate
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "requirements.txt").write_text("")
    (tmp_path / "project" / "plan_job.py").write_text(dedent(SOURCE))
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASET", "cats")
    monkeypatch.setenv("SERVICE_TOKEN", "not-for-others")
    monkeypatch.delitem(sys.modules, "plan_job", raising=False)
    return tmp_path / "home"


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "plan_job.py:train", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_option_of_the_decorator_is_one_of_the_command(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    shown = capsys.readouterr().out
    for item in fields(RunOptions):
        assert f"--{item.name.replace('_', '-')} " in shown
    words = " ".join(shown.replace("│", " ").split())
    assert "How often the function is called again after it raised. --retry-delay-seconds" in words
    assert "at its end asks for Spot VMs or flex-start. Several have commas" in words
    assert "None for 3 on Spot VMs and 0 elsewhere. --cache-for" in words
    assert "[choices: jax, none]" in shown


def test_options_replace_the_functions_and_arguments_are_those_of_a_call(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["0.5", "--steps", "4", "--name", "other", "--tags", "a", "--tags", "b", "--json"]
    assert _run(*given, "--capture-env-vars", "DATASET", "--timeout-seconds", "60") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "other"
    assert [item["name"] for item in told["variables"]] == ["DATASET"]


def test_a_plan_on_this_machine_starts_no_server_and_makes_no_environment(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--files") == 0
    told = capsys.readouterr()
    assert "prefect  the background server, which the call starts" in told.out
    assert "  requirements.txt\n" in told.out
    assert "variable  DATASET=cats (capture_env_vars)" in told.out
    assert "not-for-others" not in told.out
    assert told.err == "", "what a plan says, it says once"
    assert not (home / "prefect" / "server.json").exists()
    assert not (home / "environments").exists()
    assert not (home / "store" / "packs").exists()


def test_a_cluster_that_may_be_a_profile_starts_no_server_that_cannot_have_one(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--cluster", "training") == ConfigurationError.exit_code
    assert "no Google Cloud project is configured" in capsys.readouterr().err
    assert not (home / "prefect" / "server.json").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--acelerator", "l4"], "did you mean the option --accelerator?"),
        (["--accelerator", "l99"], "there is no accelerator 'l99'"),
        (["--job-variables", '{"cpu": "much"}'], "cpu of job_variables is 'much'"),
        (["fast"], "the arguments do not fit train(rate: float"),
        (["0.1", "--", "--steps", "x"], "the arguments do not fit"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_do(
    home: Path, given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*given) == UsageError.exit_code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("columns", [60, 100])
def test_on_a_terminal_lines_are_no_wider_than_it_and_go_on_below_themselves(
    home: Path, columns: int
) -> None:
    # Without what readline adds to this process's own variables behind Python's back.
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environ["KINETIC_PROGRESS"] = "quiet"
    command = pexpect.spawn(
        str(Path(sys.executable).with_name("kinetic")),
        ["plan", "plan_job.py:train"],
        env=environ,
        dimensions=(40, columns),
        encoding="utf-8",
        timeout=120,
    )
    command.expect(pexpect.EOF)
    lines = command.before.splitlines()
    label = max(len(line) - len(line.lstrip()) for line in lines if line.strip())
    assert any(line.lstrip().startswith("function  train") for line in lines), command.before
    for line in lines:
        assert len(line) <= columns or " " not in line[label:].strip(), line


def test_arguments_that_do_not_fit_lead_to_the_functions_help(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--rate", "much") == UsageError.exit_code
    assert "see `kinetic run plan_job.py:train --help`" in capsys.readouterr().err


def test_requirements_are_a_path_or_a_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--requirements", "[]", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dependency_file"] is None
    assert _run("--requirements", "[numpy]") == UsageError.exit_code
    assert """such as '["numpy>=2"]'""" in capsys.readouterr().err
