"""What `kinetic build-image` is to build, as values: images, names, steps. Nothing here acts.

One image is built for each category and Python version. It is pushed as `:{tag}-py{minor}`,
which clients look for first, and the first Python version's as `:{tag}` too. Each carries the
digest of what it was built from, so that the same inputs are not built again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.environment import BaseVariant
from kinetic_flows.core.errors import (
    RegistryAccessError,
    RepositoryNotFoundError,
    UsageError,
    suggest,
)
from kinetic_flows.core.image_reference import (
    DOCKER_HUB,
    artifact_registry_location,
    parse_reference,
)
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.settings import values as check
from kinetic_flows.images import tags
from kinetic_flows.images.assembly.bases import base_digest, base_labels
from kinetic_flows.images.bases import (
    GLIBC,
    UPSTREAM,
    BaseInputs,
    base_pythons,
    bootstrap_version,
    lean_inputs,
    read_base_inputs,
    read_bootstrap,
    read_controller_template,
    read_smoke_test,
)
from kinetic_flows.images.docker_context import read_context
from kinetic_flows.images.dockerfiles import BuildContext, BuildRecipe, controller_context
from kinetic_flows.images.labels import (
    LABEL_CATEGORY,
    LABEL_INPUTS,
    LABEL_KIND,
    LABEL_PYTHON,
    LABEL_TITLE,
    LABEL_VERSION,
)

CATEGORIES: tuple[Category, ...] = ("cpu", "gpu", "tpu")
LEAN = "-lean"
BASES: tuple[str, ...] = (*CATEGORIES, *(f"{category}{LEAN}" for category in CATEGORIES))
"""What bases are called: a category for the one with jax, and the one without any framework."""
CATEGORY_ARGUMENT = "KINETIC_CATEGORY"
PYTHON_ARGUMENT = "KINETIC_PYTHON"
"""Build arguments that a custom Dockerfile may declare."""


@dataclass(frozen=True, kw_only=True)
class BaseImagesRequest:
    """The options of `kinetic build-image`.

    Attributes:
        repository: Where the images go, without a tag, as `KINETIC_BASE_IMAGE_REPO` names it.
        tag: Version tag.
        version: This product's version, for the labels.
        categories: Kinds of accelerator, or `gpu-lean` and the like for bases without jax.
        pythons: Python minor versions; the first one's images get the plain tag.
        dockerfile: A custom Dockerfile; None for the product's.
        from_scratch: Whether to build what exists already, and without any earlier layer.
    """

    repository: str
    tag: str
    version: str
    categories: tuple[str, ...] = CATEGORIES
    pythons: tuple[str, ...]
    dockerfile: Path | None = None
    from_scratch: bool = False


@dataclass(frozen=True, kw_only=True)
class BaseImageSpec:
    """One image to build.

    Attributes:
        name: What to call it: `cpu`, or `cpu py3.12` where there are several.
        references: What it is pushed as; the first one is only its own.
        repository: The repository that it goes to, where its layers are kept, too.
        inputs: Digest of everything it is made from.
        source: The files of its build; for a base that is assembled, its lock and what it starts
            from.
        recipe: How it is built, what it must stand, and its labels.
        warnings: What may keep it from being published, a sentence each.
    """

    name: str
    references: tuple[str, ...]
    repository: str
    inputs: Sha256
    source: BuildContext | BaseInputs
    recipe: BuildRecipe
    warnings: tuple[str, ...] = ()

    @property
    def is_assembled(self) -> bool:
        """Whether it is assembled from layers; else it has a Dockerfile."""
        return isinstance(self.source, BaseInputs)

    @property
    def subject(self) -> str:
        """What its lease and its builds are called after: what it is, and all its names."""
        return sha256_hex(canonical_json([self.inputs, *self.references]))


@dataclass(frozen=True, kw_only=True)
class ExistingImage:
    """What the registry has under a specification's names.

    Attributes:
        spec: What it is to be.
        found: The images, by reference; None where there is none.
    """

    spec: BaseImageSpec
    found: Mapping[str, ResolvedImage | None]

    @property
    def is_current(self) -> bool:
        """Whether every name holds an image of exactly these inputs."""
        wanted = self.spec.inputs
        return all(
            image is not None and image.labels.get(LABEL_INPUTS) == wanted
            for image in self.found.values()
        )

    @property
    def has_to_be_made(self) -> bool:
        """Whether an image has to be made: there is another one, none, or it is made anew."""
        return self.spec.recipe.from_scratch or not self.is_current

    @property
    def replaced(self) -> Mapping[str, str]:
        """The digests of other images that hold these names, by reference."""
        return {ref: image.digest for ref, image in self.found.items() if image is not None}

    @property
    def image(self) -> ResolvedImage | None:
        """The image under its own name."""
        return self.found[self.spec.references[0]]


def check_repository(repository: str) -> str:
    """Return a repository as it is used.

    Raises:
        ConfigurationError: It cannot be a repository.
        UsageError: Its registry has no such names.
    """
    name = check.image_repository(repository, "--repo")
    reference = parse_reference(tags.base_image(name, "cpu"))
    parts = reference.repository.split("/")
    if reference.registry == DOCKER_HUB and len(parts) != 2:
        raise UsageError(
            f"{repository!r} cannot be on Docker Hub, whose names have two parts",
            value=repository,
            hint="give a namespace, or namespace/name, such as my-name/kinetic",
        )
    if artifact_registry_location(reference.registry) is not None and len(parts) < 3:
        raise UsageError(
            f"{repository!r} lacks the project or the repository",
            value=repository,
            hint=f"write {reference.registry}/PROJECT/REPOSITORY",
        )
    return name


def check_tag(tag: str) -> str:
    """Return a version tag.

    Raises:
        ImageError: It cannot be a tag.
    """
    parse_reference(f"base:{tags.python_tag(tag, '3.11')}")
    return tag


def check_categories(categories: Iterable[str]) -> tuple[str, ...]:
    """Return bases by what they are called, each once.

    Raises:
        UsageError: One of them does not exist.
    """
    chosen = tuple(dict.fromkeys(categories))
    for category in chosen:
        if category not in BASES:
            raise UsageError(
                f"there is no category {category!r}",
                value=category,
                hint=suggest(category, BASES),
            )
    return tuple(category for category in BASES if category in chosen)


def check_pythons(pythons: Iterable[str]) -> tuple[str, ...]:
    """Return Python versions that base images can have, each once.

    Raises:
        UsageError: There is no base image for one of them.
    """
    chosen = tuple(dict.fromkeys(pythons))
    for python in chosen:
        if python not in base_pythons():
            raise UsageError(
                f"there is no base image for Python {python}",
                value=python,
                hint=suggest(python, base_pythons()),
            )
    return chosen


def base_image_specs(request: BaseImagesRequest) -> tuple[BaseImageSpec, ...]:
    """Return what the images have to be that a request asks for.

    Raises:
        ImageError: The Dockerfile cannot be used.
    """
    return tuple(
        _base_image_spec(request, name, python)
        for python in request.pythons
        for name in request.categories
    )


def controller_image_spec(request: BaseImagesRequest, wheel: str, content: bytes) -> BaseImageSpec:
    """Return the image that the product's own flows run in.

    Args:
        request: What is asked for; its categories do not matter.
        wheel: File name of the product's wheel.
        content: The wheel.
    """
    python = request.pythons[0]

    def context(version: str) -> BuildContext:
        return controller_context(
            read_controller_template(),
            upstream=UPSTREAM.format(python=python),
            wheel=wheel,
            content=content,
            python=python,
            version=version,
        )

    inputs = _digest(context(""), {})
    modules = ("flows.build_image", "flows.reconciling", "blocks")
    program = "import " + ", ".join(f"kinetic_flows.{name}" for name in modules)
    return BaseImageSpec(
        name="controller",
        references=(f"{tags.controller_image(request.repository)}:{request.tag}",),
        repository=request.repository,
        inputs=inputs,
        source=context(request.version),
        recipe=BuildRecipe(
            labels={LABEL_INPUTS: inputs},
            smoke_tests=(("kinetic", "--version"), ("python3", "-c", program)),
            from_scratch=request.from_scratch,
        ),
    )


def find_existing(spec: BaseImageSpec, registry: ImageRegistry) -> ExistingImage:
    """Ask the registry what it has under a specification's names.

    Raises:
        ImageError: It cannot be asked, or has no such repository.
    """
    return ExistingImage(spec=spec, found={ref: _look_up(ref, registry) for ref in spec.references})


def _look_up(reference: str, registry: ImageRegistry) -> ResolvedImage | None:
    host = parse_reference(reference).registry
    try:
        return registry.resolve(reference)
    except RegistryAccessError:
        # Docker Hub says the same of what is private and of what does not exist.
        if host == DOCKER_HUB:
            return None
        raise
    except RepositoryNotFoundError:
        # Only Artifact Registry's repositories have to be there before something is pushed.
        if artifact_registry_location(host) is None:
            return None
        raise


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What one image is made from, whatever it is called."""

    inputs: Sha256
    source: BuildContext | BaseInputs
    recipe: BuildRecipe
    warnings: tuple[str, ...] = ()


