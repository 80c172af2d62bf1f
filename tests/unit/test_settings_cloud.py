"""The settings of Google Cloud: who wins, what is refused, and what is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from kinetic_flows.cli import main
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.settings import (
    Settings,
    describe_settings,
    load_settings,
    resolve_settings,
)
from kinetic_flows.core.settings.table import DEFAULT, Profile, Source, rows
from kinetic_flows.images import tags

PROJECT = {"KINETIC_PROJECT": "my-project-1"}


class SavedInMemory:
    """Profiles in a dictionary; remembers what it was asked for."""

    def __init__(self, **saved: Mapping[str, object]) -> None:
        self.saved = saved
        self.asked: list[str] = []

    def load(self, name: str) -> Profile | None:
        self.asked.append(name)
        return Profile(name=name, values=self.saved[name]) if name in self.saved else None

    def names(self) -> tuple[str, ...]:
        return tuple(self.saved)


def _resolved(
    profiles: SavedInMemory,
    environ: Mapping[str, str],
    arguments: Mapping[str, str] | None = None,
) -> Settings:
    local = load_settings(environ)
    return resolve_settings(local, profiles, environ=environ, arguments=arguments)


def _settings(
    environ: Mapping[str, str],
    arguments: Mapping[str, str] | None = None,
    **saved: Mapping[str, object],
) -> Settings:
    return _resolved(SavedInMemory(**saved), environ, arguments)


def _cloud(
    environ: Mapping[str, str],
    arguments: Mapping[str, str] | None = None,
    **saved: Mapping[str, object],
) -> CloudSettings:
    cloud = _settings(environ, arguments, **saved).cloud
    assert cloud is not None
    return cloud


def test_a_project_is_all_that_has_to_be_configured() -> None:
    cloud = _cloud(PROJECT)
    assert (cloud.zone, cloud.cluster, cloud.namespace, cloud.work_pool) == (
        "us-central1-a",
        "kinetic-cluster",
        "default",
        "kinetic-gke",
    )
    assert cloud.jobs_bucket == "my-project-1-kn-kinetic-cluster-jobs"
    assert cloud.builds_bucket == "my-project-1-kn-kinetic-cluster-builds"
    assert cloud.image_repo == "us-central1-docker.pkg.dev/my-project-1/kn-kinetic-cluster"
    assert (cloud.base_image_repo, cloud.base_repository) == ("kinetic", None)
    assert cloud.storage_endpoint is None
    assert (cloud.retention_days, cloud.dispatch) == (30, "auto")


def test_arguments_beat_the_environment_which_beats_the_profile_which_beats_defaults() -> None:
    arguments: dict[str, str] = {}
    environ = {"KINETIC_PROFILE": "team"}
    team: dict[str, object] = {"project": "my-project-1"}
    seen = []
    for step in ("default", "profile", "environment", "argument"):
        if step == "profile":
            team["zone"] = "us-east1-b"
        elif step == "environment":
            environ["KINETIC_ZONE"] = "us-east1-c"
        elif step == "argument":
            arguments["zone"] = "us-east1-d"
        cloud = _cloud(environ, arguments, team=team)
        seen.append((cloud.zone, str(cloud.sources["zone"])))
    assert seen == [
        ("us-central1-a", "default"),
        ("us-east1-b", "profile team"),
        ("us-east1-c", "environment KINETIC_ZONE"),
        ("us-east1-d", "argument zone="),
    ]


VALUES = {
    "project": ("my-project-1", "my-project-1"),
    "zone": ("europe-west4-b", "europe-west4-b"),
    "cluster": ("training", "training"),
    "namespace": ("team-a", "team-a"),
    "work_pool": ("My pool", "My pool"),
    "pods_api_url": ("http://prefect.prefect.svc/api/", "http://prefect.prefect.svc/api"),
    "base_image_repo": ("my-user/bases", "my-user/bases"),
    "base_image_tag": ("v2.0.0", "v2.0.0"),
    "jobs_bucket": ("my-jobs", "my-jobs"),
    "builds_bucket": ("my.builds", "my.builds"),
    "image_repo": ("us-docker.pkg.dev/p/images", "us-docker.pkg.dev/p/images"),
    "builder": ("Cloud-Build", "cloud-build"),
    "build_location": ("us-central1", "us-central1"),
    "build_service_account": ("b@p.iam.gserviceaccount.com", "b@p.iam.gserviceaccount.com"),
    "build_machine_type": ("e2-highcpu-8", "E2_HIGHCPU_8"),
    "build_timeout_seconds": ("7200", 7200),
    "cloud_build_endpoint": ("http://127.0.0.1:8123/", "http://127.0.0.1:8123"),
    "secret_manager_endpoint": ("secrets.internal:443", "secrets.internal:443"),
    "api_endpoints": (
        "container=gke.internal:443,iam=http://127.0.0.1:9",
        {"container": "gke.internal:443", "iam": "http://127.0.0.1:9"},
    ),
    "artifact_registry_endpoint": ("artifacts.internal:443", "artifacts.internal:443"),
    "storage_endpoint": ("storage.internal", "https://storage.internal"),
    "registry_endpoints": (
        "a.dev=http://127.0.0.1:5000, b.dev=b.internal:5000",
        {"a.dev": "http://127.0.0.1:5000", "b.dev": "https://b.internal:5000"},
    ),
    "registry_logins": (
        "a.dev=user:token, docker.io=projects/p/secrets/u:t",
        {"a.dev": "user:token", "docker.io": "projects/p/secrets/u:t"},
    ),
    "retention_days": ("7", 7),
    "dispatch": ("Worker", "worker"),
    "reservation": ("projects/p/reservations/h100s", "projects/p/reservations/h100s"),
    "compute_class": ("Performance", "Performance"),
    "node_pool": ("l4-pool", "l4-pool"),
    "zones": ("us-central1-a, us-central1-b", ("us-central1-a", "us-central1-b")),
    "prebuilt": ("Volume", "volume"),
    "job_variables": ('{"queue_name": "tpus"}', {"queue_name": "tpus"}),
    "prices": ('{"v6e:spot": 1.1, "H100": 8}', {"tpu-v6e:spot": 1.1, "h100": 8.0}),
}


@pytest.mark.parametrize("name", list(rows(CloudSettings)))
def test_every_setting_has_a_variable(name: str) -> None:
    written, value = VALUES[name]
    cloud = _cloud({**PROJECT, rows(CloudSettings)[name].variable: f" {written} "})
    assert getattr(cloud, name) == value
    assert cloud.sources[name] == Source("environment", f"KINETIC_{name.upper()}")


@pytest.mark.parametrize("name", list(rows(CloudSettings)))
def test_a_profile_can_set_every_setting(name: str) -> None:
    _, value = VALUES[name]
    cloud = _cloud({"KINETIC_PROFILE": "team"}, team={"project": "my-project-1", name: value})
    assert getattr(cloud, name) == value
    assert cloud.sources[name] == Source("profile", "team")


def test_buckets_and_repository_follow_project_zone_and_cluster() -> None:
    arguments = {"project": "other-project", "zone": "asia-east1-c", "cluster": "big"}
    cloud = _cloud(PROJECT, arguments)
    assert cloud.jobs_bucket == "other-project-kn-big-jobs"
    assert cloud.image_repo == "asia-east1-docker.pkg.dev/other-project/kn-big"
    assert cloud.region == "asia-east1"


def test_a_configured_base_repository_is_told_from_the_default() -> None:
    cloud = _cloud({**PROJECT, "KINETIC_BASE_IMAGE_REPO": "kinetic"})
    assert cloud.base_repository == "kinetic"
    assert _settings(PROJECT, {"base_image_repo": "mine"}).base_image_repo == "mine"


def test_storage_of_ones_own_beats_the_emulator_variable() -> None:
    emulator = {**PROJECT, "STORAGE_EMULATOR_HOST": "127.0.0.1:4443"}
    assert _cloud(emulator).storage_endpoint == "http://127.0.0.1:4443"
    both = {**emulator, "KINETIC_STORAGE_ENDPOINT": "https://storage.internal"}
    assert _cloud(both).storage_endpoint == "https://storage.internal"


def test_googles_project_variable_comes_after_the_profile() -> None:
    environ = {"KINETIC_PROFILE": "team", "GOOGLE_CLOUD_PROJECT": "google-project"}
    assert _cloud(environ, team={"project": "team-project"}).project == "team-project"
    filled = _cloud(environ, team={})
    assert filled.project == "google-project"
    assert filled.sources["project"] == Source("environment", "GOOGLE_CLOUD_PROJECT")


@pytest.mark.parametrize("option", ["project", "cluster"])
def test_a_project_or_a_cluster_in_the_decorator_means_google_cloud(option: str) -> None:
    settings = _settings({"GOOGLE_CLOUD_PROJECT": "my-project-1"}, {option: "training"})
    assert settings.platform == "gke"
    assert settings.sources["platform"] == Source("argument", f"{option}=")


def test_a_zone_in_the_decorator_alone_does_not() -> None:
    assert _settings({}, {"zone": "us-east1-b"}).platform == "local"


def test_on_this_machine_no_profile_is_looked_up_and_no_cloud_setting_is_checked() -> None:
    profiles = SavedInMemory()
    environ = {"KINETIC_PLATFORM": "local", "KINETIC_PROFILE": "gone", "KINETIC_ZONE": "mars"}
    settings = _resolved(profiles, environ, {"cluster": "x"})
    assert (settings.platform, settings.cloud, profiles.asked) == ("local", None, [])


def test_a_platform_that_is_neither_is_left_alone() -> None:
    profiles = SavedInMemory()
    other = replace(load_settings({"KINETIC_PLATFORM": "local"}), platform=cast("Any", "other"))
    given = {"project": "my-project-1", "cluster": "x"}
    assert resolve_settings(other, profiles, environ=PROJECT, arguments=given) == other
    assert profiles.asked == []


def test_without_a_profile_none_is_looked_up() -> None:
    profiles = SavedInMemory()
    _resolved(profiles, PROJECT, {"zone": "us-east1-b"})
    assert profiles.asked == []


def test_a_cluster_that_names_a_profile_stands_for_all_of_it() -> None:
    settings = _settings(
        {"KINETIC_PROFILE": "other"},
        {"cluster": "team"},
        team={"project": "team-project", "cluster": "training"},
        other={"project": "other-project"},
    )
    assert settings.cloud is not None
    assert (settings.profile, settings.project) == ("team", "team-project")
    assert settings.cloud.cluster == "training"


def test_a_cluster_that_names_no_profile_is_a_cluster_of_the_active_one() -> None:
    settings = _settings(
        {"KINETIC_PROFILE": "team"},
        {"cluster": "big"},
        team={"project": "team-project", "cluster": "training"},
    )
    assert settings.cloud is not None
    assert (settings.profile, settings.cloud.cluster) == ("team", "big")


def test_an_unknown_profile_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="KINETIC_PROFILE is 'taem'") as caught:
        _settings({"KINETIC_PROFILE": "taem"}, team={})
    assert "did you mean 'team'" in str(caught.value.hint)


def test_with_no_profile_saved_the_hint_says_how_to_save_one() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _settings({"KINETIC_PROFILE": "team"})
    assert "KineticCluster(project=...).save('team')" in str(caught.value.hint)


@pytest.mark.parametrize(
    "way",
    ["KINETIC_PROJECT", "GOOGLE_CLOUD_PROJECT", "project=", "KINETIC_PROFILE", "cluster=", "local"],
)
def test_a_missing_project_names_every_way_to_set_it(way: str) -> None:
    with pytest.raises(ConfigurationError, match="no Google Cloud project") as caught:
        _settings({"KINETIC_PLATFORM": "gke"})
    assert way in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("project", "mine", "project's id"),
        ("project", "123456789012", "a project's number"),
        ("project", "My-Project", "project's id"),
        ("zone", "us-central", "us-central1-a"),
        ("zone", "us-central1_a", "us-central1-a"),
        ("cluster", "My_Cluster", "lower-case"),
        ("cluster", "c" * 41, "up to 40"),
        ("namespace", "team.a", "up to 63"),
        ("work_pool", "a/b", "kinetic prefect work-pool ls"),
        ("base_image_repo", "kinetic:v1/x", "without a tag"),
        ("base_image_tag", ":v2", "the tag alone"),
        ("base_image_tag", "kinetic/base:v2", "the tag alone"),
        ("base_image_tag", "v" * 129, "the tag alone"),
        ("jobs_bucket", "gs://mine", "without gs://"),
        ("builds_bucket", "ab", "3 to 63"),
        ("image_repo", "us-docker.pkg.dev/p/r@sha256:0", "without a tag"),
        ("build_location", "us-central1-a", "global"),
        ("build_service_account", "builder", "iam.gserviceaccount.com"),
        ("build_machine_type", "big", "E2_HIGHCPU_8"),
        ("build_timeout_seconds", "0", "at most 86400"),
        ("build_timeout_seconds", "86401", "at most 86400"),
        ("build_timeout_seconds", "1h", "whole number of seconds"),
        ("cloud_build_endpoint", "grpc://host", "host:port"),
        ("secret_manager_endpoint", "two words", "host:port"),
        ("storage_endpoint", "https://", "host:port"),
        ("retention_days", "-1", "whole number of days"),
        ("dispatch", "clinet", "did you mean 'client'"),
        ("builder", "clod-build", "did you mean 'cloud-build'"),
    ],
)
def test_a_malformed_value_is_refused_with_its_variable_and_a_hint(
    name: str, value: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _cloud({**PROJECT, rows(CloudSettings)[name].variable: value})
    assert rows(CloudSettings)[name].variable in caught.value.message
    assert repr(value) in caught.value.message
    assert caught.value.value == value
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("value", ["us-docker.pkg.dev", "us-docker.pkg.dev=", "=http://x", "a b=c"])
def test_a_malformed_registry_endpoint_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="KINETIC_REGISTRY_ENDPOINTS") as caught:
        _cloud({**PROJECT, "KINETIC_REGISTRY_ENDPOINTS": value})
    assert "host=url" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["cloud_build_endpoint", "storage_endpoint"])
def test_a_password_in_an_endpoint_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(ConfigurationError, match="user name") as caught:
        _cloud({**PROJECT, rows(CloudSettings)[name].variable: "https://me:hunter2@host"})
    assert "hunter2" not in f"{caught.value} {caught.value.value}"


def test_an_error_names_the_argument_or_the_profile_that_is_wrong() -> None:
    with pytest.raises(ConfigurationError, match="zone= is 'mars'"):
        _cloud(PROJECT, {"zone": "mars"})
    with pytest.raises(ConfigurationError, match="zone of profile 'team' is 'mars'"):
        _cloud({**PROJECT, "KINETIC_PROFILE": "team"}, team={"zone": "mars"})


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("us-central1-a", "us-central1"),
        ("us-central1", "us-central1"),
        ("us-central1-ai1a", "us-central1"),
        ("northamerica-northeast1-b", "northamerica-northeast1"),
    ],
)
def test_the_region_of_a_zone(zone: str, region: str) -> None:
    assert _cloud({**PROJECT, "KINETIC_ZONE": zone}).region == region


def test_a_bucket_of_long_names_is_shortened_and_stays_its_own() -> None:
    project, cluster = "p" * 30, "c" * 40
    names = {
        cloud_names.jobs_bucket(project, cluster),
        cloud_names.builds_bucket(project, cluster),
        cloud_names.jobs_bucket(project, cluster[:-1] + "d"),
    }
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)
    assert cloud_names.jobs_bucket(project, cluster) == (
        "pppppppppppppppppppppppppppppp-kn-ccccccccccccccc-31153096-jobs"
    )


def test_an_organisations_old_project_has_valid_names() -> None:
    cloud = _cloud({"KINETIC_PROJECT": "example.com:my-project"})
    assert cloud.jobs_bucket == "example-com-my-project-kn-kinetic-cluster-jobs"
    assert cloud.image_repo.endswith("pkg.dev/example.com/my-project/kn-kinetic-cluster")


def test_the_image_of_a_project_is_named_by_category_and_hash() -> None:
    name = tags.project_image("us-docker.pkg.dev/p/kn-c", "tpu", "0123456789abcdef")
    assert name == "us-docker.pkg.dev/p/kn-c/app:tpu-0123456789ab"


def test_every_setting_is_described_once_with_its_source() -> None:
    described = describe_settings(_settings({**PROJECT, "KINETIC_QUIET": "1"}))
    named = {row.name: row for row in described}
    assert len(named) == len(described)
    assert set(rows(CloudSettings)) <= set(named)
    assert named["quiet"].source == Source("environment", "KINETIC_QUIET")
    assert named["project"].source == Source("environment", "KINETIC_PROJECT")
    assert named["platform"].source == Source("environment", "KINETIC_PROJECT")
    assert named["home"].source == DEFAULT


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["config", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_kinetic_config_prints_each_value_with_its_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KINETIC_PROJECT", "my-project-1")
    monkeypatch.setenv("KINETIC_REGISTRY_ENDPOINTS", "a.dev=http://127.0.0.1:5000")
    lines = {line.split()[0]: line.split()[1:] for line in _printed(capsys).splitlines()}
    assert lines["project"] == ["my-project-1", "environment", "KINETIC_PROJECT"]
    assert lines["cluster"] == ["kinetic-cluster", "default"]
    assert lines["registry_endpoints"][0] == "a.dev=http://127.0.0.1:5000"
    assert lines["build_machine_type"] == ["-", "default"]
    assert lines["quiet"] == ["no", "default"]


def test_kinetic_config_prints_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KINETIC_PROJECT", "my-project-1")
    shown: dict[str, Any] = json.loads(_printed(capsys, "--json"))
    source = {"kind": "environment", "name": "KINETIC_PROJECT"}
    assert shown["project"] == {"value": "my-project-1", "source": source}
    assert shown["retention_days"] == {"value": 30, "source": {"kind": "default", "name": None}}
    assert shown["registry_endpoints"]["value"] == {}


def test_kinetic_config_on_this_machine_shows_no_cloud(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = json.loads(_printed(capsys, "--json"))
    assert shown["platform"]["value"] == "local"
    assert shown["home"]["source"] == {"kind": "environment", "name": "KINETIC_HOME"}
    assert "zone" not in shown


def test_settings_without_a_profile_import_neither_prefect_nor_google() -> None:
    code = (
        "import sys; from kinetic_flows.runs.session import configure;"
        "from kinetic_flows.core.progress import NullProgress;"
        "from kinetic_flows.core.settings.settings import load_settings;"
        "environ = {'KINETIC_PROJECT': 'my-project-1'};"
        "configure(load_settings(environ), environ, NullProgress());"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'prefect', 'google', 'kubernetes_asyncio', 'pydantic', 'httpx'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("written", ["a.dev", "a.dev=user", "a.dev=me:pass word", "a b=u:t"])
def test_a_registry_login_that_names_no_two_secrets_is_refused_and_not_repeated(
    written: str,
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        _cloud({**PROJECT, "KINETIC_REGISTRY_LOGINS": written})
    assert "registry.example.com=registry-user:registry-token" in str(refused.value.hint)
    assert "pass word" not in str(refused.value)
