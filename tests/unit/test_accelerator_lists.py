"""Lists of accelerators and the options that go with them, before a cluster is asked."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

import kinetic
from kinetic_flows.cli import main
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import AcceleratorError, ConfigurationError, UsageError
from kinetic_flows.core.option_pairs import options_on, without_chips
from kinetic_flows.core.options import RunOptions


def decorated(**options: Any) -> Any:
    @kinetic.run(requirements=[], **options)
    def train() -> int:
        return 1

    return train


def test_a_list_is_kept_in_its_order_and_shown_with_or_between() -> None:
    train = decorated(accelerator=["tpu-v6e-8:spot", "tpu-v6e-8", "h100x8"])
    assert train.options.accelerator == ("tpu-v6e-8:spot", "tpu-v6e-8", "h100x8")
    assert repr(train).endswith("train on tpu-v6e-8:spot or tpu-v6e-8 or h100x8>")
    assert train.with_options(accelerator=["l4"]).options.accelerator == "l4"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "name one at least"),
        (["l4", "l4"], "name each once"),
        (["l4", 4], "name one"),
        (["l4", "l99x"], "there is no accelerator 'l99x'"),
        (["l4", "l4:spot:flex"], "`:spot` or `:flex` may stand at its end, and one of them"),
        (",", "there is no accelerator ','"),
        ("l4,t4", r"name several as a list: accelerator=\['l4', 't4'\]"),
        ({"t4", "l4"}, r"in the order of preference: \['l4', 't4'\]"),
        ([f"l4x{n}" for n in (1, 2, 4, 8)] * 6, "name 20 at most"),
    ],
)
def test_lists_that_cannot_be_are_refused_where_they_are_written(value: Any, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        decorated(accelerator=value)
    assert re.search(words, str(refused.value))


@pytest.mark.parametrize(
    ("options", "what", "advice"),
    [
        (
            {"accelerator": "l4", "strategy": "race"},
            "strategy='race' is for a list of accelerators, and accelerator is 'l4'",
            "accelerator=['l4:spot', 'l4']",
        ),
        (
            {"accelerator": "t4", "on_oom": "larger"},
            "on_oom='larger' is for a list of accelerators, and accelerator is 't4'",
            "accelerator=['t4:spot', 't4']",
        ),
        (
            {"accelerator": ["l4"], "fallback_after_seconds": 5},
            "fallback_after_seconds=5 is for a list",
            "or leave fallback_after_seconds out",
        ),
        (
            {"accelerator": ["h100x8", "tpu-v6e-8"], "hosts": 2},
            "hosts=2 is for CPUs and GPUs, and tpu-v6e-8 says how many hosts a slice has",
            "slices=",
        ),
        (
            {"accelerator": ["tpu-v6e-16", "l4"], "slices": 2},
            "slices=2 is for TPUs, and l4 has none",
            "hosts=",
        ),
        (
            {"accelerator": "l4", "cpu": 4, "job_variables": {"cpu": "2"}},
            "cpu is '4', and job_variables says cpu, too",
            "say it once",
        ),
        (
            {"job_variables": {"memory": "2Gi"}, "memory": "1Gi"},
            "memory is '1Gi', and job_variables says memory, too",
            "as an option of kinetic.run",
        ),
        (
            {"accelerator": ["l4", "t4:spot"], "max_run_duration_seconds": 60},
            "for nodes of flex-start, and accelerator is ['l4', 't4:spot']",
            "write accelerator='l4:flex'",
        ),
        (
            {"accelerator": "l4:spot", "reservation": "ours"},
            "reservation is 'ours', and accelerator is 'l4:spot': neither Spot VMs nor flex-start",
            "accelerator='l4'",
        ),
        (
            {"node_pool": ["a", "b"]},
            "node_pool is ['a', 'b']",
            "give the pool's name, as `kinetic accelerators --live` shows it",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_where_they_are_written(
    options: dict[str, Any], what: str, advice: str
) -> None:
    with pytest.raises(UsageError) as refused:
        decorated(**options)
    assert what in refused.value.message
    assert advice in str(refused.value.hint)


def test_what_a_decorator_says_of_its_list_does_nothing_where_one_is_named_later() -> None:
    listed = decorated(accelerator=["l4", "t4"], strategy="race", on_oom="larger")
    assert listed.with_options(accelerator="l4").options.accelerator == "l4"
    with pytest.raises(UsageError, match="on_oom='larger' is for a list"):
        listed.with_options(accelerator="l4", on_oom="larger")
    with pytest.raises(AcceleratorError, match="hosts=3"):
        decorated(accelerator="l4", hosts=3).with_options(accelerator="tpu-v6e-8")


def test_what_only_some_of_a_list_can_have_is_no_option_of_the_others() -> None:
    options = decorated(
        accelerator=["l4", "l4:spot", "l4:flex"], reservation="ours", max_run_duration_seconds=60
    ).options
    on = {
        name: options_on(options, parse_accelerator(name)) for name in ("l4", "l4:spot", "l4:flex")
    }
    assert [on[name].reservation for name in on] == ["ours", None, None]
    assert [on[name].max_run_duration_seconds for name in on] == [None, None, 60]


def test_a_setting_may_be_a_list_with_commas_between() -> None:
    assert RunOptions().accelerators_or("tpu-v6e-8:spot, l4,") == ("tpu-v6e-8:spot", "l4")
    assert RunOptions().updated({"accelerator": "cpu"}).accelerators_or("l4,t4") == ("cpu",)


SOURCE = """
    import kinetic

    @kinetic.run(requirements=[], accelerator=["big", "l4", "cpu"])
    def said():
        return 1

    @kinetic.run(requirements=[], on_oom="larger")
    def unsaid():
        return 1
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    (made / "pyproject.toml").write_text(
        '[tool.kinetic]\naccelerator = ["small", "big:spot"]\n'
        '[tool.kinetic.accelerators]\nbig = "tpu-v6e-8"\nsmall = "l4"\n'
    )
    (made / "listed_functions.py").write_text(dedent(SOURCE))
    monkeypatch.chdir(made)
    monkeypatch.syspath_prepend(str(made))
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    monkeypatch.delitem(sys.modules, "listed_functions", raising=False)
    return made


