"""Registries are logged in to with what a profile carries, by Google's own login service."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from google.oauth2.service_account import Credentials
from kinetic_flows.blocks import ImageRepository
from prefect_gcp import GcpCredentials

from kinetic_flows.clients.prefect.profiles import BlockCredentials, BlockLogin
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings.cloud import CloudSettings, resolve_cloud
from kinetic_flows.platforms.gke.registries import registry_credentials
from loopback.google.server import LoopbackGoogle

pytest_plugins = ["loopback.fixtures"]

HOST = "us-docker.pkg.dev"


@pytest.fixture
def credentials(loopback_google: LoopbackGoogle) -> GcpCredentials:
    """A service account's key, which the loopback Google knows."""
    key = json.loads(loopback_google.key_file().read_text(encoding="utf-8"))
    return GcpCredentials(service_account_info=key)


@pytest.fixture
def cloud() -> CloudSettings:
    environ = {"KINETIC_PROJECT": "my-project-1"}
    return resolve_cloud(arguments={}, environ=environ, profile=None)


def found(cloud: CloudSettings, directory: Path) -> tuple[str, str]:
    login = registry_credentials({"DOCKER_CONFIG": str(directory)}, cloud).find(HOST)
    assert login is not None
    return login.username, login.password


def test_a_profiles_google_credentials_log_in_to_artifact_registry(
    credentials: GcpCredentials, cloud: CloudSettings, tmp_path: Path
) -> None:
    saved = BlockCredentials(name="team", profile="team", block=credentials)
    assert isinstance(saved.load(), Credentials)
    username, token = found(replace(cloud, credentials=saved), tmp_path)
    assert username == "oauth2accesstoken"
    assert token


def test_a_repositorys_google_credentials_come_before_what_docker_knows(
    credentials: GcpCredentials, cloud: CloudSettings, tmp_path: Path
) -> None:
    docker = {"auths": {HOST: {"username": "me", "password": "mine"}}}
    (tmp_path / "config.json").write_text(json.dumps(docker))
    assert found(cloud, tmp_path) == ("me", "mine")
    block = ImageRepository(repository=f"{HOST}/my-project-1/images", gcp_credentials=credentials)
    login = BlockLogin(name="images", block=block)
    username, token = found(replace(cloud, logins={HOST: login}), tmp_path)
    assert (username, token) != ("me", "mine")
    assert username == "oauth2accesstoken"


def test_a_login_that_is_refused_names_the_saved_repository(
    credentials: GcpCredentials, cloud: CloudSettings, loopback_google: LoopbackGoogle
) -> None:
    key = json.loads(loopback_google.key_file().read_text(encoding="utf-8"))
    key["token_uri"] = f"{loopback_google.url}/nowhere"
    block = ImageRepository(
        repository=f"{HOST}/my-project-1/images",
        gcp_credentials=GcpCredentials(service_account_info=key),
    )
    with pytest.raises(ConfigurationError, match="saved as 'images' cannot be used"):
        BlockLogin(name="images", block=block).load()
