"""Runs beside one another: `kinetic runs diff` and `kinetic runs logs --grep`."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import Project, make_project

import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.compare.grep import search
from kinetic_flows.runs.session import own_session

TRAIN = """
    import kinetic
    import compare_model

    @kinetic.run(secrets={"SECRET_TOKEN": "env:COMPARE_TOKEN"})
    def compare_train(rate: float, steps: int = 10):
        print(f"training at {rate}")
        for step in range(steps):
            print(f"step {step}")
        loss = compare_model.loss(rate)
        print(f"loss={loss}")
        return {"loss": loss, "eval": {"accuracy": 0.5}}

    @kinetic.run(cache_for=True)
    def compare_cached(text: str):
        return text.upper()
"""
MODEL = """
    def loss(rate):
        return rate * 2
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_kinetic_home: Path
) -> Iterator[Project]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.setenv("COMPARE_TOKEN", "hidden")
    files = {"compare_train.py": TRAIN, "compare_model.py": MODEL}
    yield make_project(tmp_path / "project", monkeypatch, files)
    for name in ("compare_train", "compare_model"):
        sys.modules.pop(name, None)


@pytest.fixture
def command(project: Project, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


def _called(command: Command, function: str, *arguments: str) -> str:
    shown = command("run", f"compare_train.py:{function}", *arguments, "--json")
    for name in ("compare_train", "compare_model"):
        sys.modules.pop(name, None)
    assert shown[0] == 0, shown[2]
    run_id: str = json.loads(shown[1])["id"]
    return run_id


def _diff(command: Command, *arguments: str) -> Any:
    code, out, err = command("runs", "diff", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def _found(document: Any, section: str) -> dict[str, tuple[str | None, str | None]]:
    return {
        each["name"]: (each["before"], each["after"])
        for each in document["differences"]
        if each["section"] == section
    }


def _matching_threads(*run_ids: str) -> set[threading.Thread]:
    """Return the threads in which lines are compared with a pattern."""
    seen: set[threading.Thread] = set()

    class Pattern:
        def search(self, _text: str) -> None:
            seen.add(threading.current_thread())

    with own_session(NullProgress()) as session:
        records = [session.api.read_run(each) for each in run_ids]
        pattern: Any = Pattern()
        assert [each.problem for each in search(records, pattern, session)] == ["", ""]
    return seen


@pytest.mark.usefixtures("prefect_api_url")
def test_two_runs_are_compared_and_their_lines_found(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _called(command, "compare_train", "0.1")
    project.write(
        {
            "compare_model.py": MODEL.replace("* 2", "* 3"),
            "compare_new.py": "x = 1\n",
            "compare_train.py": TRAIN.replace(
                '"env:COMPARE_TOKEN"}', '"env:COMPARE_TOKEN"}, retries=1'
            ),
        }
    )
    second = _called(command, "compare_train", "0.1", "--steps", "4")

    told = _diff(command, first[:12], second)

    assert _found(told, "arguments") == {"steps": (None, "4")}
    assert _found(told, "options") == {"retries": ("0", "1")}
    assert _found(told, "result") == {"loss": ("0.2", "0.30000000000000004")}
    assert [(each["path"], each["kind"]) for each in told["files"]] == [
        ("compare_model.py", "changed"),
        ("compare_new.py", "added"),
        ("compare_train.py", "changed"),
    ]
    assert told["files"][0]["lines"][-2:] == ["-    return rate * 2", "+    return rate * 3"]
    assert {"packages", "image", "accelerator", "environment variables"} <= set(told["same"])
    assert told["unknown"] == {}
    code, out, _ = command("runs", "diff", first, second)
    assert "M compare_model.py  +1 -1" in out
    assert "+    return rate * 3" in out
    assert "+    return rate * 3" not in command("runs", "diff", first, second, "--stat")[1]
    assert "hidden" not in out
    handle = kinetic.attach(first)
    assert handle.diff(second).to_json() == told
    assert str(handle.diff(kinetic.attach(second))) == out.rstrip("\n")

    code, out, err = command("runs", "logs", first, second, "--grep", r"loss=0\.[23]\d*$")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{first[:8]}:12:loss=0.2",
        f"{second[:8]}:6:loss=0.30000000000000004",
    ]
    code, out, _ = command(
        *("runs", "logs", "--grep", "STEP 3", "-i", "--context", "1", "--since", "1h"),
        *("--function", "compare_train", "--limit", "1", "--jsonl"),
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(each["id"], each["line"], each["match"]) for each in lines] == [
        (second, "step 2", False),
        (second, "step 3", True),
        (second, "loss=0.30000000000000004", False),
    ]
    assert _matching_threads(first, second) == {threading.main_thread()}, "or Ctrl-C waits for it"
    code, out, err = command("runs", "logs", second, "--grep", "no such line")
    assert (code, out, err) == (1, "", "kinetic: no line of 1 run fits\n")


@pytest.mark.usefixtures("prefect_api_url")
def test_what_has_expired_is_unknown_and_the_rest_is_compared(
    project: Project, command: Command, shared_kinetic_home: Path
) -> None:
    first, second = (_called(command, "compare_train", rate) for rate in ("0.1", "0.2"))
    store = LocalStore(shared_kinetic_home / "store")
    for name in [each.name for each in store.list(f"runs/{first}/")]:
        store.delete(name)

    told = _diff(command, first, second)

    assert _found(told, "arguments") == {"rate": ("0.1", "0.2")}
    assert _found(told, "result") == {"loss": ("0.2", "0.4")}
    why = f"of {first[:8]}: what it was started with has expired"
    assert told["unknown"] == dict.fromkeys(("options", "data", "packages", "code"), why)
    assert (
        f"unknown  options, data, packages, code: {why}"
        in command("runs", "diff", first, second)[1]
    )
    code, _, err = command("runs", "diff", first, first[:8])
    assert (code, f"both are run {first}" in err) == (2, True)


@pytest.mark.usefixtures("prefect_api_url")
def test_a_call_that_an_earlier_run_answered_is_compared_as_that_one(
    project: Project, command: Command
) -> None:
    first, answered = (_called(command, "compare_cached", "word") for _ in range(2))
    told = _diff(command, first, answered)
    assert _found(told, "caller") == {"value of": (None, first)}
    assert _found(told, "result") == {"state": ("Completed", "Cached")}
    assert {"code", "packages", "arguments"} <= set(told["same"])
    assert told["unknown"] == {}


def test_inputs_of_a_sweep_are_compared_and_searched(
    project: Project, command: Command, prefect_api_url: str
) -> None:
    module = project.module("compare_train")
    group = module.compare_train.map([0.1, 0.2])
    assert [each["loss"] for each in group.results()] == [0.2, 0.4]
    first, second = (each.id for each in group.runs)
    told = _diff(command, first, second)
    assert _found(told, "arguments") == {"rate": ("0.1", "0.2")}
    assert {"code", "packages", "options"} <= set(told["same"])
    out = command("runs", "logs", "--grep", "^loss=", "--group", group.id, "--json")[1]
    assert sorted(each["line"] for each in json.loads(out)) == ["loss=0.2", "loss=0.4"]
    for words in (("diff", group.id, first), ("logs", group.id, "--grep", "loss")):
        code, _, err = command("runs", *words)
        assert (code, "is a group of runs, not a run" in err) == (2, True)