def _base_image_spec(request: BaseImagesRequest, base: str, python: str) -> BaseImageSpec:
    category, variant = _parts(base)
    name = tags.base_image(request.repository, category, variant)
    references = [f"{name}:{tags.python_tag(request.tag, python)}"]
    if python == request.pythons[0]:
        references.append(f"{name}:{request.tag}")
    if request.dockerfile is None:
        found = _assembled(request.version, category, variant, python)
    else:
        found = _custom(request.dockerfile, request.version, category, python)
    return BaseImageSpec(
        name=f"{base} py{python}" if len(request.pythons) > 1 else base,
        references=tuple(references),
        repository=request.repository,
        inputs=found.inputs,
        source=found.source,
        recipe=replace(
            found.recipe,
            labels={**found.recipe.labels, LABEL_INPUTS: found.inputs},
            from_scratch=request.from_scratch,
        ),
        warnings=found.warnings,
    )


def _parts(base: str) -> tuple[Category, BaseVariant]:
    """Return the category and the variant that a base's name says."""
    category = next(item for item in CATEGORIES if item == base.removesuffix(LEAN))
    return category, "lean" if base.endswith(LEAN) else "jax"


def _assembled(version: str, category: Category, variant: BaseVariant, python: str) -> _Source:
    inputs = read_base_inputs(category, python)
    inputs = lean_inputs(inputs) if variant == "lean" else inputs
    return _Source(
        inputs=base_digest(inputs, read_bootstrap()),
        source=inputs,
        recipe=BuildRecipe(labels=base_labels(inputs, version)),
    )


