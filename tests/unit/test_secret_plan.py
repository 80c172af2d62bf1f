"""Which secrets of a call its runs fetch, which are sealed for them, and what is shown of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from kinetic_flows.core.errors import SecretError, UsageError
from kinetic_flows.core.job_parts import SecretSpec
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.secret_sources import parse_secrets
from kinetic_flows.core.settings.settings import Settings, load_settings, resolve_settings
from kinetic_flows.plans.draft import Call, Draft, draft_call, with_arguments
from kinetic_flows.plans.secret_look import (
    FoundSecrets,
    Surroundings,
    look_for_secrets,
    plan_secrets,
    read_again,
)
from kinetic_flows.plans.secrets import (
    hidden_values,
    masked,
    secret_specs,
    secret_words,
    shown_value,
    with_identities,
)
from kinetic_flows.platforms.choose import choose_platform
from loopback.grpc_services import CallFault, GrpcServer
from loopback.secret_manager import SERVICE, SecretManager

SECRETS = {
    "HF_TOKEN": "secret-manager:hf-token",
    "OTHER": "secret-manager:projects/q/secrets/other/versions/3",
    "WANDB_API_KEY": "k8s:wandb/key",
    "PASSWORD": "prefect:my-db",
    "TOKEN": "env:MY_TOKEN",
}
ENVIRON = {"MY_TOKEN": "the token", "DATASET": "s3://cats", "DB_PASSWORD": "hunter22", "SHORT": "1"}


def train(what: Any = None) -> None: ...


def _settings(tmp_path: Path, *, on_cluster: bool) -> tuple[Settings, dict[str, str]]:
    environ = {"KINETIC_HOME": str(tmp_path / "home"), **ENVIRON}
    if on_cluster:
        environ |= {
            "KINETIC_PLATFORM": "gke",
            "KINETIC_PROJECT": "my-project",
            "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
        }
    settings = load_settings(environ)

    class NoProfiles:
        def load(self, name: str) -> None: ...

        def names(self) -> tuple[str, ...]:
            return ()

    return resolve_settings(settings, NoProfiles(), environ=environ, arguments=None), environ


def _draft(
    tmp_path: Path, *args: Any, on_cluster: bool = False, **options: Any
) -> tuple[Draft, dict[str, str]]:
    settings, environ = _settings(tmp_path, on_cluster=on_cluster)
    (tmp_path / "project").mkdir(exist_ok=True)
    draft = draft_call(
        Call(
            function=train,
            args=args,
            kwargs={},
            options=RunOptions().updated({"requirements": (), **options}),
        ),
        settings,
        choose_platform(settings, environ),
        cwd=tmp_path / "project",
        sys_path=[],
        environ=environ,
    )
    return draft, environ


def _kinds(specs: tuple[SecretSpec, ...]) -> dict[str, str]:
    return {spec.variable: spec.kind for spec in specs}


@pytest.mark.parametrize("deployed", [False, True])
def test_a_cluster_fetches_what_it_can_and_the_rest_is_sealed(
    tmp_path: Path, deployed: bool
) -> None:
    draft, _ = _draft(tmp_path, on_cluster=True, secrets=SECRETS, capture_env_vars=["DATASET"])
    specs = secret_specs(draft, draft.platform, deployed=deployed)
    assert _kinds(specs) == {
        "HF_TOKEN": "secret-manager",
        "OTHER": "secret-manager",
        "WANDB_API_KEY": "k8s",
        "PASSWORD": "prefect" if deployed else "sealed",
        "TOKEN": "sealed",
        "DATASET": "sealed",
    }
    by_name = {spec.variable: spec for spec in specs}
    assert by_name["HF_TOKEN"].project == "my-project"
    assert (by_name["OTHER"].project, by_name["OTHER"].version) == ("q", "3")
    assert (by_name["WANDB_API_KEY"].name, by_name["WANDB_API_KEY"].key) == ("wandb", "key")


def test_on_this_machine_all_is_sealed(tmp_path: Path) -> None:
    draft, _ = _draft(tmp_path, secrets=SECRETS)
    kinds = _kinds(secret_specs(draft, draft.platform, deployed=False))
    assert kinds == dict.fromkeys(SECRETS, "sealed")
    deployed = _kinds(secret_specs(draft, draft.platform, deployed=True))
    assert deployed == {**kinds, "PASSWORD": "prefect"}


def test_a_call_without_any_has_none(tmp_path: Path) -> None:
    draft, _ = _draft(tmp_path)
    assert secret_specs(draft, draft.platform, deployed=False) == ()
    assert secret_words(draft) == ""


def test_captured_variables_are_masked_by_their_names(tmp_path: Path) -> None:
    draft, _ = _draft(tmp_path, capture_env_vars=["DATASET", "DB_PASSWORD"])
    specs = secret_specs(draft, draft.platform, deployed=False)
    assert {spec.variable: spec.masked for spec in specs} == {
        "DATASET": False,
        "DB_PASSWORD": True,
    }


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("DATASET", "s3://cats", "s3://cats"),
        ("WANDB_API_KEY", "k", None),
        ("SOME_TOKEN", "t", None),
        ("SIGNING_KEY", "s", None),
        ("DATABASE", "postgres://ann:pw@host/db", "postgres://host/db"),
    ],
)
def test_a_value_is_shown_where_nothing_says_that_it_is_secret(
    name: str, value: str, shown: str | None
) -> None:
    assert shown_value(name, value) == shown


def test_what_is_shown_of_arguments_has_no_secret(tmp_path: Path) -> None:
    options = {"secrets": {"TOKEN": "env:MY_TOKEN"}, "capture_env_vars": ["DB_PASSWORD", "SHORT"]}
    draft, _ = _draft(tmp_path, "with the token, hunter22 and 1", **options)
    assert draft.argument_reprs == {"what": "'with ***, *** and 1'"}
    assert "hunter22" not in draft.run_name
    assert masked("hunter22: 1", draft.hidden) == "***: 1"


def test_what_is_cut_short_has_no_part_of_a_secret(tmp_path: Path) -> None:
    long = "eyJ" + "0123456789" * 80
    many = ["x" * 50, {"deep": long}, *range(60)]
    draft = replace(_draft(tmp_path)[0], hidden=hidden_values({"A_TOKEN": long}, {}, {}))
    for argument in (long, f"Bearer {long}", many, {1: (long,)}):
        one = with_arguments(draft, (argument,), {}, piece_bytes=1 << 20)
        told = one.run_name + str(one.argument_reprs)
        assert "***" in told
        assert "eyJ" not in told
        assert "456789" not in told


def test_of_a_value_that_ends_with_a_line_its_text_is_hidden() -> None:
    assert hidden_values({"A_TOKEN": "hush-hush\n"}, {}, {}) == ("hush-hush",)


def test_variables_and_sources_are_named_and_no_values(tmp_path: Path) -> None:
    draft, _ = _draft(tmp_path, secrets=SECRETS, capture_env_vars=["DATASET"])
    assert secret_words(draft) == (
        "DATASET=capture_env_vars, HF_TOKEN=secret-manager:hf-token, "
        "OTHER=secret-manager:projects/q/secrets/other/versions/3, PASSWORD=prefect:my-db, "
        "TOKEN=env:MY_TOKEN, WANDB_API_KEY=k8s:wandb/key"
    )


def test_a_kept_job_is_another_for_other_values(tmp_path: Path) -> None:
    specs = (SecretSpec(variable="A", kind="sealed"), SecretSpec(variable="B", kind="k8s"))
    one = with_identities(specs, {"A": "x"}, b"key")
    assert one == with_identities(specs, {"A": "x"}, b"key")
    assert one != with_identities(specs, {"A": "y"}, b"key")
    assert one[1] == specs[1]


def _here(draft: Draft, environ: dict[str, str]) -> Surroundings:
    return Surroundings(
        settings=draft.settings, environ=environ, platform=draft.platform, blocks=None
    )


def test_a_cluster_s_secret_is_taken_from_the_variable_of_its_name(tmp_path: Path) -> None:
    draft, environ = _draft(tmp_path, secrets={"WANDB_API_KEY": "k8s:wandb/key"})
    found = look_for_secrets(draft, _here(draft, environ))
    (problem,) = found.problems
    assert problem.startswith("WANDB_API_KEY: k8s:wandb/key is a Secret of a cluster")
    assert "export WANDB_API_KEY" in problem
    with_it = {**environ, "WANDB_API_KEY": "mine"}
    assert look_for_secrets(draft, _here(draft, with_it)).values == {"WANDB_API_KEY": "mine"}


def test_a_secret_of_no_project_is_asked_for_by_its_whole_name(tmp_path: Path) -> None:
    draft, environ = _draft(tmp_path, secrets={"HF_TOKEN": "secret-manager:hf-token"})
    (problem,) = plan_secrets(draft, environ, None).problems
    assert "secret-manager:projects/PROJECT/secrets/hf-token" in problem


@pytest.fixture
def manager() -> Iterator[SecretManager]:
    secrets = SecretManager()
    with secrets.holding(hf_token="a token"):
        server = GrpcServer({SERVICE: secrets.methods()})
        server.start()
        secrets.endpoint = server.endpoint
        yield secrets
        server.stop()


def _asks(tmp_path: Path, manager: SecretManager, name: str) -> tuple[Draft, Surroundings]:
    source = f"secret-manager:projects/p/secrets/{name}"
    draft, environ = _draft(tmp_path, secrets={"HF_TOKEN": source})
    environ["KINETIC_SECRET_MANAGER_ENDPOINT"] = manager.endpoint
    return draft, _here(draft, environ)


def test_on_this_machine_a_secret_is_read_and_sealed(
    tmp_path: Path, manager: SecretManager
) -> None:
    draft, around = _asks(tmp_path, manager, "hf-token")
    found = look_for_secrets(draft, around)
    assert found == FoundSecrets(values={"HF_TOKEN": "a token"})
    assert "a token" not in repr(found)
    draft, around = _asks(tmp_path, manager, "absent")
    (problem,) = look_for_secrets(draft, around).problems
    assert "HF_TOKEN: there is no secret absent in project p" in problem
    assert "gcloud secrets create absent --project=p" in problem


def test_who_may_not_read_a_secret_is_told_what_lets_it(
    tmp_path: Path, manager: SecretManager
) -> None:
    manager.denied.add("projects/p/secrets/hf-token")
    draft, around = _asks(tmp_path, manager, "hf-token")
    (problem,) = look_for_secrets(draft, around).problems
    assert "add-iam-policy-binding hf-token --project=p --member=user:YOU" in problem
    found = look_for_secrets(draft, around, reads=False)
    assert found.problems == (), "what may not be looked up is not missing"
    (warning,) = found.warnings
    assert "--member=serviceAccount:ACCOUNT-OF-THE-RUN" in warning
    assert "--role=roles/secretmanager.secretAccessor" in warning


def test_who_has_secret_manager_switched_off_is_told_how_to_switch_it_on(
    tmp_path: Path, manager: SecretManager
) -> None:
    words = "Secret Manager API has not been used in project p before or it is disabled"
    denied = grpc.StatusCode.PERMISSION_DENIED
    off = CallFault(method="AccessSecretVersion", code=denied, message=words)
    server = GrpcServer({SERVICE: manager.methods()})
    server.start()
    manager.endpoint = server.endpoint
    draft, around = _asks(tmp_path, manager, "hf-token")
    with server.fault(off):
        (problem,) = look_for_secrets(draft, around).problems
    server.stop()
    assert "gcloud services enable secretmanager.googleapis.com --project=p" in problem
    assert "add-iam-policy-binding" not in problem


def test_a_plan_looks_for_blocks_where_it_knows_of_them(tmp_path: Path) -> None:
    draft, environ = _draft(tmp_path, secrets={"A": "prefect:there", "B": "prefect:not-there"})
    (problem,) = plan_secrets(draft, environ, frozenset({"there"})).problems
    assert problem.startswith("B: Prefect has no Secret block 'not-there'")
    assert plan_secrets(draft, environ, None).problems == ()


def test_all_that_is_missing_is_one_error() -> None:
    FoundSecrets().raise_for_problems()
    with pytest.raises(SecretError, match=r"2 secrets cannot be had:\n  - one\n  - two"):
        FoundSecrets(problems=("one", "two")).raise_for_problems()


def test_a_run_that_is_started_again_has_the_values_of_now(tmp_path: Path) -> None:
    draft, environ = _draft(tmp_path)
    specs = tuple(
        SecretSpec(variable=name, kind=kind)  # type: ignore[arg-type]
        for name, kind in (("A", "sealed"), ("DATASET", "sealed"), ("C", "k8s"))
    )
    sources = parse_secrets("secrets", {"A": "env:MY_TOKEN", "C": "k8s:s/k"})
    values = read_again(specs, sources, _here(draft, environ))
    assert values == {"A": "the token", "DATASET": "s3://cats"}
    with pytest.raises(SecretError) as caught:
        read_again(specs, sources, _here(draft, {}))
    assert "A: the variable MY_TOKEN is not set" in caught.value.message
    assert "DATASET: the variable DATASET is not set" in caught.value.message


@pytest.mark.parametrize(
    ("source", "spelt"),
    [
        ("secret-manager:hf-token", "secret-manager:hf-token"),
        ("secret-manager:hf-token/versions/latest", "secret-manager:hf-token"),
        ("secret-manager:s/versions/7", "secret-manager:s/versions/7"),
        (
            "secret-manager:projects/p/secrets/s",
            "secret-manager:projects/p/secrets/s/versions/latest",
        ),
        ("k8s:wandb/key.txt", "k8s:wandb/key.txt"),
        (" prefect:my-block ", "prefect:my-block"),
        ("env:MY_TOKEN", "env:MY_TOKEN"),
    ],
)
def test_sources_are_read_and_written_alike(source: str, spelt: str) -> None:
    parsed = parse_secrets("secrets", {"X": source})["X"]
    assert str(parsed) == spelt
    assert parse_secrets("secrets", {"X": spelt})["X"] == parsed
    assert RunOptions().updated({"secrets": {"X": parsed}}).to_json()["secrets"] == {"X": spelt}


@pytest.mark.parametrize(
    ("secrets", "told"),
    [
        ("HF_TOKEN", "give a mapping"),
        ({"HF TOKEN": "env:X"}, "names of environment variables"),
        ({"KINETIC_TOKEN": "env:X"}, "our own"),
        ({"X": "k8s:wandb"}, "write k8s:SECRET/KEY"),
        ({"X": "env:A B"}, "write env:VARIABLE"),
        ({"X": "prefect:My_Block"}, "write prefect:BLOCK"),
        ({"X": "secret-manager:a/b"}, "write secret-manager:NAME"),
        ({"X": "vault:thing"}, "give one of"),
        ({"X": ""}, "give one of"),
        ({"X": 1}, "give one of"),
    ],
)
def test_sources_that_cannot_be_are_refused(secrets: Any, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_secrets("secrets", secrets)
    assert told in str(caught.value)


@pytest.mark.parametrize("value", ["hf_abcdefghijkl", "sk-proj:secretpart", "https://u:pw@host"])
def test_a_value_in_place_of_its_source_is_not_repeated(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_secrets("secrets", {"HF_TOKEN": value})
    assert value not in str(caught.value) + repr(caught.value.value)
