"""Settings of a project: `[tool.kinetic]` of its `pyproject.toml`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.code import project_settings as finding
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings.settings import (
    Settings,
    load_settings,
    resolve_settings,
    settings_of_project,
)
from kinetic_flows.core.settings.table import Profile

TABLE = """
[project]
name = "mine"

[tool.kinetic]
project = "of-the-file"
zone = "europe-west4-b"
retention_days = 7
strict_imports = true
job_variables = {service_account_name = "trainer"}
extras = ["train"]
"""


class Saved:
    """Saved profiles."""

    def load(self, name: str) -> Profile | None:
        values = {"project": "of-the-profile", "zone": "us-east1-b", "cluster": "saved"}
        return Profile(name=name, values=values) if name == "training" else None

    def names(self) -> tuple[str, ...]:
        return ("training",)


def written(directory: Path, text: str) -> Path:
    path = directory / "pyproject.toml"
    path.write_text(text)
    return path


def resolved(path: Path, environ: Mapping[str, str] | None = None, **arguments: str) -> Settings:
    local = load_settings(environ or {}, settings_of_project(path))
    return resolve_settings(local, Saved(), environ=environ or {}, arguments=arguments)


def test_a_project_says_where_its_functions_run(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE)
    cloud = resolved(path).required_cloud()
    assert (cloud.project, cloud.zone, cloud.retention_days) == ("of-the-file", "europe-west4-b", 7)
    assert cloud.job_variables == {"service_account_name": "trainer"}
    assert resolved(path).strict_imports
    assert str(cloud.sources["zone"]) == f"{path}:7"
    assert str(cloud.sources["cluster"]) == "default"


def test_arguments_and_the_environment_come_before_it(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE)
    environ = {"KINETIC_PROJECT": "of-the-environment"}
    cloud = resolved(path, environ, zone="us-central1-a").required_cloud()
    assert (cloud.project, cloud.zone, cloud.retention_days) == (
        "of-the-environment",
        "us-central1-a",
        7,
    )
    assert resolved(path, {"KINETIC_PLATFORM": "local"}).platform == "local"


def test_a_profile_that_somebody_names_comes_before_it_and_one_that_it_names_after(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, TABLE)
    named = resolved(path, {"KINETIC_PROFILE": "training"}).required_cloud()
    assert (named.project, named.zone, named.cluster) == ("of-the-profile", "us-east1-b", "saved")
    assert named.retention_days == 7
    own = written(tmp_path, '[tool.kinetic]\nprofile = "training"\nzone = "europe-west4-b"\n')
    found = resolved(own).required_cloud()
    assert (found.project, found.zone, found.cluster) == (
        "of-the-profile",
        "europe-west4-b",
        "saved",
    )
    with pytest.raises(ConfigurationError, match=r"pyproject.toml:2: there is no saved profile"):
        resolved(written(tmp_path, '[tool.kinetic]\nprofile = "trainin"\n'))


def test_where_functions_run_the_environment_says_before_it(tmp_path: Path) -> None:
    here = settings_of_project(written(tmp_path, '[tool.kinetic]\nplatform = "local"\n'))
    assert load_settings({}, here).platform == "local"
    assert load_settings({"KINETIC_PROJECT": "mine"}, here).platform == "gke"
    assert not load_settings({}, here).platform_is_explicit


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('zoen = "us-central1-a"', "has no setting 'zoen'", "did you mean 'zone'"),
        ('home = "/tmp/x"', "has no setting 'home'", "valid:"),
        ('storage_endpoint = "http://x"', "has no setting 'storage_endpoint'", "valid:"),
        ("zone = 5", "zone of [tool.kinetic] is 5", "a text in quotes"),
        ('retention_days = "7"', "retention_days of [tool.kinetic] is '7'", "a whole number"),
        ("retention_days = true", "retention_days of [tool.kinetic] is True", "a whole number"),
        ("strict_imports = 1", "strict_imports of [tool.kinetic] is 1", "true or false"),
        ("job_variables = []", "job_variables of [tool.kinetic] is []", "a table"),
    ],
)
def test_what_cannot_be_is_refused_with_the_file_and_the_key(
    tmp_path: Path, line: str, message: str, hint: str
) -> None:
    path = written(tmp_path, f"[tool.kinetic]\n{line}\n")
    with pytest.raises(ConfigurationError) as refused:
        settings_of_project(path)
    assert str(path) in refused.value.message
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


def test_a_value_that_is_no_zone_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, '[tool.kinetic]\nproject = "my-project"\nzone = "Europe"\n')
    with pytest.raises(ConfigurationError, match=r"pyproject.toml:3: zone is 'Europe'"):
        resolved(path)
    path = written(tmp_path, '[tool.kinetic]\naccelerator = "l44"\n')
    with pytest.raises(ConfigurationError, match=r"pyproject.toml:2: accelerator"):
        load_settings({}, settings_of_project(path))


@pytest.mark.parametrize("text", ["[tool.kinetic\n", "[tool]\nkinetic = 5\n", "tool = 'kinetic'\n"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=r"pyproject\.toml"):
        settings_of_project(path)


def test_a_file_without_the_table_or_with_dependencies_alone_says_nothing(tmp_path: Path) -> None:
    assert settings_of_project(tmp_path / "pyproject.toml") is None
    assert settings_of_project(written(tmp_path, "[project]\nname = 'kinetic'\n")) is None
    only = settings_of_project(written(tmp_path, '[tool.kinetic]\nextras = ["x"]\n'))
    assert load_settings({}, only) == replace(load_settings({}, None), project_file=only)


def test_the_nearest_file_with_the_table_counts_up_to_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "_last", [])
    inner = tmp_path / "repository" / "package"
    inner.mkdir(parents=True)
    written(tmp_path, '[tool.kinetic]\nzone = "us-east1-b"\n')
    written(inner, "[project]\nname = 'inner'\n")
    above = written(tmp_path / "repository", '[tool.kinetic]\nzone = "europe-west4-b"\n')
    found = finding.project_settings(inner)
    assert found is not None
    assert found.path == above
    above.unlink()
    (tmp_path / "repository" / ".git").mkdir()
    finding._reaches.cache_clear()
    written(tmp_path, "[tool.kinetic\nis not ours to complain of")
    assert finding.project_settings(inner) is None


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path, '[tool.kinetic]\naccelerator = "l4"\n')
    assert load_settings({}, settings_of_project(path)).accelerator == "l4"
    written(tmp_path, '[tool.kinetic]\naccelerator = "a100"\n')
    assert load_settings({}, settings_of_project(path)).accelerator == "a100"


def test_config_shows_the_line_that_a_value_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finding, "_last", [])
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, TABLE)
    with pytest.raises(SystemExit):
        main(["config", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["zone"]["value"] == "europe-west4-b"
    assert shown["zone"]["source"] == {"kind": "pyproject", "name": f"{path}:7"}


FUNCTIONS = """
import kinetic

@kinetic.run(requirements=[])
def unsaid():
    return 1

@kinetic.run(requirements=[], accelerator="cpu")
def said():
    return 1
"""


def test_a_function_that_names_no_accelerator_gets_its_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "_last", [])
    (tmp_path / "project").mkdir()
    written(tmp_path / "project", '[tool.kinetic]\naccelerator = "l4"\n')
    (tmp_path / "project" / "functions_of_a_project.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path / "project"))
    functions = import_module("functions_of_a_project")
    assert functions.said.plan().accelerator == "cpu"
    with pytest.raises(ConfigurationError, match="l4"):
        functions.unsaid.plan()
    monkeypatch.setenv("KINETIC_ACCELERATOR", "cpu")
    assert functions.unsaid.plan().accelerator == "cpu"
