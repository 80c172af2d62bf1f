"""`kinetic accelerators`: what it lists, and how it is asked for less."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import accelerator_docs
from kinetic_flows.cli import main
from kinetic_flows.core.accelerators import list_accelerators, names_of, parse_accelerator
from kinetic_flows.core.errors import AcceleratorError, LaunchError, UsageError


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["accelerators", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def _names(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert _run(*arguments, "--json") == 0
    return [row["name"] for row in json.loads(capsys.readouterr().out)]


def test_all_are_listed_for_people_and_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run() == 0
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("tpu-v6e-8 ")]
    assert line.split() == ["tpu-v6e-8", "8", "32", "GB", "8", "1", "2x4", "ct6e-standard-8t"]
    assert "in the cluster" not in shown
    assert _run("--json") == 0
    by_name = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert by_name["tpu-v6e-8"]["machine_type"] == "ct6e-standard-8t"
    assert by_name["tpu-v6e-8"]["resources"] == {"google.com/tpu": "8"}
    assert by_name["tpu-v6e-8"]["memory_gb"] == 32
    assert "node_pools" not in by_name["tpu-v6e-8"]
    assert len(by_name) == len(list_accelerators())


@pytest.mark.parametrize(
    ("arguments", "first", "last"),
    [
        (["v6e"], "tpu-v6e-1", "tpu-v6e-256"),
        (["Trillium", "--hosts", "1"], "tpu-v6e-1", "tpu-v6e-8"),
        (["ct6e-standard-8t"], "tpu-v6e-8", "tpu-v6e-8"),
        (["nvidia-l4", "--chips", "2"], "l4x2", "l4x8"),
        (["l4x2:spot"], "l4x2:spot", "l4x2:spot"),
        (["gpu-l4"], "l4", "l4"),
        (["tpu-v5p-4x4x12"], "tpu-v5p-4x4x12", "tpu-v5p-4x4x12"),
        (["--vendor", "gpu", "--memory", "141"], "h200x8", "gb200x4"),
        (["--vendor", "cpu"], "cpu", "cpu"),
        (["t4", "--spot"], "t4:spot", "t4x4:spot"),
    ],
)
def test_those_that_fit_are_listed(
    arguments: list[str], first: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = _names(capsys, *arguments)
    assert (names[0], names[-1]) == (first, last)
    assert all(str(parse_accelerator(name)) == name for name in names)


def test_a_name_of_nothing_is_an_error_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("rtx-pro-600") == 0, "part of a name"
    assert _run("tpu-v6f") == AcceleratorError.exit_code
    assert "did you mean 'tpu-v6e'" in capsys.readouterr().err


def test_what_nothing_fits_is_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("l4", "--chips", "16", "--memory", "80") == UsageError.exit_code
    assert "no accelerator of 'l4' fits --chips 16 --memory 80" in capsys.readouterr().err


def test_a_cluster_that_cannot_be_asked_does_not_keep_the_list_from_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    users = [{"name": "c", "user": {"token": "t"}}]
    config = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"}
    nowhere.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **config}))
    monkeypatch.setenv("KUBECONFIG", str(nowhere))
    monkeypatch.setenv("KINETIC_PROJECT", "somebodys-project")
    assert _run("l4") == 0
    told = capsys.readouterr()
    assert "l4x8" in told.out
    assert "the cluster cannot be asked: " in told.err
    assert _run("l4", "--live") == LaunchError.exit_code
    assert _run("l4", "--no-live") == 0
    assert "cannot be asked" not in capsys.readouterr().err


@pytest.mark.parametrize("item", list_accelerators(), ids=str)
def test_each_has_the_memory_of_its_chips_and_is_found_by_its_name(item: object) -> None:
    accelerator = parse_accelerator(str(item))
    assert bool(accelerator.memory_gb) == (accelerator.category != "cpu")
    assert names_of(accelerator)[0] == accelerator.name


def test_the_documented_tables_are_those_of_the_registry() -> None:
    page = accelerator_docs.PAGE.read_text()
    assert page == accelerator_docs.rewritten(page), "run: python tests/accelerator_docs.py"
