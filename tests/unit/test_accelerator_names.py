"""Names that a project gives to accelerators."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.code import project_settings as places
from kinetic_flows.code.project_settings import local_settings, named_accelerator
from kinetic_flows.core.accelerators.aliases import meant_by
from kinetic_flows.core.errors import AcceleratorError, ConfigurationError
from kinetic_flows.core.settings.settings import load_settings, settings_of_project
from kinetic_flows.core.settings.table import Source

TABLE = """
[tool.kinetic]
accelerator = "small"

[tool.kinetic.accelerators]
big = "tpu-v6e-8:spot"
small = "l4"
any-eight = "tpu:8"
"""

FUNCTIONS = """
import kinetic

@kinetic.run(requirements=[], accelerator="big")
def said():
    return 1

@kinetic.run(requirements=[])
def unsaid():
    return 1
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with names of its own, which is the working directory."""
    monkeypatch.setattr(places, "_last", [])
    made = tmp_path / "project"
    made.mkdir()
    (made / "pyproject.toml").write_text(TABLE)
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def functions(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The project's functions, imported from another working directory."""
    name = f"functions_of_{tmp_path.name}"
    (project / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.chdir(tmp_path)
    return import_module(name)


def test_a_function_may_name_it_wherever_it_is_called_from(functions: ModuleType) -> None:
    assert functions.said.options.accelerator == "tpu-v6e-8:spot"
    changed = functions.said.with_options(accelerator="small:spot")
    assert changed.options.accelerator == "l4:spot"
    assert "tpu-v6e-8:spot" in repr(functions.said)


def test_a_setting_may_name_it(
    functions: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local_settings({}, project).accelerator == "l4"
    settings = local_settings({"KINETIC_ACCELERATOR": "Any-Eight"}, project)
    assert settings.accelerator == "tpu:8"
    assert settings.sources["accelerator"] == Source("environment", "KINETIC_ACCELERATOR")
    monkeypatch.setenv("KINETIC_PLATFORM", "local")
    assert functions.unsaid.plan().accelerator == "l4"
    monkeypatch.setenv("KINETIC_ACCELERATOR", "cpu")
    assert functions.unsaid.plan().accelerator == "cpu"


def test_a_misspelt_name_is_refused_with_the_nearest(functions: ModuleType, project: Path) -> None:
    with pytest.raises(AcceleratorError, match="no accelerator 'smal'") as refused:
        functions.said.with_options(accelerator="smal")
    assert "did you mean 'small'?" in str(refused.value.hint)
    with pytest.raises(ConfigurationError, match="KINETIC_ACCELERATOR: there is no") as of_setting:
        local_settings({"KINETIC_ACCELERATOR": "bigg"}, project)
    assert "did you mean 'big'?" in str(of_setting.value.hint)
    with pytest.raises(AcceleratorError) as far:
        named_accelerator("h1000", project)
    assert "did you mean 'h100'" in str(far.value.hint)
    assert "this project calls accelerators any-eight, big, small" in str(far.value.hint)


def test_elsewhere_the_name_means_nothing(functions: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'big'"):
        local_settings({"KINETIC_ACCELERATOR": "big"}, tmp_path)
    with pytest.raises(AcceleratorError, match="'big'"):
        named_accelerator("big", tmp_path)


def test_an_accelerators_own_name_is_no_alias_whatever_its_spelling() -> None:
    assert meant_by("V6E-8", {"big": "l4"}) == "V6E-8"
    assert meant_by(" BIG:SPOT ", {"big": "l4:spot"}) == "l4:spot"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('l4 = "h100"', "'l4' is an accelerator itself", "another name"),
        ('trillium = "l4"', "'trillium' is an accelerator itself", "another name"),
        ('cpu = "l4"', "'cpu' is an accelerator itself", "another name"),
        ('gpu-big = "l4"', "'gpu-big' cannot be a name", "not with tpu- or gpu-"),
        ('Big = "l4"', "'Big' cannot be a name", "lower-case letters"),
        ('"big:spot" = "l4"', "'big:spot' cannot be a name", "lower-case letters"),
        ("big = 5", "big of [tool.kinetic.accelerators] is 5", "in quotes"),
        ('big = "l44"', "there is no accelerator 'l44'", "did you mean 'l4'"),
        ('big = "tpu:7"', "'tpu:7'", "counts that exist"),
        ('small = "l4"\nbig = "small"', "there is no accelerator 'small'", "valid:"),
    ],
)
def test_what_cannot_be_is_refused_when_the_file_is_read(
    tmp_path: Path, line: str, message: str, hint: str
) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(f"[tool.kinetic.accelerators]\n{line}\n")
    with pytest.raises(ConfigurationError) as refused:
        settings_of_project(path)
    assert refused.value.message.startswith(str(path))
    assert message in refused.value.message
    assert hint in str(refused.value.hint)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.kinetic]\naccelerators = "l4"\n')
    with pytest.raises(ConfigurationError, match="accelerators of") as refused:
        settings_of_project(path)
    assert "[tool.kinetic.accelerators]" in str(refused.value.hint)
    path.write_text('[tool.kinetic]\naccelerators = {big = "l4"}\n')
    found = settings_of_project(path)
    assert found is not None
    assert found.accelerators == {"big": "l4"}
    assert load_settings({"KINETIC_ACCELERATOR": "big"}, found).accelerator == "l4"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    return shown.out


def test_commands_show_and_understand_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = json.loads(printed(capsys, "config", "--json"))["accelerators"]
    assert shown["value"] == {"big": "tpu-v6e-8:spot", "small": "l4", "any-eight": "tpu:8"}
    assert shown["source"] == {"kind": "pyproject", "name": f"{project}/pyproject.toml:5"}
    headings, row = printed(capsys, "accelerators", "big").splitlines()
    assert headings.split()[:2] == ["name", "here"]
    assert row.split()[:2] == ["tpu-v6e-8:spot", "big"]
    rows = [line.split() for line in printed(capsys, "accelerators", "v6e-8").splitlines()]
    assert rows[1][:3] == ["tpu-v6e-8", "big", "(spot)"]
    listed = json.loads(printed(capsys, "accelerators", "l4", "--json"))
    assert [each["project_names"] for each in listed] == [{"small": "l4"}, {}, {}, {}]


def test_without_names_nothing_of_them_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(places, "_last", [])
    monkeypatch.chdir(tmp_path)
    assert "here" not in printed(capsys, "accelerators", "l4").split()
    assert json.loads(printed(capsys, "config", "--json"))["accelerators"]["value"] == {}


def test_node_pools_are_asked_for_by_them(project: Path) -> None:
    (pool,) = SetupOptions(accelerator=("big",)).pools()
    assert str(pool.accelerator) == "tpu-v6e-8:spot"
    with pytest.raises(AcceleratorError, match="no accelerator 'bigg'"):
        SetupOptions(accelerator=("bigg",)).pools()
