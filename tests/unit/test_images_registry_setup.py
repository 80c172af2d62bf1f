"""What a repository of Artifact Registry needs, with the person's own values."""

from __future__ import annotations

import json

import pytest

from kinetic_flows.clients.registry.connections import Answer
from kinetic_flows.clients.registry.errors import write_refused
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.images.assembly.remote_words import failure_lines
from kinetic_flows.images.base_image_specs import BaseImagesRequest, base_image_specs
from kinetic_flows.platforms.gke.builds.artifact_registry import (
    READER,
    WRITER,
    ArtifactRepository,
    RepositoryState,
    artifact_repository,
    node_account,
    plan_setup,
)
from kinetic_flows.platforms.gke.builds.build import BuildState
from kinetic_flows.platforms.gke.builds.failures import (
    base_build_error,
    explain_refusal,
    image_build_error,
)

BUILDER = "42-compute@developer.gserviceaccount.com"
REPOSITORY = ArtifactRepository(location="us", project="my-project", name="bases")
WHERE = "bases --location=us --project=my-project"


def commands(state: RepositoryState, nodes: str = "nodes@p.iam.gserviceaccount.com") -> list[str]:
    return list(plan_setup(REPOSITORY, state, builder=BUILDER, nodes=nodes).commands)


def test_a_repository_that_is_missing_is_created_and_its_users_let_in() -> None:
    create, push, pull = commands(RepositoryState(exists=False))

    assert create == (
        "gcloud artifacts repositories create bases --repository-format=docker --location=us "
        "--project=my-project"
    )
    grant = f"gcloud artifacts repositories add-iam-policy-binding {WHERE} --member=serviceAccount:"
    assert push == f"{grant}{BUILDER} --role={WRITER}"
    assert pull == f"{grant}nodes@p.iam.gserviceaccount.com --role={READER}"


def test_what_is_granted_is_not_asked_for_again() -> None:
    granted = {WRITER: frozenset({f"serviceAccount:{BUILDER}"}), READER: frozenset({"allUsers"})}

    assert commands(RepositoryState(exists=True, members=granted)) == []
    only_push = {WRITER: granted[WRITER]}
    assert len(commands(RepositoryState(exists=True, members=only_push))) == 1
    # One account that may push may pull, too.
    assert commands(RepositoryState(exists=True, members=only_push), nodes=BUILDER) == []


def test_a_policy_that_cannot_be_read_is_said_to_be_unknown() -> None:
    setup = plan_setup(REPOSITORY, RepositoryState(exists=True), builder=BUILDER, nodes="n")

    assert (setup.was_checked, len(setup.commands)) == (False, 2)


@pytest.mark.parametrize(
    ("repository", "parts"),
    [
        ("us-docker.pkg.dev/my-project/bases", REPOSITORY),
        ("us-docker.pkg.dev/my-project/bases/deep/er", REPOSITORY),
        (
            "europe-west4-docker.pkg.dev/example.com/old/r",
            ArtifactRepository(location="europe-west4", project="example.com:old", name="r"),
        ),
        ("someone/kinetic", None),
        ("gcr.io/p/r", None),
    ],
)
def test_a_repository_is_recognised_by_its_host(
    repository: str, parts: ArtifactRepository | None
) -> None:
    assert artifact_repository(repository) == parts


def test_the_account_of_nodes_is_known_from_the_default_account_of_builds() -> None:
    assert node_account("42@cloudbuild.gserviceaccount.com") == BUILDER
    assert node_account("mine@p.iam.gserviceaccount.com") == "NODE_SERVICE_ACCOUNT"


HUB, GOOGLE = "someone/kinetic-base-cpu:1", "us-docker.pkg.dev/p/r/base-cpu:1"


@pytest.mark.parametrize(
    ("line", "reference", "words"),
    [
        (
            (
                "Error response from daemon: Get https://registry-1.docker.io/v2/: unauthorized: "
                "incorrect username or password"
            ),
            HUB,
            "authentication: docker.io does not accept",
        ),
        ("denied: requested access to the resource is denied", HUB, "rights: "),
        ("unauthorized: access token has insufficient scopes", HUB, "rights: "),
        ('name unknown: Repository "r" not found', GOOGLE, "name: the registry has no repository"),
        (
            'denied: Permission "artifactregistry.repositories.uploadArtifacts" denied on resource',
            GOOGLE,
            "rights: ",
        ),
    ],
)
def test_a_refused_push_says_whether_it_was_authentication_rights_or_the_name(
    line: str, reference: str, words: str
) -> None:
    explanation = explain_refusal(["pushing", line], [reference])

    assert explanation is not None
    assert explanation.message.startswith(words)
    assert explanation.hint


@pytest.mark.parametrize(
    ("reference", "status", "said", "words"),
    [
        (HUB, 401, "no", "rights: the build's account may not push to docker.io/someone"),
        (GOOGLE, 403, "no", "rights: the build's account may not push to us-docker.pkg.dev"),
        (GOOGLE, 403, "Quota exceeded", "b failed: the registry us-docker.pkg.dev refuses to "),
    ],
)
@pytest.mark.parametrize("doing", ["take uploads to", "take the manifest of"])
def test_a_push_refused_to_an_assembler_in_a_build_is_explained_as_well(
    reference: str, status: int, said: str, words: str, doing: str
) -> None:
    body = json.dumps({"errors": [{"code": "NO", "message": said}]}).encode()
    answer = Answer(status=status, headers={}, body=body)
    error = write_refused(parse_reference(reference), answer, doing)
    (spec,) = base_image_specs(
        BaseImagesRequest(
            repository=reference.rpartition("/")[0],
            tag="1",
            version="1",
            categories=("cpu",),
            pythons=("3.12",),
        )
    )
    state = BuildState(id="b", status="FAILURE", step_statuses=(("python", "FAILURE"),))

    lines = list(failure_lines(error))
    for told in (
        base_build_error(state, lines, spec, logins=0),
        image_build_error(state, lines, spec.references[0]),
    ):
        assert words in told.message.splitlines()[0]
        assert told.hint
        assert "user:YOU" not in told.hint


def test_other_failures_are_left_to_the_log() -> None:
    assert explain_refusal(["no space left on device"], [HUB]) is None
