"""Image references: their parts, the mode that `container_image=` asks for, and their pages.

The grammar is that of the distribution project
(https://pkg.go.dev/github.com/distribution/reference), with Docker Hub's defaults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.errors import ImageError, suggest

DOCKER_HUB = "docker.io"
DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = re.compile(r"^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d+)?\Z")
_PATH = re.compile(rf"^{_PATH_PART}(?:/{_PATH_PART})*\Z")
_TAG = re.compile(r"^\w[\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}\Z")
MAX_NAME_CHARACTERS = 255

BUNDLED: ImageMode = "bundled"
PREBUILT: ImageMode = "prebuilt"
CUSTOM: ImageMode = "custom"

ARTIFACT_REGISTRY_CONSOLE = "https://console.cloud.google.com/artifacts/docker"


@dataclass(frozen=True, kw_only=True)
class ImageReference:
    """An image by name.

    Attributes:
        registry: Host, with its port if it has one; `docker.io` for Docker Hub.
        repository: Path of the image in the registry.
        tag: Tag; None when there is none.
        digest: `sha256:…`; None when there is none.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def version(self) -> str:
        """What the registry is asked for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> ImageReference:
        """Return the immutable reference of the image's content."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def parse_reference(text: str) -> ImageReference:
    """Read an image reference.

    A first part with a dot or a port, or `localhost`, is a registry; without one the image is
    Docker Hub's, and of its `library` when it is a single word. A tag is not added.

    Raises:
        ImageError: The text is not a reference.
    """
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.match(digest):
        raise _malformed(text, "its digest is not sha256: and 64 hexadecimal digits")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    elif not _TAG.match(tag):
        raise _malformed(text, f"its tag {tag!r} is not letters, digits, '.', '_' and '-'")
    registry, repository = _split_registry(name)
    if not _HOST.match(registry):
        raise _malformed(text, f"its registry {registry!r} is not a host name")
    if not _PATH.match(repository):
        raise _malformed(text, _path_problem(repository))
    if len(f"{registry}/{repository}") > MAX_NAME_CHARACTERS:
        raise _malformed(text, f"its name is longer than {MAX_NAME_CHARACTERS} characters")
    return ImageReference(
        registry=registry, repository=repository, tag=tag or None, digest=digest or None
    )


def artifact_registry_location(registry: str) -> str | None:
    """Return the location of an Artifact Registry host, such as `us`; None for other hosts."""
    suffix = "-docker.pkg.dev"
    return registry.removesuffix(suffix) if registry.endswith(suffix) else None


def is_googles(registry: str) -> bool:
    """Whether a host is one of Artifact Registry's or Container Registry's."""
    container_registry = registry == "gcr.io" or registry.endswith(".gcr.io")
    return container_registry or artifact_registry_location(registry) is not None


def registry_of(repository: str) -> str:
    """Return the registry of a repository; Docker Hub's where it names none."""
    return _split_registry(repository)[0]


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash:
        return DOCKER_HUB, f"library/{name}"
    if not set(first) & set(".:") and first != "localhost":
        return DOCKER_HUB, name
    if first not in DOCKER_HUB_HOSTS:
        return first, rest
    return DOCKER_HUB, rest if "/" in rest else f"library/{rest}"


def _path_problem(repository: str) -> str:
    if repository != repository.lower():
        return f"its repository {repository!r} has capital letters"
    return f"its repository {repository!r} is not lower-case words separated by '/'"


def _malformed(text: str, why: str) -> ImageError:
    return ImageError(
        f"{text!r} is not an image reference: {why}",
        value=text,
        hint="give it as registry/repository:tag or registry/repository@sha256:…, such as "
        "us-docker.pkg.dev/my-project/my-repo/my-image:v1",
    )


def mode_of(container_image: str | None) -> ImageMode:
    """Return the mode that a `container_image` asks for.

    Args:
        container_image: None or `bundled`, `prebuilt`, or the reference of an image.

    Raises:
        ImageError: It is a misspelt mode, or not an image reference.
    """
    text = BUNDLED if container_image is None else container_image.strip()
    if text.lower() == BUNDLED:
        return BUNDLED
    if text.lower() == PREBUILT:
        return PREBUILT
    if not set(text) & set("/:@"):
        raise ImageError(
            f"container_image={container_image!r} is neither a mode nor a full image reference",
            value=container_image,
            hint=f"{suggest(text, (BUNDLED, PREBUILT))}; an image of your own is written "
            "with its registry or a tag, such as docker.io/library/NAME:TAG",
        )
    parse_reference(text)
    return CUSTOM


def image_page(reference: str) -> str | None:
    """Return the page of an image in its registry's own console; None when it has none we know.

    Args:
        reference: The image, by tag or digest.

    Raises:
        ImageError: It is no image reference.
    """
    image = parse_reference(reference)
    location = artifact_registry_location(image.registry)
    if location:
        # An organisation's old project, `example.com:name`, has a slash for its colon here.
        project, *rest = re.sub(r"^([^/]+\.[^/]+)/", r"\1:", image.repository).split("/")
        where = [project, location, *rest[:1], "%2F".join(rest[1:]), image.digest]
        return f"{ARTIFACT_REGISTRY_CONSOLE}/{'/'.join(part for part in where if part)}"
    if image.registry == DOCKER_HUB:
        return f"https://hub.docker.com/r/{image.repository}"
    return None
