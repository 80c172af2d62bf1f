"""What a registry's refusals mean, in this library's errors.

The codes are those of the distribution specification
(https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from kinetic_flows.clients.deadlines import DeadlineExceeded, call_with_deadline
from kinetic_flows.clients.registry.connections import (
    Answer,
    RegistryLimits,
    RegistryUnreachable,
)
from kinetic_flows.core.errors import ImageError, RegistryAccessError, RepositoryNotFoundError
from kinetic_flows.core.image_reference import (
    DOCKER_HUB,
    ImageReference,
    artifact_registry_location,
)

T = TypeVar("T")

READER = "roles/artifactregistry.reader"
WRITER = "roles/artifactregistry.writer"
ADMINISTRATOR = "roles/artifactregistry.repoAdmin"

NAME_UNKNOWN = "NAME_UNKNOWN"
UNSUPPORTED = "UNSUPPORTED"
TOO_MANY_REQUESTS = 429

_MOST_WORDS = 300
"""Characters of a registry's own words that an error quotes."""


class ManifestChangedError(ImageError):
    """A registry keeps another manifest than the one it was given."""


class UnknownBlobs(ImageError):
    """A registry lacks blobs of a manifest.

    Args:
        message: What failed.
        value: The image.
        digests: The blobs that it names; empty when it names none.
    """

    def __init__(self, message: str, *, value: Any = None, digests: Iterable[str] = ()) -> None:
        super().__init__(
            message,
            value=value,
            hint="run it again: what is missing is sent again then",
        )
        self.digests = tuple(digests)


class DeletionNotAllowedError(ImageError):
    """A registry deletes nothing through its API."""


def answered(image: ImageReference, limits: RegistryLimits, question: Callable[[], T]) -> T:
    """Ask a registry something, and return what it answers within the time allowed.

    Raises:
        ImageError: There is no usable answer.
    """
    try:
        return call_with_deadline(question, limits.total_seconds)
    except (RegistryUnreachable, DeadlineExceeded) as error:
        raise unreachable(image, error) from error


def unreachable(image: ImageReference, error: Exception) -> ImageError:
    """Return the error for a registry that gives no usable answer about an image."""
    hint = "check the network and the registry's status, and run again"
    if isinstance(error, RegistryUnreachable) and error.status == TOO_MANY_REQUESTS:
        hint = "it has had too many requests: run again later"
        if image.registry == DOCKER_HUB:
            hint += ", or log in with docker login, which raises Docker Hub's limit"
    return ImageError(
        f"the registry {image.registry} cannot be asked for {image}: {error}",
        value=str(image),
        hint=hint,
    )


def spoilt(image: ImageReference, digest: str) -> ImageError:
    """Return the error for an answer that is something else than its digest says."""
    return ImageError(
        f"the registry {image.registry} sent something else than {image.name}@{digest}",
        value=str(image),
        hint="a proxy or a mirror spoils its answers; nothing of it was used",
    )


def raise_unless_ok(image: ImageReference, answer: Answer) -> None:
    """Let an answer to a request for an image pass only when it is one.

    Raises:
        ImageError: It is a refusal.
    """
    if answer.status == 200:
        return
    if answer.status in (401, 403):
        raise no_access(image, answer.status)
    raise ImageError(
        f"the registry {image.registry} answered {answer.status} for {image}",
        value=str(image),
        hint="check that the reference is right and that its host is an image registry",
    )


def no_repository(image: ImageReference) -> RepositoryNotFoundError:
    """Return the error for a repository that does not exist."""
    location = artifact_registry_location(image.registry)
    project, repository = _artifact_repository(image)
    hint = f"create it in {image.registry}, or correct the reference"
    if location and repository:
        hint = (
            f"create it with: gcloud artifacts repositories create {repository} "
            f"--repository-format=docker --location={location} --project={project}"
        )
    message = f"the repository of {image} does not exist"
    return RepositoryNotFoundError(message, value=str(image), hint=hint)


def no_access(image: ImageReference, status: int) -> RegistryAccessError:
    """Return the error for an image that these credentials may not read."""
    if image.registry == DOCKER_HUB:
        return RegistryAccessError(
            f"Docker Hub has no image {image.repository} that this account may read: "
            "the repository does not exist, or it is private",
            value=str(image),
            hint="check its spelling, or log in with: docker login",
        )
    return RegistryAccessError(
        f"the registry answered {status}: no access to {image.name}",
        value=str(image),
        hint=_grant(image, READER),
    )


def write_refused(
    image: ImageReference, answer: Answer, doing: str, *, role: str = WRITER
) -> ImageError:
    """Return the error for a registry that refuses to change an image's repository.

    Args:
        image: Whose repository.
        answer: The refusal.
        doing: What was refused, such as `push`.
        role: The role of Artifact Registry's that allows it.
    """
    codes, words = error_codes(answer), error_words(answer)
    if answer.status == 404 and NAME_UNKNOWN in codes:
        return no_repository(image)
    what = f"the registry {image.registry} refuses to {doing} {image.name}"
    said = f"{what} (it answered {answer.status}{f': {words}' if words else ''})"
    if _is_quota(answer, words):
        hint = "free space in the registry, or have its quota raised; then run again"
        return ImageError(said, value=str(image), hint=hint)
    if answer.status in (401, 403):
        return RegistryAccessError(said, value=str(image), hint=_grant(image, role))
    return ImageError(said, value=str(image), hint=_write_hint(answer, codes))


def error_codes(answer: Answer) -> set[str]:
    """Return the error codes in an answer's body."""
    return {str(item.get("code")) for item in _errors(answer)}


def error_words(answer: Answer) -> str:
    """Return what a registry says of its refusal, on one line; empty when it says nothing."""
    said = (f"{item.get('code', '')} {item.get('message', '')}".strip() for item in _errors(answer))
    words = "; ".join(dict.fromkeys(text for text in said if text))
    return " ".join(words.split())[:_MOST_WORDS]


def _errors(answer: Answer) -> list[dict[str, Any]]:
    try:
        return [item for item in json.loads(answer.body)["errors"] if isinstance(item, dict)]
    except (ValueError, KeyError, TypeError):
        return []


def _is_quota(answer: Answer, words: str) -> bool:
    return answer.status in (412, 507) or "quota" in words.lower()


def _write_hint(answer: Answer, codes: set[str]) -> str:
    if answer.status == 413:
        return (
            "a proxy in front of the registry limits the size of requests: have its limit raised "
            "(client_max_body_size, in nginx)"
        )
    if answer.status == 405 or UNSUPPORTED in codes:
        return "it takes no images: it is read-only, or a mirror; name another repository"
    if "immutable" in error_words(answer).lower():
        return "its tags are immutable: name another tag, or have that setting changed"
    return "check that the name is right and that its host is an image registry"


def _grant(image: ImageReference, role: str) -> str:
    """Return what gives access: the command for Artifact Registry, else a login."""
    if image.registry == DOCKER_HUB:
        return "log in with an account that may do this: docker login"
    location = artifact_registry_location(image.registry)
    if not location:
        return f"log in with: docker login {image.registry}"
    project, repository = _artifact_repository(image)
    return (
        "grant it with: gcloud artifacts repositories add-iam-policy-binding "
        f"{repository} --location={location} --project={project} "
        f"--member=user:YOU --role={role}"
    )


def _artifact_repository(image: ImageReference) -> tuple[str, str]:
    """Return the project and the name of a repository of Artifact Registry's."""
    project, _, rest = image.repository.partition("/")
    return project, rest.partition("/")[0]
