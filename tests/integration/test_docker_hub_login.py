"""Docker Hub's login: checked with its token server, kept in Secret Manager, read by builds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest

from kinetic_flows.clients.google.secret_manager import SecretManager
from kinetic_flows.clients.registry.credentials import RegistryCredentials
from kinetic_flows.core.errors import RegistryAccessError, SecretError
from kinetic_flows.platforms.gke.builds.docker_hub import (
    DOCKER_HUB_TOKEN_SECRET,
    StoredLogin,
    check_login,
)
from loopback.cloud_build import CloudBuildServer, Status
from loopback.grpc_services import CallFault
from loopback.registry import RegistryFront
from loopback.wire import Fault

pytest_plugins = ["loopback.fixtures"]

LOGIN = RegistryCredentials(username="someone", password="dckr_pat_1")


@pytest.fixture
def server() -> Iterator[CloudBuildServer]:
    server = CloudBuildServer(lambda _: Status.SUCCESS).start()
    yield server
    server.stop()


@pytest.fixture
def secrets(server: CloudBuildServer) -> Iterator[SecretManager]:
    with closing(SecretManager("project", endpoint=server.endpoint, call_seconds=5)) as secrets:
        yield secrets


def test_a_login_is_kept_as_new_versions_and_read_back(
    secrets: SecretManager, server: CloudBuildServer
) -> None:
    stored = StoredLogin(secrets=secrets)
    assert not stored.exists()
    assert stored.read() is None

    stored.store(LOGIN)
    stored.store(RegistryCredentials(username="someone", password="dckr_pat_2"))

    assert stored.exists()
    assert stored.find("docker.io") == RegistryCredentials(
        username="someone", password="dckr_pat_2"
    )
    assert stored.find("us-docker.pkg.dev") is None
    assert secrets.latest(DOCKER_HUB_TOKEN_SECRET) == (
        f"projects/project/secrets/{DOCKER_HUB_TOKEN_SECRET}/versions/2"
    )
    login = stored.build_login("project")
    assert server.secrets.content(login.password_version) == b"dckr_pat_2"
    assert server.secrets.content(login.username_version) == b"someone"


def test_a_login_that_is_not_ours_to_read_still_serves_builds(
    secrets: SecretManager, server: CloudBuildServer
) -> None:
    stored = StoredLogin(secrets=secrets)
    stored.store(LOGIN)
    denied = CallFault(
        method="AccessSecretVersion", code=grpc.StatusCode.PERMISSION_DENIED, times=5
    )

    with server.server.fault(denied):
        assert stored.exists()
        assert stored.read() is None


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "injected", "roles/secretmanager.admin"),
        (
            grpc.StatusCode.PERMISSION_DENIED,
            "Secret Manager API has not been used in project",
            "gcloud services enable secretmanager.googleapis.com --project=project",
        ),
        (grpc.StatusCode.UNAUTHENTICATED, "no", "gcloud auth application-default login"),
        (grpc.StatusCode.INTERNAL, "no", "run again"),
    ],
)
def test_what_secret_manager_refuses_names_its_remedy(
    secrets: SecretManager,
    server: CloudBuildServer,
    code: grpc.StatusCode,
    words: str,
    hint: str,
) -> None:
    fault = CallFault(method="AddSecretVersion", code=code, message=words, times=9)
    with server.server.fault(fault), pytest.raises(SecretError, match=hint) as raised:
        StoredLogin(secrets=secrets).store(LOGIN)
    assert LOGIN.password not in str(raised.value)


def test_docker_hub_is_asked_before_a_login_is_believed(docker_hub: RegistryFront) -> None:
    endpoints = {"docker.io": docker_hub.url}
    docker_hub.accounts["someone"] = "dckr_pat_1"

    check_login(LOGIN, endpoints=endpoints, remedy="do something")
    docker_hub.accounts["someone"] = "another"

    with pytest.raises(RegistryAccessError, match="do something") as raised:
        check_login(LOGIN, endpoints=endpoints, remedy="do something")
    assert LOGIN.password not in str(raised.value)


def test_a_docker_hub_that_does_not_answer_is_no_wrong_login(docker_hub: RegistryFront) -> None:
    fault = Fault(kind="status", status=404, times=9, path="/token")
    with (
        docker_hub.server.fault(fault),
        pytest.raises(RegistryAccessError, match="cannot be asked"),
    ):
        check_login(LOGIN, endpoints={"docker.io": docker_hub.url}, remedy="")
