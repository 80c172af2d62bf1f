"""Clusters saved in a real Prefect server, and used as profiles."""

from __future__ import annotations

import asyncio
import json
import pickle
from pathlib import Path
from uuid import uuid4

import pytest
from kinetic_flows.blocks import ImageRepository, KineticBuildCache, KineticCluster
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_gcp import GcpCredentials

import kinetic
from kinetic_flows.cli import main
from kinetic_flows.clients.prefect.build_cache import shared_build_cache
from kinetic_flows.core.errors import ConfigurationError, PrefectServerError
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import Settings, load_settings
from kinetic_flows.core.settings.table import Source
from kinetic_flows.platforms.gke.registries import registry_credentials
from kinetic_flows.runs.profiles import save_profile, saved_profiles
from kinetic_flows.runs.session import configure
from service_accounts import ACCOUNT, service_account_info


@pytest.fixture
def profile(prefect_api_url: str) -> str:
    """A saved cluster, by its name."""
    return _saved(prefect_api_url, GcpCredentials(service_account_info=service_account_info()))


def _saved(api_url: str, credentials: GcpCredentials) -> str:
    """Save a cluster with credentials of its own, and return its name."""
    name = f"team-{uuid4().hex[:8]}"
    with temporary_settings({PREFECT_API_URL: api_url}):
        credentials.save(f"{name}-credentials")
        KineticCluster.register_type_and_schema()
        KineticCluster(
            project="my-project-1",
            zone="europe-west4-b",
            cluster="training",
            retention_days=7,
            registry_endpoints={"europe-west4-docker.pkg.dev": "https://10.0.0.5"},
            gcp_credentials=GcpCredentials.load(f"{name}-credentials"),
        ).save(name)
    return name


def _configured(api_url: str, *, arguments: dict[str, str] | None = None, **env: str) -> Settings:
    environ = {"PREFECT_API_URL": api_url, **env}
    return configure(load_settings(environ), environ, NullProgress(), arguments)


def test_a_profile_named_by_the_environment_decides_what_nothing_else_does(
    profile: str, prefect_api_url: str
) -> None:
    settings = _configured(prefect_api_url, KINETIC_PROFILE=profile, KINETIC_ZONE="us-east5-a")
    cloud = settings.cloud
    assert cloud is not None
    assert (settings.platform, settings.profile) == ("gke", profile)
    assert (cloud.project, cloud.cluster, cloud.retention_days) == ("my-project-1", "training", 7)
    assert cloud.registry_endpoints == {"europe-west4-docker.pkg.dev": "https://10.0.0.5"}
    assert cloud.jobs_bucket == "my-project-1-kn-training-jobs"
    assert cloud.sources["project"] == Source("profile", profile)
    assert cloud.sources["zone"] == Source("environment", "KINETIC_ZONE")
    assert cloud.sources["namespace"] == Source("default")


def test_a_profile_named_as_the_cluster_is_found(profile: str, prefect_api_url: str) -> None:
    settings = _configured(prefect_api_url, arguments={"cluster": profile})
    assert settings.profile == profile
    assert settings.sources["profile"] == Source("argument", "cluster=")
    assert settings.cloud is not None
    assert settings.cloud.cluster == "training"


def test_a_cluster_that_is_no_profile_is_a_cluster(prefect_api_url: str) -> None:
    settings = _configured(
        prefect_api_url, arguments={"cluster": "plain"}, KINETIC_PROJECT="my-project-1"
    )
    assert settings.cloud is not None
    assert (settings.cloud.cluster, settings.profile) == ("plain", None)


def test_a_profile_brings_its_google_credentials_and_shows_nothing_of_them(
    profile: str, prefect_api_url: str
) -> None:
    settings = _configured(prefect_api_url, KINETIC_PROFILE=profile)
    assert settings.cloud is not None
    credentials = settings.cloud.credentials
    assert credentials is not None
    assert credentials.name == f"{profile}-credentials"
    assert credentials.load().service_account_email == ACCOUNT
    assert "PRIVATE KEY" not in repr(settings) + repr(settings.cloud) + repr(credentials)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A service account's key."""
    path = tmp_path / "key.json"
    path.write_text(json.dumps(service_account_info()))
    return path


