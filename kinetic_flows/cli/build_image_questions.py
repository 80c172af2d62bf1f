"""The questions of `kinetic build-image` on a terminal, each answer checked as it is typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from kinetic_flows.cli.questions import asked_text, questionary, validator
from kinetic_flows.clients.registry.credentials import RegistryCredentials
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.settings import values as check
from kinetic_flows.core.settings.cloud import DEFAULT_ZONE
from kinetic_flows.core.settings.cloud_names import region
from kinetic_flows.core.version import VERSION
from kinetic_flows.images.base_image_specs import CATEGORIES, check_repository, check_tag
from kinetic_flows.platforms.gke.builds.docker_hub import TOKEN_PAGE

if TYPE_CHECKING:
    from kinetic_flows.flows.build_image import BuildImageParameters

ARTIFACT_REGISTRY = "Artifact Registry"
DOCKER_HUB = "Docker Hub"


def ask_parameters(known: BuildImageParameters, environ: Mapping[str, str]) -> BuildImageParameters:
    """Ask for what is not known yet.

    Args:
        known: What the command line says.
        environ: Variables, for the answers that are offered.

    Raises:
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    project = asked_text(
        "Google Cloud project that builds",
        default=known.project or environ.get("KINETIC_PROJECT", ""),
        accept=lambda text: check.project(text, "the project"),
    )
    kind = questionary.select("Registry", choices=[ARTIFACT_REGISTRY, DOCKER_HUB]).unsafe_ask()
    repository = (
        _artifact_registry(project, environ) if kind == ARTIFACT_REGISTRY else _docker_hub()
    )
    categories = known.categories or (None if known.controller else _categories())
    tag = known.tag or asked_text("Tag", default=VERSION, accept=check_tag)
    return replace(known, repository=repository, project=project, categories=categories, tag=tag)


def ask_docker_hub_login() -> RegistryCredentials:
    """Ask for Docker Hub's user name and access token; the token is not shown."""
    username = asked_text("Docker Hub user name", default="", accept=_some)
    token = questionary.password(
        f"Access token with Read & Write permissions ({TOKEN_PAGE})",
        validate=validator(_some),
    ).unsafe_ask()
    return RegistryCredentials(username=username, password=token.strip())


def _artifact_registry(project: str, environ: Mapping[str, str]) -> str:
    location = asked_text(
        "Location of the repository",
        default=region(environ.get("KINETIC_ZONE", DEFAULT_ZONE)),
        accept=lambda text: check_repository(f"{text}-docker.pkg.dev/{project}/name"),
    )
    host = f"{location}-docker.pkg.dev/{project.replace(':', '/')}"
    name = asked_text(
        "Repository", default="kinetic-base", accept=lambda text: check_repository(f"{host}/{text}")
    )
    return f"{host}/{name}"


def _docker_hub() -> str:
    namespace = asked_text("Namespace (user or organisation)", default="", accept=check_repository)
    name = asked_text(
        "Repository (empty for the namespace's own base-cpu, ...)",
        default="kinetic",
        accept=lambda text: check_repository(f"{namespace}/{text}".rstrip("/")),
    )
    return f"{namespace}/{name}".rstrip("/")


def _categories() -> list[str]:
    choices = [questionary.Choice(name, checked=True) for name in CATEGORIES]
    chosen: list[str] = questionary.checkbox(
        "Categories", choices=choices, validate=lambda names: bool(names) or "choose at least one"
    ).unsafe_ask()
    return chosen


def _some(text: str) -> None:
    if not text:
        raise KineticError("nothing was entered")
