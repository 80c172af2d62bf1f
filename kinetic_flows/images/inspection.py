"""Whether a custom image can run a call, told from its configuration alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kinetic_flows.core.accelerators.image_variables import missing_variables
from kinetic_flows.core.accelerators.model import Architecture, Category
from kinetic_flows.core.display import labelled
from kinetic_flows.core.environment import pull_seconds, size_in_words
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_reference import (
    ImageReference,
    artifact_registry_location,
    parse_reference,
)
from kinetic_flows.core.image_registry import ImageConfig, ImageRegistry, ResolvedImage
from kinetic_flows.images.labels import LABEL_PYTHON

PYTHON_VARIABLE = "PYTHON_VERSION"
"""Set by the official images of Python (https://hub.docker.com/_/python) and most others."""

CUDA_VARIABLE = "CUDA_VERSION"
"""Set by NVIDIA's images of CUDA (https://hub.docker.com/r/nvidia/cuda)."""

_MINOR = re.compile(r"^(\d+\.\d+)(?:\.|$|[a-z])")


@dataclass(frozen=True, kw_only=True)
class ImageRequirements:
    """The requirements of a call on its image.

    Attributes:
        python: Python minor version of the client, such as `3.11`.
        architecture: Processor architecture of the nodes.
        category: Kind of accelerator of the nodes.
        project: Google Cloud project of the nodes; None when it is not known.
    """

    python: str
    architecture: Architecture = "amd64"
    category: Category = "cpu"
    project: str | None = None

    @property
    def platform(self) -> str:
        """The nodes' platform, as images name it."""
        return f"linux/{self.architecture}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why an image cannot run a call, and what to do about it."""

    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class ImageReport:
    """The findings about an image that was not pulled.

    Attributes:
        reference: The image as it was named.
        image: The image.
        python: Its Python minor version; None when it does not say.
        nodes: What the cluster's nodes need to pull it.
        runs_set: What runs on the accelerator set besides its ENV.
        problems: Why it cannot run a call; empty when it can.
        warnings: What the person should know, a sentence each.
    """

    reference: str
    image: ResolvedImage
    python: str | None
    nodes: str
    runs_set: Mapping[str, str]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, for machines."""
        config = self.image.config
        return {
            "reference": self.reference,
            "digest": self.image.digest,
            "platform": config.platform if config else None,
            "python": self.python,
            "size_bytes": config.size_bytes if config else None,
            "pull_seconds": round(pull_seconds(config.size_bytes), 1) if config else None,
            "entrypoint": list(config.entrypoint) if config else [],
            "user": config.user if config else "",
            "working_directory": config.working_directory if config else "",
            "nodes": self.nodes,
            "runs_set": dict(self.runs_set),
            "fits": not self.problems,
            "problems": [{"message": item.message, "hint": item.hint} for item in self.problems],
            "warnings": list(self.warnings),
        }

    def explain(self) -> str:
        """Return the report as text for people."""
        rows = [("image", self.reference), ("digest", self.image.digest)]
        rows += _config_rows(self.image.config) if self.image.config else []
        rows += [("python", self.python or "not said"), ("nodes", self.nodes)]
        rows += [("runs set", f"{name}={value}") for name, value in self.runs_set.items()]
        rows += [("warning", line) for line in self.warnings]
        rows += [("problem", f"{item.message}; {item.hint}") for item in self.problems]
        rows.append(("verdict", "cannot run calls" if self.problems else "can run calls"))
        return labelled(rows)


def check_image(
    registry: ImageRegistry, reference: str, required: ImageRequirements
) -> ImageReport:
    """Return what an image is, when it fits.

    Raises:
        ImageError: It is malformed, missing, unreadable or unfit.
    """
    report = inspect_image(registry, reference, required)
    for problem in report.problems:
        raise ImageError(problem.message, value=reference, hint=problem.hint)
    return report


def inspect_image(
    registry: ImageRegistry, reference: str, required: ImageRequirements
) -> ImageReport:
    """Look an image up and judge it, without pulling it.

    Args:
        registry: Where to look.
        reference: The image.
        required: What it has to be.

    Raises:
        ImageError: The reference is malformed, or the image is missing or cannot be read.
    """
    parsed = parse_reference(reference)
    image = registry.resolve(str(parsed), architecture=required.architecture)
    if image is None:
        raise ImageError(
            f"the image {parsed} does not exist",
            value=reference,
            hint="push it, or correct its tag; kinetic check-image looks again",
        )
    return report_on(reference, image, required)


def report_on(reference: str, image: ResolvedImage, required: ImageRequirements) -> ImageReport:
    """Judge an image.

    Args:
        reference: The image as the person names it.
        image: What the registry says of it.
        required: What it has to be.
    """
    return ImageReport(
        reference=reference,
        image=image,
        python=python_of(image),
        nodes=node_access(parse_reference(reference), required.project),
        runs_set=_runs_set(image, required),
        problems=tuple(_problems(reference, image, required)),
        warnings=tuple(_warnings(reference, image, required)),
    )


def image_from_fields(fields: Mapping[str, Any]) -> ResolvedImage:
    """Return an image whose fields, and its configuration's, were written as plain values."""
    config = fields.get("config")
    if config is None:
        return ResolvedImage(**fields)
    known = ImageConfig(**{**config, "entrypoint": tuple(config["entrypoint"])})
    return ResolvedImage(**{**fields, "config": known})


def python_of(image: ResolvedImage) -> str | None:
    """Return an image's Python minor version, by its label or its `PYTHON_VERSION`, or None."""
    variables = image.config.environment if image.config else {}
    said = (image.labels.get(LABEL_PYTHON), variables.get(PYTHON_VARIABLE))
    matches = (_MINOR.match(text) for text in said if text)
    return next((match[1] for match in matches if match), None)


def _runs_set(image: ResolvedImage, required: ImageRequirements) -> Mapping[str, str]:
    if image.config is None:
        return {}
    return missing_variables(required.category, image.config.environment)


def _problems(
    reference: str, image: ResolvedImage, required: ImageRequirements
) -> Iterator[Problem]:
    if image.config and image.config.platform != required.platform:
        yield Problem(
            message=f"the image {reference} is for {image.config.platform}, "
            f"the nodes are {required.platform}",
            hint=f"build it with: docker buildx build --platform {required.platform}",
        )
    python = python_of(image)
    if python and python != required.python:
        yield Problem(
            message=f"the image {reference} has Python {python}, and this is Python "
            f"{required.python}: what one pickles the other cannot read",
            hint=f"use an image with Python {required.python}, or call from Python {python}",
        )


def _warnings(reference: str, image: ResolvedImage, required: ImageRequirements) -> Iterator[str]:
    parsed = parse_reference(reference)
    if parsed.digest is None and parsed.version == "latest":
        yield (
            f"{reference} is whatever was pushed as 'latest' last; name a tag or a digest for "
            "runs that can be repeated"
        )
    yield from _cuda_warnings(reference, image, required)
    if python_of(image) is None:
        yield (
            f"{reference} does not say which Python it has ({PYTHON_VARIABLE} or the label "
            f"{LABEL_PYTHON}); it has to be {required.python}"
        )


def _cuda_warnings(
    reference: str, image: ResolvedImage, required: ImageRequirements
) -> Iterator[str]:
    """Say which driver an image of a GPU needs, which no node looks at."""
    version = image.config.environment.get(CUDA_VARIABLE) if image.config else None
    if required.category == "gpu" and version:
        yield (
            f"{reference} has CUDA {version}, and GKE does not see to a driver that is new enough: "
            "the node pool's gpu-driver-version has to be one that supports it"
        )


def _config_rows(config: ImageConfig) -> list[tuple[str, str]]:
    rows = [("platform", config.platform), ("size", size_in_words(config.size_bytes))]
    if config.entrypoint:
        rows.append(("entrypoint", f"{' '.join(config.entrypoint)} (not used by runs)"))
    rows.append(("user", config.user or "root"))
    rows.append(("directory", config.working_directory or "/"))
    return rows


def node_access(image: ImageReference, project: str | None) -> str:
    """Say what nodes need to pull an image; see https://cloud.google.com/artifact-registry/docs.

    Args:
        image: The image.
        project: The cluster's Google Cloud project; None when it is not known.
    """
    location = artifact_registry_location(image.registry)
    if location is None:
        return "read it if it is public, else with image_pull_secrets in job_variables="
    owner, repository = _owner_and_repository(image)
    if owner == project:
        return "read it as their own project's, unless their service account was restricted"
    return (
        "read it once they are let in: gcloud artifacts repositories add-iam-policy-binding "
        f"{repository} --location={location} --project={owner} "
        "--member=serviceAccount:THE_NODES --role=roles/artifactregistry.reader"
    )


def _owner_and_repository(image: ImageReference) -> tuple[str, str]:
    """Return project and repository; an old project `example.com:name` is written in two parts."""
    parts = image.repository.split("/")
    if "." in parts[0] and len(parts) > 2:
        return f"{parts[0]}:{parts[1]}", parts[2]
    return parts[0], parts[1] if len(parts) > 1 else ""
