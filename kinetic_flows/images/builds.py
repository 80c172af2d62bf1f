"""A Cloud Build build as values: what is asked for, what is known of it, how it ended. Pure.

See https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kinetic_flows.errors import BuildError
from kinetic_flows.images.references import is_googles, parse_reference

BuildStatus = Literal[
    "STATUS_UNKNOWN",
    "PENDING",
    "QUEUED",
    "WORKING",
    "SUCCESS",
    "FAILURE",
    "INTERNAL_ERROR",
    "TIMEOUT",
    "CANCELLED",
    "EXPIRED",
]

RUNNING: frozenset[str] = frozenset({"STATUS_UNKNOWN", "PENDING", "QUEUED", "WORKING"})
TRANSIENT: frozenset[str] = frozenset({"INTERNAL_ERROR", "EXPIRED"})
"""Ends that say nothing about what was built; they are worth one more try."""

DOCKER_STEP = "gcr.io/cloud-builders/docker"
LOG_TAIL_LINES = 20

_FAILED_PACKAGE = re.compile(
    r"(?:Failed to (?:build|download|fetch|install|prepare|extract|parse)[^`]*"
    r"|Hash mismatch for )`(?P<name>[^`]+)`"
)
_FAILED_STEP = re.compile(r'^(?:ERROR: )?build step (?P<number>\d+) "(?P<name>[^"]+)" failed')


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """A login step in front of a build.

    Attributes:
        registry: Host to log in to; empty for Docker Hub.
        username: User name.
        secret_version: Resource name of the Secret Manager version that holds the password
            (`projects/…/secrets/…/versions/…`).
    """

    registry: str
    username: str
    secret_version: str


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How builds run, whatever they build.

    Attributes:
        machine_type: Cloud Build's name of the machine, such as `E2_HIGHCPU_8`; empty for its
            default.
        disk_size_gb: Size of its disk; 0 for the default.
        timeout_seconds: Limit for a whole build.
        service_account: Who the build runs as; empty for the project's default.
        logins: Registries to log in to first.
    """

    machine_type: str = ""
    disk_size_gb: int = 0
    timeout_seconds: int = 3600
    service_account: str = ""
    logins: tuple[RegistryLogin, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """One build to submit.

    Attributes:
        image: Reference, with a tag, that the result is pushed to.
        bucket: Bucket of the source archive and the log.
        source_object: Name of the source archive in the bucket.
        logs_prefix: Where the log goes in the bucket; empty for its root.
        tags: Tags to find the build by.
        options: How it runs.
    """

    image: str
    bucket: str
    source_object: str
    logs_prefix: str
    tags: tuple[str, ...]
    options: BuildOptions = field(default_factory=BuildOptions)


@dataclass(frozen=True, kw_only=True)
class BuildStep:
    """One step of a build: a container image and its arguments."""

    name: str
    args: tuple[str, ...]
    entrypoint: str = ""
    environment: tuple[str, ...] = ()
    secret_variables: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BuildState:
    """What is known of a submitted build.

    Attributes:
        id: The build's id.
        status: Where it is.
        log_url: The build in the console.
        images: Digests of the images it pushed, by their references.
        detail: Cloud Build's own words about a failure; empty when there are none.
        step_statuses: Name and status of each step.
    """

    id: str
    status: BuildStatus
    log_url: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""
    step_statuses: tuple[tuple[str, str], ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.status in RUNNING


def build_steps(spec: BuildSpec) -> tuple[BuildStep, ...]:
    """Return a build's steps: the logins, then the one that builds, then a push if need be."""
    logins = tuple(
        BuildStep(
            name=DOCKER_STEP,
            entrypoint="bash",
            # `$$` is a dollar sign that Cloud Build does not take for a substitution.
            args=(
                "-c",
                f'echo "$${_secret_variable(number)}" | docker login '
                f"--username {login.username} --password-stdin {login.registry}".rstrip(),
            ),
            secret_variables=(_secret_variable(number),),
        )
        for number, login in enumerate(spec.options.logins)
    )
    build = BuildStep(
        name=DOCKER_STEP,
        args=("build", "--tag", spec.image, "."),
        environment=("DOCKER_BUILDKIT=1", "BUILDKIT_PROGRESS=plain"),
    )
    push = BuildStep(name=DOCKER_STEP, args=("push", spec.image))
    return (*logins, build) if pushed_images(spec) else (*logins, build, push)


def pushed_images(spec: BuildSpec) -> tuple[str, ...]:
    """Return the images that Cloud Build itself pushes, as the build's service account.

    It can do so to Google's registries; to others a step pushes, with the login of a step
    before it (https://cloud.google.com/build/docs/interacting-with-dockerhub-images).
    """
    return (spec.image,) if is_googles(parse_reference(spec.image).registry) else ()


def build_secrets(spec: BuildSpec) -> dict[str, str]:
    """Return the environment variables that hold secrets, with the secrets' versions."""
    return {
        _secret_variable(number): login.secret_version
        for number, login in enumerate(spec.options.logins)
    }


def log_object(logs_prefix: str, build_id: str) -> str:
    """Return the name that Cloud Build gives to a build's log."""
    return f"{logs_prefix}/log-{build_id}.txt".lstrip("/")


def failed_package(lines: Iterable[str]) -> str | None:
    """Return the package that uv says it could not install; None when it does not say."""
    for line in lines:
        match = _FAILED_PACKAGE.search(line)
        if match:
            return match["name"]
    return None


def build_error(state: BuildState, lines: Sequence[str]) -> BuildError:
    """Return the error for a build that ended without an image.

    Args:
        state: How it ended.
        lines: Its log.
    """
    package = failed_package(lines)
    step = _failed_step(state, lines)
    message, hint = _words(state, package)
    details = [
        *([f"failing step: {step}"] if step else []),
        *([f"failing package: {package}"] if package else []),
        *([f"Cloud Build says: {state.detail}"] if state.detail else []),
        *(f"    {line}" for line in lines[-LOG_TAIL_LINES:]),
        *([f"log: {state.log_url}"] if state.log_url else []),
    ]
    return BuildError("\n".join([message, *details]), value=state.id, hint=hint)


def _words(state: BuildState, package: str | None) -> tuple[str, str]:
    """Return what happened and what to do about it."""
    about = f"build {state.id}"
    failure_hint = (
        f"see whether {package} is right in the project's dependency file"
        if package
        else "the log's last lines say what failed; run again when it is corrected"
    )
    words = {
        "FAILURE": (f"{about} failed", failure_hint),
        "TIMEOUT": (
            f"{about} did not end within its time limit",
            "allow more with KINETIC_BUILD_TIMEOUT_SECONDS or KINETIC_BUILD_MACHINE_TYPE",
        ),
        "CANCELLED": (f"{about} was cancelled", "run again to start another"),
        "INTERNAL_ERROR": (
            f"Cloud Build could not carry out {about}, twice",
            "look at https://status.cloud.google.com and run again",
        ),
        "EXPIRED": (
            f"{about} waited too long in Cloud Build's queue",
            "look at the project's quota of concurrent builds, and run again",
        ),
    }
    return words.get(state.status, (f"{about} ended as {state.status}", "see its log"))


def _failed_step(state: BuildState, lines: Iterable[str]) -> str:
    for number, (name, status) in enumerate(state.step_statuses):
        if status in ("FAILURE", "TIMEOUT", "CANCELLED", "INTERNAL_ERROR"):
            return f"{number} ({name})"
    for line in lines:
        match = _FAILED_STEP.search(line)
        if match:
            return f"{match['number']} ({match['name']})"
    return ""


def _secret_variable(number: int) -> str:
    return f"REGISTRY_PASSWORD_{number}"
