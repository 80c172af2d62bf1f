"""The profile that `kinetic profile use` remembers, and what comes before it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.cli.profile_values import in_force, pairs
from kinetic_flows.code import project_settings as places
from kinetic_flows.core.errors import ConfigurationError, PrefectServerError, UsageError
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.remembered import FILE, remember_profile, remembered_profiles
from kinetic_flows.core.settings.settings import (
    Settings,
    load_settings,
    resolve_settings,
    settings_of_project,
)
from kinetic_flows.core.settings.table import DEFAULT, Profile, Source
from kinetic_flows.runs.profiles import use_profile
from kinetic_flows.runs.session import configure

SAVED: Mapping[str, Mapping[str, object]] = {
    "mine": {"project": "my-project", "zone": "us-east1-b", "namespace": "mine"},
    "team": {"project": "team-project", "zone": "europe-west4-b"},
}


class Saved:
    """Saved profiles; remembers which were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def load(self, name: str) -> Profile | None:
        self.asked.append(name)
        return Profile(name=name, values=SAVED[name]) if name in SAVED else None

    def names(self) -> tuple[str, ...]:
        return tuple(SAVED)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "kinetic-home"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "work" / "project"
    made.mkdir(parents=True)
    return made


def resolved(
    home: Path, directory: Path, pyproject: str = "", saved: Saved | None = None, **given: str
) -> Settings:
    environ = {key: value for key, value in given.items() if key.isupper()}
    environ["KINETIC_HOME"] = str(home)
    file = directory / "pyproject.toml"
    file.write_text(pyproject)
    settings = load_settings(environ, settings_of_project(file), directory)
    arguments = {key: value for key, value in given.items() if key.islower()}
    return resolve_settings(settings, saved or Saved(), environ=environ, arguments=arguments)


def test_what_its_user_chose_counts_where_nothing_names_a_profile(
    home: Path, directory: Path
) -> None:
    remember_profile(home, "mine")
    settings = resolved(home, directory)
    assert (settings.platform, settings.profile) == ("gke", "mine")
    assert settings.required_cloud().project == "my-project"
    assert settings.sources["profile"] == Source("remembered", "you")
    assert str(settings.sources["platform"]) == "remembered for you"


def test_a_directory_comes_before_its_user_and_the_nearest_one_counts(
    home: Path, directory: Path, tmp_path: Path
) -> None:
    remember_profile(home, "mine")
    remember_profile(home, "team", directory.parent)
    settings = resolved(home, directory)
    assert settings.profile == "team"
    assert settings.sources["profile"] == Source("remembered", str(directory.parent))
    remember_profile(home, "mine", directory)
    assert resolved(home, directory).profile == "mine"
    assert resolved(home, directory.parent).profile == "team"
    assert resolved(home, tmp_path).profile == "mine"


def test_the_project_the_environment_and_the_decorator_come_before_it(
    home: Path, directory: Path
) -> None:
    remember_profile(home, "mine", directory)
    of_file = '[tool.kinetic]\nprofile = "team"\n'
    assert resolved(home, directory, of_file).profile == "team"
    assert resolved(home, directory, KINETIC_PROFILE="team").profile == "team"
    assert resolved(home, directory, cluster="team").profile == "team"
    settings = resolved(home, directory, '[tool.kinetic]\nzone = "asia-east1-a"\n')
    assert settings.profile == "mine"
    assert settings.required_cloud().zone == "asia-east1-a"
    assert resolved(home, directory, KINETIC_ZONE="asia-east1-b").required_cloud().zone == (
        "asia-east1-b"
    )


@pytest.mark.parametrize("way", ["environment", "file", "argument"])
def test_nothing_of_it_is_mixed_with_another_project(home: Path, directory: Path, way: str) -> None:
    remember_profile(home, "mine")
    settings = {
        "environment": lambda: resolved(home, directory, KINETIC_PROJECT="other-project"),
        "file": lambda: resolved(home, directory, '[tool.kinetic]\nproject = "other-project"\n'),
        "argument": lambda: resolved(home, directory, project="other-project"),
    }[way]()
    cloud = settings.required_cloud()
    assert (cloud.project, cloud.zone, cloud.namespace) == (
        "other-project",
        "us-central1-a",
        "default",
    )
    assert (settings.profile, settings.sources["profile"]) == (None, DEFAULT)


def test_the_same_project_named_otherwise_keeps_it(home: Path, directory: Path) -> None:
    remember_profile(home, "mine")
    assert resolved(home, directory, KINETIC_PROJECT="my-project").profile == "mine"
    assert resolved(home, directory, GOOGLE_CLOUD_PROJECT="other-project").profile == "mine"


def test_on_this_machine_it_is_not_looked_up(home: Path, directory: Path) -> None:
    remember_profile(home, "gone")
    saved = Saved()
    assert resolved(home, directory, saved=saved, KINETIC_PLATFORM="local").platform == "local"
    of_file = '[tool.kinetic]\nplatform = "local"\n'
    assert resolved(home, directory, of_file, saved=saved).platform == "local"
    assert resolved(home, directory, saved=saved, KINETIC_RUN_ID="a-run").profile is None
    assert saved.asked == []


@pytest.mark.parametrize("is_users", [True, False])
def test_one_that_was_deleted_is_told_with_the_command_that_forgets_it(
    home: Path, directory: Path, is_users: bool
) -> None:
    remember_profile(home, "gone", None if is_users else directory)
    with pytest.raises(ConfigurationError, match="'gone', remembered for") as refused:
        resolved(home, directory)
    where = "" if is_users else f" --directory {directory}"
    assert f"`kinetic profile use --forget{where}` forgets it" in str(refused.value.hint)
    assert "mine, team" in str(refused.value.hint)
    assert str(home / FILE) in refused.value.message


