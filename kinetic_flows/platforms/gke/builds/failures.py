"""Why a base image was not published: its smoke test, or what the registry refuses. Pure.

A registry refuses for authentication, rights or the name; the words are those of Docker's,
buildah's and the registries' own messages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.image_reference import (
    DOCKER_HUB,
    ImageReference,
    artifact_registry_location,
    parse_reference,
)
from kinetic_flows.images.assembly.remote_words import failure_in
from kinetic_flows.images.base_image_specs import BaseImageSpec
from kinetic_flows.platforms.gke.builds.artifact_registry import UNKNOWN_BUILDER
from kinetic_flows.platforms.gke.builds.build import (
    BuildState,
    Explanation,
    build_error,
    failed_step,
)

UPDATE_CREDENTIALS = "kinetic build-image --update-credentials"

_WRONG_LOGIN = re.compile(
    r"incorrect username or password|invalid username/password|personal access token is expired"
    r"|unable to retrieve auth token|token has expired",
    re.IGNORECASE,
)
_NO_NAME = re.compile(
    r"name unknown|NAME_UNKNOWN|repository name not known|invalid reference format"
    r"|repository \"[^\"]+\" not found",
    re.IGNORECASE,
)
_NO_RIGHTS = re.compile(
    r"requested access to the resource is denied|insufficient[_ ]scope|permission denied"
    r"|uploadArtifacts|\bdenied:|authentication required|\b403 Forbidden",
    re.IGNORECASE,
)
_REFUSED_PUSH = re.compile(r"refuses to (?!.*quota).*\banswered 40[13]\b", re.IGNORECASE)
"""What an assembler says of a registry that takes nothing from it."""
_TAIL_LINES = 40


def image_build_error(state: BuildState, lines: Sequence[str], reference: str) -> BuildError:
    """Return the error for a build of a project's image, or of a base that it needs.

    Args:
        state: How the build ended.
        lines: Its log.
        reference: The image.
    """
    return build_error(state, lines, _refused_push(lines, reference))


def base_build_error(
    state: BuildState, lines: Sequence[str], spec: BaseImageSpec, *, logins: int
) -> BuildError:
    """Return the error for a build that published nothing.

    Args:
        state: How the build ended.
        lines: Its log.
        spec: What was to be built.
        logins: How many of its steps log in, before the one that builds.
    """
    return build_error(state, lines, _explain(state, lines, spec, logins))


def _explain(
    state: BuildState, lines: Sequence[str], spec: BaseImageSpec, logins: int
) -> Explanation | None:
    """Return why nothing was published; None when only the log says so."""
    if state.status != "FAILURE":
        return None
    if spec.is_assembled:  # the step that assembles pushes, too, and says everything else itself
        refused = _refused_push(lines, spec.references[0])
        return refused or explain_refusal(lines, spec.references)
    number = failed_step(state, lines)
    if number == logins:  # the build itself
        return None
    if number is not None and logins < number <= logins + len(spec.recipe.smoke_tests):
        return _unfit(lines)
    return explain_refusal(lines, spec.references)


def _refused_push(lines: Sequence[str], reference: str) -> Explanation | None:
    """Return why an assembler's push was refused: what it says itself is for a client's account."""
    told = failure_in(lines)
    if told is None or not _REFUSED_PUSH.search(told[0]):
        return None
    return _no_rights(parse_reference(reference))


def explain_refusal(lines: Sequence[str], references: Sequence[str]) -> Explanation | None:
    """Return why a registry refused a login or an image; None when the log does not tell.

    Args:
        lines: The build's log.
        references: What was to be pushed.
    """
    image = parse_reference(references[0])
    text = "\n".join(lines[-_TAIL_LINES:])
    if _WRONG_LOGIN.search(text):
        return _wrong_login(image)
    if _NO_NAME.search(text):
        return _no_name(image)
    if _NO_RIGHTS.search(text):
        return _no_rights(image)
    return None


def _unfit(lines: Sequence[str]) -> Explanation:
    found = [line.partition("smoke test: ")[2] for line in lines if "smoke test: " in line]
    why = "; ".join(found) or "see the log's last lines"
    return Explanation(
        message=f"the image does not pass its smoke test, so it was not published: {why}",
        hint="correct the Dockerfile; the tags still name what they named before",
    )


def _wrong_login(image: ImageReference) -> Explanation:
    return Explanation(
        message=f"authentication: {image.registry} does not accept the user name and token "
        "that the build logs in with",
        hint=f"enter them again with: {UPDATE_CREDENTIALS}",
    )


def _no_name(image: ImageReference) -> Explanation:
    location = artifact_registry_location(image.registry)
    project, _, rest = image.repository.partition("/")
    hint = "check the spelling of --repo"
    if location:
        hint = (
            f"create it with: gcloud artifacts repositories create {rest.partition('/')[0]} "
            f"--repository-format=docker --location={location} --project={project}"
        )
    return Explanation(
        message=f"name: the registry has no repository for {image.name}",
        hint=hint,
    )


def _no_rights(image: ImageReference) -> Explanation:
    namespace = image.repository.partition("/")[0]
    if image.registry == DOCKER_HUB:
        hint = (
            "the access token needs the permission Read & Write, and its account must be "
            f"{namespace!r} or may push to that organisation; check the spelling of --repo, or "
            f"give another token with: {UPDATE_CREDENTIALS}"
        )
    elif location := artifact_registry_location(image.registry):
        project, _, rest = image.repository.partition("/")
        hint = (
            f"grant it with: gcloud artifacts repositories add-iam-policy-binding "
            f"{rest.partition('/')[0]} --location={location} --project={project} "
            f"--member=serviceAccount:{UNKNOWN_BUILDER} --role=roles/artifactregistry.writer"
        )
    else:
        hint = "grant the build's account the right to push there"
    return Explanation(
        message=f"rights: the build's account may not push to {image.name}",
        hint=hint,
    )