def test_a_profile_whose_key_file_is_not_here_is_refused_without_showing_values(
    prefect_api_url: str, key_file: Path
) -> None:
    name = _saved(prefect_api_url, GcpCredentials(service_account_file=key_file))
    key_file.unlink()
    with pytest.raises(ConfigurationError, match=f"profile '{name}' cannot be used") as caught:
        _configured(prefect_api_url, KINETIC_PROFILE=name)
    assert "gcp_credentials.service_account_file" in caught.value.message
    assert str(key_file) not in caught.value.message
    assert "overwrite=True" in str(caught.value.hint)


def test_a_profile_whose_credentials_are_found_nowhere_is_refused(
    prefect_api_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    name = _saved(prefect_api_url, GcpCredentials(project="my-project-1"))
    key_file.unlink()
    with pytest.raises(ConfigurationError, match=f"profile '{name}' cannot be used"):
        _configured(prefect_api_url, KINETIC_PROFILE=name)


def test_credentials_that_break_after_they_were_loaded_are_refused_by_name(
    prefect_api_url: str, key_file: Path
) -> None:
    name = _saved(prefect_api_url, GcpCredentials(service_account_file=key_file))
    cloud = _configured(prefect_api_url, KINETIC_PROFILE=name).cloud
    assert cloud is not None
    assert cloud.credentials is not None
    key_file.write_text("{}")
    with pytest.raises(ConfigurationError, match=f"'{name}-credentials' cannot be used"):
        cloud.credentials.load()


def test_the_build_cache_of_a_profile_refers_to_its_credentials_and_copies_nothing_of_them(
    profile: str, prefect_api_url: str
) -> None:
    cloud = _configured(prefect_api_url, KINETIC_PROFILE=profile).cloud
    assert cloud is not None
    with temporary_settings({PREFECT_API_URL: prefect_api_url}):
        saved = shared_build_cache(cloud, prefect_api_url)
        assert saved is shared_build_cache(cloud, prefect_api_url)
        assert isinstance(saved, KineticBuildCache)
        loaded = KineticBuildCache.load(str(saved._block_document_name), _sync=True)
        with get_client(sync_client=True) as client:
            document = client.read_block_document(saved._block_document_id, include_secrets=True)
        credentials = loaded._objects()._credentials

    assert loaded.bucket == "my-project-1-kn-training-jobs"
    assert credentials.service_account_email == ACCOUNT
    assert document.data["profile"] == profile
    assert "PRIVATE KEY" not in str(document.data)


def test_settings_with_credentials_can_be_pickled(profile: str, prefect_api_url: str) -> None:
    cloud = _configured(prefect_api_url, KINETIC_PROFILE=profile).cloud
    restored = pickle.loads(pickle.dumps(cloud))
    assert restored.credentials.load().service_account_email == ACCOUNT


def test_a_misspelt_profile_is_refused_with_the_saved_ones(
    profile: str, prefect_api_url: str
) -> None:
    with pytest.raises(ConfigurationError, match="no profile of that name") as caught:
        _configured(prefect_api_url, KINETIC_PROFILE=f"{profile}x")
    assert f"did you mean '{profile}'" in str(caught.value.hint)


def test_a_prefect_that_does_not_answer_is_not_a_missing_profile() -> None:
    with pytest.raises(PrefectServerError, match=r"127\.0\.0\.1:9"):
        _configured("http://127.0.0.1:9/api", KINETIC_PROFILE="team")


def test_a_profile_can_be_named_inside_an_event_loop(profile: str, prefect_api_url: str) -> None:
    async def inside() -> Settings:
        return _configured(prefect_api_url, KINETIC_PROFILE=profile)

    assert asyncio.run(inside()).profile == profile


def test_kinetic_config_shows_the_profile_as_the_source(
    profile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KINETIC_PROFILE", profile)
    with pytest.raises(SystemExit) as ended:
        main(["config", "--json"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    shown = json.loads(text)
    from_profile = {"kind": "profile", "name": profile}
    assert shown["project"] == {"value": "my-project-1", "source": from_profile}
    assert shown["credentials"] == {"value": f"{profile}-credentials", "source": from_profile}
    assert shown["retention_days"]["value"] == 7
    assert "PRIVATE KEY" not in text


def test_a_decorator_can_name_the_profile(profile: str, prefect_api_url: str) -> None:
    @kinetic.run(cluster=profile, zone="us-east5-a")
    def train() -> None: ...

    settings = _configured(prefect_api_url, arguments=dict(train.options.cloud))
    assert settings.cloud is not None
    assert (settings.profile, settings.cloud.project) == (profile, "my-project-1")
    assert settings.cloud.sources["zone"] == Source("argument", "zone=")


@pytest.fixture
def with_repositories(prefect_api_url: str) -> str:
    """A saved cluster whose images are in saved repositories, by its name."""
    name = f"team-{uuid4().hex[:8]}"
    with temporary_settings({PREFECT_API_URL: prefect_api_url}):
        ImageRepository(
            repository="registry.example.com/ml/kinetic",
            username="robot",
            password="hunter2",
            build_login="registry-user:registry-token",
        ).save(f"{name}-bases")
        ImageRepository(
            repository="us-docker.pkg.dev/my-project-1/images",
            gcp_credentials=GcpCredentials(service_account_info=service_account_info()),
        ).save(f"{name}-images")
        KineticCluster(
            project="my-project-1",
            base_images=ImageRepository.load(f"{name}-bases", _sync=True),
            images=ImageRepository.load(f"{name}-images", _sync=True),
            registry_logins={"docker.io": "u:t"},
        ).save(name)
    return name


def test_a_profiles_repositories_say_where_images_are_and_how_to_log_in(
    with_repositories: str, prefect_api_url: str, tmp_path: Path
) -> None:
    cloud = _configured(prefect_api_url, KINETIC_PROFILE=with_repositories).required_cloud()
    assert cloud.base_image_repo == "registry.example.com/ml/kinetic"
    assert cloud.image_repo == "us-docker.pkg.dev/my-project-1/images"
    assert cloud.registry_logins == {
        "docker.io": "u:t",
        "registry.example.com": "registry-user:registry-token",
    }
    assert cloud.sources["image_repo"] == Source("profile", with_repositories)
    assert "hunter2" not in repr(cloud)
    known = registry_credentials(
        {"DOCKER_CONFIG": str(tmp_path)}, pickle.loads(pickle.dumps(cloud))
    )
    login = known.find("registry.example.com")
    assert login is not None
    assert (login.username, login.password) == ("robot", "hunter2")
    assert known.find("docker.io") is None


def test_a_change_of_a_profile_leaves_its_repositories(
    with_repositories: str,
    prefect_api_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_api_url)
    assert save_profile(with_repositories, {"zone": "us-east1-b"}) == "changed"
    assert save_profile(with_repositories, {"zone": "us-east1-b"}) == "unchanged"
    cloud = _configured(prefect_api_url, KINETIC_PROFILE=with_repositories).required_cloud()
    assert (cloud.zone, set(cloud.logins)) == (
        "us-east1-b",
        {"registry.example.com", "us-docker.pkg.dev"},
    )
    (listed,) = [each for each in saved_profiles().listed() if each.name == with_repositories]
    assert listed.values["image_repo"] == "us-docker.pkg.dev/my-project-1/images"
    with pytest.raises(ConfigurationError, match="give one"):
        save_profile(with_repositories, {"image_repo": "us-docker.pkg.dev/my-project-1/others"})