@pytest.fixture
def functions(project: Path) -> ModuleType:
    return __import__("listed_functions")


def test_a_projects_own_names_may_stand_in_lists(project: Path, functions: ModuleType) -> None:
    assert functions.said.options.accelerator == ("tpu-v6e-8", "l4", "cpu")
    assert local_settings({}, project).accelerator == "l4,tpu-v6e-8:spot"
    named = local_settings({"KINETIC_ACCELERATOR": "cpu,small"}, project)
    assert named.accelerator == "cpu,l4"
    with pytest.raises(ConfigurationError, match=r"KINETIC_ACCELERATOR: there is no .* 'smal'"):
        local_settings({"KINETIC_ACCELERATOR": "cpu,smal"}, project)
    many = ",".join(f"tpu-v6e-{2**n}" for n in range(21))
    with pytest.raises(ConfigurationError, match="KINETIC_ACCELERATOR names 21 accelerators"):
        local_settings({"KINETIC_ACCELERATOR": many}, project)


@pytest.mark.parametrize("listed", ["[]", '["l4", 5]', '["l99"]'])
def test_a_list_of_a_project_that_cannot_be_is_refused(project: Path, listed: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.kinetic]\naccelerator = {listed}\n")
    with pytest.raises(ConfigurationError, match="accelerator"):
        local_settings({}, project)


def test_on_this_machine_a_list_is_what_this_machine_has_of_it(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = functions.said.plan()
    assert (plan.accelerator, plan.choice, plan.warnings) == ("cpu", None, ())
    monkeypatch.setenv("KINETIC_PLATFORM", "local")
    plan = functions.said.plan()
    assert plan.accelerator == "tpu-v6e-8"
    assert plan.warnings == (
        "tpu-v6e-8 was asked for; KINETIC_PLATFORM=local runs on the CPU here",
    )
    monkeypatch.delenv("KINETIC_PLATFORM")
    with pytest.raises(ConfigurationError, match="accelerator 'l4' needs a cluster"):
        functions.said.with_options(accelerator=["l4", "t4"]).plan()


def test_what_is_for_lists_is_told_where_a_setting_names_one(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_ACCELERATOR", "cpu")
    (warning,) = functions.unsaid.plan().warnings
    assert warning == ("on_oom='larger' does nothing on cpu: it is for a list of accelerators")
    monkeypatch.setenv("KINETIC_ACCELERATOR", "cpu,l4")
    assert functions.unsaid.plan().warnings == ()
    flex = functions.unsaid.with_options(accelerator="l4:flex", max_run_duration_seconds=3600)
    _, warning = flex.with_options(accelerator="cpu").plan().warnings
    assert warning == (
        "max_run_duration_seconds=3600 does nothing on cpu: it is for nodes of flex-start (`:flex`)"
    )


def test_an_idle_timeout_is_told_to_do_nothing_where_there_are_no_chips(
    functions: ModuleType,
) -> None:
    watched = functions.unsaid.with_options(on_oom=None, idle_timeout_seconds=600)
    (warning,) = watched.with_options(accelerator="cpu").plan().warnings
    assert warning == (
        "idle_timeout_seconds=600 does nothing on this machine: it is about the chips of a "
        "cluster's nodes"
    )
    cpu, l4 = parse_accelerator("cpu"), parse_accelerator("l4")
    options = RunOptions(idle_timeout_seconds=600)
    (warning,) = without_chips(options, [cpu], is_here=False)
    assert warning == (
        "idle_timeout_seconds=600 does nothing on cpu, which has no chips; timeout_seconds= "
        "limits every run"
    )
    assert without_chips(options, [cpu, l4], is_here=False) == ()
    assert without_chips(RunOptions(), [cpu], is_here=True) == ()


@pytest.mark.usefixtures("project")
def test_the_command_takes_lists_with_commas_between(capsys: pytest.CaptureFixture[str]) -> None:
    target = ["plan", "listed_functions.py:said", "--json"]
    with pytest.raises(SystemExit) as ended:
        main([*target, "--accelerator", "l4, cpu", "--fallback-after-seconds", "30"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["accelerator"] == "cpu"
    with pytest.raises(SystemExit) as ended:
        main([*target, "--accelerator", "cpu,", "--strategy", "race"])
    assert ended.value.code == UsageError.exit_code
    assert "strategy='race' is for a list of accelerators" in capsys.readouterr().err
