"""A Cloud Build build as values: what is asked for, what is known of it, how it ended. Pure.

See https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.image_reference import DOCKER_HUB, is_googles, parse_reference
from kinetic_flows.images.assembly.remote_words import failure_in
from kinetic_flows.images.bases import UPSTREAM
from kinetic_flows.images.dockerfiles import BuildRecipe

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
    # uv 0.13 writes addresses without quotes.
    r"|Failed to fetch: (?P<address>[^\s`]+)"
)
_FAILED_STEP = re.compile(r'^(?:ERROR: )?build step (?P<number>\d+) "(?P<name>[^"]+)" failed')


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """A login step in front of a build.

    Attributes:
        registry: Host to log in to; empty for Docker Hub.
        username_version: Resource name of the Secret Manager version that holds the user name
            (`projects/…/secrets/…/versions/…`).
        password_version: Likewise of the password.
    """

    registry: str
    username_version: str
    password_version: str


def registry_login(host: str, secrets: str, *, project: str) -> RegistryLogin:
    """Return a login from what a setting says of it.

    Args:
        host: The registry.
        secrets: The user name's secret and the password's, with a colon between; a name without
            a project is one of this project's.
        project: The project that builds.
    """
    username, password = (
        name if name.startswith("projects/") else f"projects/{project}/secrets/{name}"
        for name in secrets.split(":")
    )
    return RegistryLogin(
        registry="" if parse_reference(f"{host}/a/b").registry == DOCKER_HUB else host,
        username_version=f"{username}/versions/latest",
        password_version=f"{password}/versions/latest",
    )


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
class AssemblyRecipe:
    """An image that a build's one step assembles from layers, and pushes itself.

    Attributes:
        python: Python minor version of the step, which compiles bytecode with it.
        command: What it runs in the source's directory: a program and its arguments.
    """

    python: str
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """One build to submit.

    Attributes:
        image: Reference, with a tag, that the result is pushed to.
        bucket: Bucket of the source archive and the log.
        source_object: Name of the source archive in the bucket.
        source_generation: The version of it that is built; empty for the newest.
        logs_prefix: Where the log goes in the bucket; empty for its root.
        tags: Tags to find the build by.
        also: Further references, with tags, that it is pushed to.
        options: How it runs.
        recipe: How the image is made.
    """

    image: str
    bucket: str
    source_object: str
    source_generation: str = ""
    logs_prefix: str
    tags: tuple[str, ...]
    also: tuple[str, ...] = ()
    options: BuildOptions = field(default_factory=BuildOptions)
    recipe: BuildRecipe | AssemblyRecipe = field(default_factory=BuildRecipe)

    @property
    def references(self) -> tuple[str, ...]:
        """Every reference that the result is pushed to."""
        return (self.image, *self.also)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a build failed: in one sentence, and what to do about it."""

    message: str
    hint: str


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
    """Return a build's steps: logins, and what makes the image."""
    logins = (_login(number, login) for number, login in enumerate(spec.options.logins))
    if isinstance(spec.recipe, AssemblyRecipe):
        return (*logins, _assembly(spec.recipe))
    return (*logins, *_docker_steps(spec, spec.recipe))


def _assembly(recipe: AssemblyRecipe) -> BuildStep:
    program, *arguments = (_literal(word) for word in recipe.command)
    image = UPSTREAM.format(python=recipe.python)
    return BuildStep(name=image, entrypoint=program, args=tuple(arguments))


def _docker_steps(spec: BuildSpec, recipe: BuildRecipe) -> tuple[BuildStep, ...]:
    """Return build, smoke tests, and pushes where Cloud Build has none.

    What a build pushes comes after all that may fail, so that no tag moves to a broken image.
    """
    tests = (_smoke_test(spec, command) for command in recipe.smoke_tests)
    pushes = (
        BuildStep(name=DOCKER_STEP, args=("push", reference))
        for reference in spec.references
        if reference not in pushed_images(spec)
    )
    return (_build(spec, recipe), *tests, *pushes)


def _smoke_test(spec: BuildSpec, command: Sequence[str]) -> BuildStep:
    program, *arguments = (_literal(word) for word in command)
    return BuildStep(
        name=DOCKER_STEP,
        args=("run", "--rm", "--entrypoint", program, spec.image, *arguments),
    )


