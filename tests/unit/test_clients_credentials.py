"""Registry credentials, as Docker and Google keep them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from kinetic_flows.clients.registry.credentials import (
    DockerConfig,
    FirstFound,
    GoogleRegistryCredentials,
    RegistryCredentials,
    default_credentials,
)
from kinetic_flows.core.errors import ImageError


def config_with(path: Path, content: object) -> DockerConfig:
    file = path / "config.json"
    file.write_text(json.dumps(content))
    return DockerConfig(path=file, environment={"PATH": f"{path}:/usr/bin:/bin"})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("key", ["ghcr.io", "https://ghcr.io", "https://ghcr.io/v1/"])
def test_a_login_is_found_under_any_of_its_names(tmp_path: Path, key: str) -> None:
    config = config_with(tmp_path, {"auths": {key: {"auth": encoded("me:pass:word")}}})

    assert config.find("ghcr.io") == RegistryCredentials(username="me", password="pass:word")
    assert config.find("gcr.io") is None


def test_docker_hubs_login_is_under_its_old_name(tmp_path: Path) -> None:
    auths = {"https://index.docker.io/v1/": {"auth": encoded("me:token")}}
    config = config_with(tmp_path, {"auths": auths})

    assert config.find("docker.io") == RegistryCredentials(username="me", password="token")


def test_an_identity_token_is_a_refresh_token(tmp_path: Path) -> None:
    config = config_with(tmp_path, {"auths": {"r.io": {"identitytoken": "t"}}})

    assert config.find("r.io") == RegistryCredentials(refresh_token="t")


def test_a_credential_helper_is_asked(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-vault"
    helper.write_text(
        '#!/bin/sh\nread host\necho "{\\"Username\\": \\"$1\\", \\"Secret\\": \\"for $host\\"}"\n'
    )
    helper.chmod(0o755)
    config = config_with(tmp_path, {"credHelpers": {"r.io": "vault"}})

    assert config.find("r.io") == RegistryCredentials(username="get", password="for r.io")


def test_a_helper_that_is_not_installed_means_no_credentials(tmp_path: Path) -> None:
    config = config_with(tmp_path, {"credsStore": "nowhere", "auths": {"r.io": {}}})

    assert config.find("r.io") is None


def test_no_configuration_means_no_credentials(tmp_path: Path) -> None:
    assert DockerConfig(path=tmp_path / "none.json").find("r.io") is None


def test_a_configuration_that_is_not_json_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("{")

    with pytest.raises(ImageError, match=r"config\.json"):
        DockerConfig(path=file).find("r.io")


@pytest.mark.parametrize("host", ["us-docker.pkg.dev", "gcr.io", "eu.gcr.io"])
def test_googles_registries_get_an_access_token(host: str) -> None:
    source = GoogleRegistryCredentials(token=lambda: "ya29")

    assert source.find(host) == RegistryCredentials(username="oauth2accesstoken", password="ya29")


@pytest.mark.parametrize(
    "host", ["docker.io", "evil-docker.pkg.dev.example.com", "ghcr.io", "evilgcr.io"]
)
def test_nobody_else_is_ever_sent_an_access_token(host: str) -> None:
    def never() -> str:
        raise AssertionError("asked for a token")

    assert GoogleRegistryCredentials(token=never).find(host) is None


def test_the_first_source_that_knows_a_registry_is_believed(tmp_path: Path) -> None:
    config = config_with(tmp_path, {"auths": {"gcr.io": {"auth": encoded("me:mine")}}})
    sources = FirstFound(sources=(config, GoogleRegistryCredentials(token=lambda: "ya29")))

    assert sources.find("gcr.io") == RegistryCredentials(username="me", password="mine")
    assert sources.find("eu.gcr.io") is not None
    assert sources.find("r.io") is None


def test_a_registry_that_something_else_stands_for_sees_no_access_token(tmp_path: Path) -> None:
    endpoints = {"us-docker.pkg.dev": "http://127.0.0.1:5000"}
    sources = default_credentials(tmp_path / "none.json", {}, endpoints)

    assert sources.find("us-docker.pkg.dev") is None


def test_credentials_do_not_show_in_their_repr() -> None:
    shown = repr(RegistryCredentials(username="me", password="secret", refresh_token="hidden"))

    assert "secret" not in shown
    assert "hidden" not in shown