def test_what_is_forgotten_leaves_the_others(home: Path, directory: Path) -> None:
    remember_profile(home, "mine")
    remember_profile(home, "team", directory)
    remember_profile(home, None, directory)
    assert remembered_profiles(home).user == "mine"
    assert not remembered_profiles(home).directories
    remember_profile(home, None)
    assert resolved(home, directory).platform == "local"


@pytest.mark.parametrize("text", ["{", "[]", '{"user": 5}', '{"directories": {"/x": null}}'])
def test_a_damaged_file_is_named_with_what_to_do(home: Path, directory: Path, text: str) -> None:
    home.mkdir()
    (home / FILE).write_text(text)
    with pytest.raises(ConfigurationError, match=r"profiles\.json") as refused:
        resolved(home, directory)
    assert "remove it" in str(refused.value.hint)


def test_a_file_that_cannot_be_read_is_not_taken_for_an_empty_one(
    home: Path, directory: Path
) -> None:
    (home / FILE).mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"profiles\.json.* cannot be read"):
        resolved(home, directory)
    with pytest.raises(ConfigurationError, match=r"profiles\.json.* cannot be read"):
        remember_profile(home, "mine")


def test_what_another_process_remembers_is_seen_by_the_next_call(
    home: Path, directory: Path
) -> None:
    remember_profile(home, "mine")
    assert resolved(home, directory).profile == "mine"
    (home / FILE).write_text(json.dumps({"user": "team"}))
    assert resolved(home, directory).profile == "team"


def test_a_directory_is_remembered_without_links(
    monkeypatch: pytest.MonkeyPatch, home: Path, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(directory)
    monkeypatch.chdir(tmp_path)
    use_profile("team", Path("link"))
    assert remembered_profiles(home).directories == {directory.resolve(): "team"}


def test_a_call_in_the_directory_uses_it_and_asks_prefect_for_it_alone(
    monkeypatch: pytest.MonkeyPatch, home: Path, directory: Path
) -> None:
    monkeypatch.setattr(places, "_last", [])
    environ = {"KINETIC_HOME": str(home), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    remember_profile(home, "team", directory.resolve())
    elsewhere = configure(load_settings(environ), environ, NullProgress(), directory=home)
    assert elsewhere.platform == "local"
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        configure(load_settings(environ), environ, NullProgress(), directory=directory.resolve())


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["use"], UsageError.exit_code, "which profile to use is not said"),
        (["use", "team", "--forget"], UsageError.exit_code, "--forget takes no profile"),
        (["use", "team", "--directory", "gone"], UsageError.exit_code, "no directory 'gone'"),
        (["create", "Team"], ConfigurationError.exit_code, "cannot be called 'Team'"),
        (["create", "t", "--set", "zone"], UsageError.exit_code, "is not NAME=VALUE"),
        (["create", "t", "--set", "zoen=x"], ConfigurationError.exit_code, "did you mean 'zone'"),
        (["create", "t", "--zone", "mars"], ConfigurationError.exit_code, "zone is 'mars'"),
        (["create", "t", "--update", "--overwrite"], UsageError.exit_code, "do not go together"),
        (["create", "t", "--current"], UsageError.exit_code, "nothing says where"),
        (["show"], PrefectServerError.exit_code, "has never run"),
    ],
)
def test_what_cannot_be_is_refused_before_prefect_is_asked(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.setattr(places, "_last", [])
    with pytest.raises(SystemExit) as ended:
        main(["profile", *arguments])
    printed = capsys.readouterr().err
    assert text in printed
    assert ended.value.code == code
    assert not (home / "prefect").exists()


def test_forgetting_needs_no_prefect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(places, "_last", [])
    remember_profile(home, "gone")
    remember_profile(home, "team", Path.cwd())
    with pytest.raises(SystemExit) as ended:
        main(["profile", "use", "--forget"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == (
        "no profile is remembered any more for you\n"
        f"here team is used: remembered for {Path.cwd()}\n"
    )
    assert remembered_profiles(home).user is None


def test_the_place_that_uses_one_is_looked_at_and_not_the_working_directory(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    directory: Path,
) -> None:
    monkeypatch.setattr(places, "_last", [])
    remember_profile(home, "mine", Path.cwd())
    remember_profile(home, "team", directory)
    with pytest.raises(SystemExit):
        main(["profile", "use", "--forget", "--directory", str(directory.parent)])
    assert capsys.readouterr().out == (
        f"no profile is remembered any more for {directory.parent}\n"
    )


def test_settings_are_shown_without_a_server_where_the_project_runs_on_this_machine(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    directory: Path,
) -> None:
    monkeypatch.setattr(places, "_last", [])
    monkeypatch.chdir(directory)
    Path("pyproject.toml").write_text('[tool.kinetic]\nplatform = "local"\n')
    remember_profile(home, "mine")
    with pytest.raises(SystemExit) as ended:
        main(["config", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["platform"]["value"] == "local"


def test_without_a_server_there_is_no_profile_and_none_is_started(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "ls"])
    assert ended.value.code == 0
    assert "`kinetic profile create NAME --project ID` saves one" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["profile", "rm", "team", "--yes"])
    assert ended.value.code == ConfigurationError.exit_code
    assert not (home / "prefect").exists()


def test_what_counts_now_can_be_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_last", [])
    monkeypatch.setenv("KINETIC_PROJECT", "my-project")
    monkeypatch.setenv("KINETIC_RETENTION_DAYS", "5")
    assert in_force() == {"project": "my-project", "retention_days": 5}
    assert pairs(["KINETIC_ZONE=us-east1-b", 'job_variables={"a": "b=c"}']) == {
        "zone": "us-east1-b",
        "job_variables": '{"a": "b=c"}',
    }
