"""Commands start no background server to look for what cannot be there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kinetic_flows.cli import main

RUN = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


@pytest.mark.parametrize("word", ["runs", "deployments"])
def test_a_home_where_nothing_has_run_has_nothing_to_list(
    word: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _run(capsys, word, "ls")
    assert (code, out.startswith(f"no {word}")) == (0, True)
    assert json.loads(_run(capsys, word, "ls", "--json")[1]) == []
    assert not (home / "prefect").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "show", RUN),
        ("runs", "logs", RUN),
        ("runs", "result", RUN, "--json"),
        ("runs", "cancel", RUN),
        ("runs", "retry", RUN),
        ("runs", "cleanup", "--dry-run"),
        ("deployments", "show", "train/nightly"),
        ("deployments", "run", "train/nightly", "-p", "rate=1"),
        ("deployments", "delete", "train/nightly", "--yes"),
        ("pool", "show", "--no-cluster"),
    ],
    ids=" ".join,
)
def test_nothing_is_started_to_look_for_what_cannot_be_there(
    arguments: tuple[str, ...], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = _run(capsys, *arguments)
    assert code == 10
    assert "is not running, and has never run with this KINETIC_HOME" in err
    assert not (home / "prefect").exists()


@pytest.mark.parametrize(
    "arguments", [("runs", "ls"), ("runs", "show", RUN), ("deployments", "ls")], ids=" ".join
)
def test_runs_in_the_database_of_a_server_that_is_stopped_are_not_said_to_be_none(
    arguments: tuple[str, ...], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "prefect").mkdir(parents=True)
    (home / "prefect" / "prefect.db").touch()
    code, out, err = _run(capsys, *arguments)
    assert (code, out) == (10, "")
    assert "`kinetic server start` starts it" in err
    assert not (home / "prefect" / "server.json").exists()


def test_the_ui_of_a_configured_api_is_opened_and_no_server_started(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")
    code, out, _ = _run(capsys, "ui", "--no-browser")
    assert (code, out) == (0, "UI:   http://prefect.example:4200\n")
    page = f"http://prefect.example:4200/runs/flow-run/{RUN}"
    assert _run(capsys, "ui", RUN, "--no-browser")[1] == f"UI:   {page}\n"
    assert not (home / "prefect").exists()


@pytest.mark.parametrize("arguments", [(), ("work-pool", "create", "--help")], ids=" ".join)
def test_no_server_is_started_to_show_prefects_own_help(
    arguments: tuple[str, ...], home: Path
) -> None:
    kinetic_command = Path(sys.executable).with_name("kinetic")
    shown = subprocess.run(
        [kinetic_command, "prefect", *arguments], capture_output=True, text=True, check=False
    )
    assert f"Usage: prefect {' '.join(arguments[:-1])}".rstrip() in shown.stdout
    assert not (home / "prefect").exists()


def test_json_and_json_lines_do_not_go_together(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = _run(capsys, "runs", "ls", "--json", "--jsonl")
    assert code == 2
    assert "--json and --jsonl do not go together" in err


def test_the_servers_state_is_a_document(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = _run(capsys, "server", "status", "--json")
    assert json.loads(out) == {
        "running": False,
        "starting": False,
        "api_url": None,
        "ui_url": None,
    }
    assert json.loads(_run(capsys, "server", "stop", "--json")[1]) == {"stopped": False}
