"""What a run asks Secret Manager for, over REST."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import patience, secret_values
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.prefect_api import ApiError
from kinetic_flows.runner_image.runner.secret_manager import access, grant
from kinetic_flows.runner_image.runner.secret_values import Around, open_secrets

from loopback.secret_manager import SecretManager
from loopback.secret_manager_rest import SecretManagerFront

SPEC = {
    "variable": "HF_TOKEN",
    "kind": "secret-manager",
    "name": "hf-token",
    "project": "p",
    "version": "latest",
    "masked": True,
}


@pytest.fixture
def server() -> Iterator[SecretManagerFront]:
    secrets = SecretManager()
    with secrets.holding(hf_token="a token", other="another"):
        front = SecretManagerFront(secrets).start()
        yield front
        front.stop()


def _environ(server: SecretManagerFront) -> dict[str, str]:
    return {"KINETIC_SECRET_MANAGER_ENDPOINT": server.endpoint}


def _open(server: SecretManagerFront, *specs: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    said: list[str] = []
    around = Around(_environ(server), None, None, said.append)  # type: ignore[arg-type]
    return open_secrets({"secrets": specs}, around), said


def test_a_version_is_read_by_its_whole_name(server: SecretManagerFront) -> None:
    assert access(SPEC, _environ(server)) == "a token"
    assert access({**SPEC, "version": "1"}, _environ(server)) == "a token"
    assert server.asked == [
        "/v1/projects/p/secrets/hf-token/versions/latest:access",
        "/v1/projects/p/secrets/hf-token/versions/1:access",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "absent"}, "there is no secret absent of project p, or no version latest"),
        ({"version": "7"}, "no version 7"),
    ],
)
def test_what_is_not_there_is_named(
    server: SecretManagerFront, change: dict[str, str], told: str
) -> None:
    with pytest.raises(ApiError, match=told) as caught:
        access({**SPEC, **change}, _environ(server))
    assert caught.value.is_final


def test_who_may_not_read_is_told_the_command_that_lets_it(server: SecretManagerFront) -> None:
    server.secrets.denied.add("projects/p/secrets/hf-token")
    with pytest.raises(Fault) as caught:
        _open(server, SPEC)
    told = caught.value.message
    assert told.startswith("HF_TOKEN: this run may not read the secret hf-token of project p")
    assert "gcloud secrets add-iam-policy-binding hf-token --project=p" in told
    assert "roles/secretmanager.secretAccessor" in told


def test_the_command_names_the_account_that_is_known() -> None:
    account = "runs@p.iam.gserviceaccount.com"
    assert f'--member="serviceAccount:{account}"' in grant("s", "p", account)


def test_what_arrives_damaged_is_not_used(server: SecretManagerFront) -> None:
    server.damages = True
    with pytest.raises(ApiError, match="arrived damaged"):
        access(SPEC, _environ(server))


def test_what_is_no_text_is_refused_without_showing_it(server: SecretManagerFront) -> None:
    server.secrets.add_bytes("projects/p/secrets/hf-token", b"\xff\xfekey")
    with pytest.raises(ApiError, match="is no text") as caught:
        access(SPEC, _environ(server))
    assert r"\xff" not in repr(caught.value)


def test_a_server_that_is_away_for_a_while_is_waited_for(
    server: SecretManagerFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.01)
    server.faults = [503, 429]
    values, said = _open(server, SPEC)
    assert values == {"HF_TOKEN": "a token"}
    assert len(said) == 1
    assert said[0].startswith("waiting for Secret Manager to tell hf-token")


def test_several_are_read_and_all_that_are_missing_named(server: SecretManagerFront) -> None:
    other = {**SPEC, "variable": "OTHER", "name": "other"}
    values, _ = _open(server, SPEC, other)
    assert values == {"HF_TOKEN": "a token", "OTHER": "another"}
    lacking = [{**SPEC, "variable": name, "name": f"no-{name}"} for name in ("ONE", "TWO")]
    with pytest.raises(Fault) as caught:
        _open(server, SPEC, *lacking)
    assert "ONE: there is no secret no-ONE" in caught.value.message
    assert "TWO: there is no secret no-TWO" in caught.value.message
    assert secret_values.masked_values({"secrets": [SPEC, other]}, values) == ["a token", "another"]
