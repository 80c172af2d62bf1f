"""The manifest of a worker in the cluster: complete, in its namespace, and for an API in reach."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.platforms.gke.worker_manifest import worker_manifest, worker_settings


def _made(**given: Any) -> list[dict[str, Any]]:
    made = worker_manifest(
        **{
            "pool": None,
            "namespace": None,
            "api_url": "https://prefect.example/api",
            "environ": {},
            **given,
        }
    )
    return list(yaml.safe_load_all(made.text))


def test_everything_is_in_the_namespace_and_for_the_work_pool() -> None:
    objects = _made(pool="teams-pool", namespace="research")
    assert [each["kind"] for each in objects] == [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "Deployment",
    ]
    assert {each["metadata"]["namespace"] for each in objects} == {"research"}
    (container,) = objects[-1]["spec"]["template"]["spec"]["containers"]
    assert container["args"][3:5] == ["--pool", "teams-pool"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables == {
        "PREFECT_API_URL": "https://prefect.example/api",
        "HOME": "/tmp",
        **worker_settings("research"),
    }


def test_the_defaults_are_the_ones_of_the_work_pool_that_ships() -> None:
    *_, deployment = _made()
    assert deployment["metadata"]["namespace"] == "default"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"][4] == "kinetic-gke"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:4242/api", "http://localhost:4200/api", "http://[::1]:4200/api"]
)
def test_an_api_of_this_machine_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot reach it") as refused:
        _made(api_url=url)
    assert "--api-url" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"api_url": "prefect.example/api"}, "no address"),
        ({"namespace": "Not A Namespace"}, "Not A Namespace"),
        ({"pool": "a/b"}, "a/b"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        _made(**given)


def test_the_apis_credentials_are_named_and_not_shown() -> None:
    made = worker_manifest(
        pool=None,
        namespace="research",
        api_url="https://prefect.example/api",
        environ={"PREFECT_API_KEY": "pnu_secret"},
    )
    assert any(
        '--namespace research --from-literal=PREFECT_API_KEY="$PREFECT_API_KEY"' in note
        for note in made.notes
    )
    assert "pnu_secret" not in made.text + "".join(made.notes)