def _login(number: int, login: RegistryLogin) -> BuildStep:
    username, password = _secret_variables(number)
    return BuildStep(
        name=DOCKER_STEP,
        entrypoint="bash",
        # `$$` is a dollar sign that Cloud Build does not take for a substitution.
        args=(
            "-c",
            f'echo "$${password}" | docker login --username "$${username}" '
            f"--password-stdin {login.registry}".rstrip(),
        ),
        secret_variables=(username, password),
    )


def _build(spec: BuildSpec, recipe: BuildRecipe) -> BuildStep:
    options = [item for reference in spec.references for item in ("--tag", reference)]
    if recipe.dockerfile != "Dockerfile":
        options += ["--file", recipe.dockerfile]
    if recipe.from_scratch:
        options += ["--no-cache", "--pull"]
    for option, values in (("--build-arg", recipe.arguments), ("--label", recipe.labels)):
        options += [
            item for name in values for item in (option, _literal(f"{name}={values[name]}"))
        ]
    return BuildStep(
        name=DOCKER_STEP,
        args=("build", *options, "."),
        environment=("DOCKER_BUILDKIT=1", "BUILDKIT_PROGRESS=plain"),
    )


def _literal(text: str) -> str:
    """Return a text that Cloud Build looks for no substitutions in."""
    return text.replace("$", "$$")


def pushed_images(spec: BuildSpec) -> tuple[str, ...]:
    """Return the images that Cloud Build itself pushes, as the build's service account.

    It can do so to Google's registries; to others a step pushes, with the login of a step
    before it (https://cloud.google.com/build/docs/interacting-with-dockerhub-images). What a step
    assembles it pushes wherever it goes.
    """
    if isinstance(spec.recipe, AssemblyRecipe):
        return ()
    return tuple(
        reference
        for reference in spec.references
        if is_googles(parse_reference(reference).registry)
    )


def build_secrets(spec: BuildSpec) -> dict[str, str]:
    """Return the environment variables that hold secrets, with the secrets' versions."""
    secrets: dict[str, str] = {}
    for number, login in enumerate(spec.options.logins):
        versions = (login.username_version, login.password_version)
        secrets |= zip(_secret_variables(number), versions, strict=True)
    return secrets


def log_object(logs_prefix: str, build_id: str) -> str:
    """Return the name that Cloud Build gives to a build's log."""
    return f"{logs_prefix}/log-{build_id}.txt".lstrip("/")


def failed_package(lines: Iterable[str]) -> str | None:
    """Return the package that uv says it could not install; None when it does not say."""
    for line in lines:
        match = _FAILED_PACKAGE.search(line)
        if match:
            return match["name"] or match["address"]
    return None


def build_error(
    state: BuildState, lines: Sequence[str], explanation: Explanation | None = None
) -> BuildError:
    """Return the error for a build that ended without an image.

    Args:
        state: How it ended.
        lines: Its log.
        explanation: Why, where that is known.
    """
    package = failed_package(lines)
    number = failed_step(state, lines)
    message, hint = _words(state, package)
    explanation = explanation or _told_by_assembler(lines)
    if explanation is not None:
        message, hint = f"{message}: {explanation.message}", explanation.hint
    details = [
        *([f"failing step: {_step_name(state, lines, number)}"] if number is not None else []),
        *([f"failing package: {package}"] if package else []),
        *([f"Cloud Build says: {state.detail}"] if state.detail else []),
        *(f"    {line}" for line in lines[-LOG_TAIL_LINES:]),
        *([f"log: {state.log_url}"] if state.log_url else []),
    ]
    return BuildError("\n".join([message, *details]), value=state.id, hint=hint)


def _told_by_assembler(lines: Iterable[str]) -> Explanation | None:
    told = failure_in(lines)
    return Explanation(message=told[0], hint=told[1]) if told else None


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


def failed_step(state: BuildState, lines: Iterable[str]) -> int | None:
    """Return the number of the step that failed, from 0; None when none did."""
    for number, (_, status) in enumerate(state.step_statuses):
        if status in ("FAILURE", "TIMEOUT", "CANCELLED", "INTERNAL_ERROR"):
            return number
    for line in lines:
        match = _FAILED_STEP.search(line)
        if match:
            return int(match["number"])
    return None


def _step_name(state: BuildState, lines: Iterable[str], number: int) -> str:
    if number < len(state.step_statuses):
        return f"{number} ({state.step_statuses[number][0]})"
    names = (match["name"] for line in lines if (match := _FAILED_STEP.search(line)))
    return f"{number} ({next(names, '?')})"


def _secret_variables(number: int) -> tuple[str, str]:
    return f"REGISTRY_USERNAME_{number}", f"REGISTRY_PASSWORD_{number}"