def _custom(path: Path, version: str, category: Category, python: str) -> _Source:
    known = {CATEGORY_ARGUMENT: category, PYTHON_ARGUMENT: python}
    context = read_context(path, bootstrap=read_bootstrap())
    arguments = {name: known[name] for name in known if name in context.arguments}
    labels = {
        LABEL_KIND: "base",
        LABEL_CATEGORY: category,
        LABEL_PYTHON: python,
        LABEL_VERSION: version,
        LABEL_TITLE: f"kinetic base for {category}, Python {python}",
    }
    test = (read_smoke_test(), python, bootstrap_version(), GLIBC)
    return _Source(
        inputs=_digest(context.files, {**arguments, "category": category, "python": python}),
        source=context.files,
        recipe=BuildRecipe(
            dockerfile=context.files.dockerfile,
            arguments=arguments,
            labels=labels,
            smoke_tests=(("python3", "-c", *test),),
        ),
        warnings=context.warnings,
    )


def _digest(context: BuildContext, values: Mapping[str, str]) -> Sha256:
    """Return the digest of what an image is built from."""
    files = {path: hashlib.sha256(data).hexdigest() for path, data in context.files.items()}
    content = {
        "files": files,
        "executable": sorted(context.executable),
        "dockerfile": context.dockerfile,
        "values": dict(values),
    }
    return sha256_hex(canonical_json(content))
