"""Images that somebody builds and pushes on their own, without the product."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

from loopback.cloud import REGISTRY_HOST, LoopbackCloud
from loopback.lifted_python import MINOR
from loopback.small_images import INDEX, MANIFEST

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def push_directory(cloud: LoopbackCloud, image: str, directory: Path) -> str:
    """Build a directory's Dockerfile, push the image, and return its reference.

    Args:
        cloud: Whose registry takes it.
        image: Project, repository, name and tag.
        directory: The build's context.
    """
    reference = f"{REGISTRY_HOST}/{image}"
    options = ("--format", "docker", "--build-arg", f"PYTHON={MINOR}")
    cloud.containers.run("buildah", "bud", *options, "--tag", reference, str(directory))
    target = f"docker://{cloud.front.host}/{image}"
    cloud.containers.run("buildah", "push", "--tls-verify=false", reference, target)
    return reference


def push_dockerfile(cloud: LoopbackCloud, image: str, text: str, directory: Path) -> str:
    """Build and push a Dockerfile given as text; as `push_directory`."""
    directory.mkdir(parents=True)
    (directory / "Dockerfile").write_text(text)
    return push_directory(cloud, image, directory)


def add_tag(cloud: LoopbackCloud, repository: str, existing: str, tag: str) -> None:
    """Give an image of a repository another tag."""
    base = f"{cloud.registry.url}/v2/{repository}/manifests"
    accept: Mapping[str, str] = {"Accept": ", ".join((INDEX, MANIFEST, DOCKER_MANIFEST))}
    found = httpx.get(f"{base}/{existing}", headers=accept)
    found.raise_for_status()
    kind = {"Content-Type": found.headers["Content-Type"]}
    httpx.put(f"{base}/{tag}", content=found.content, headers=kind).raise_for_status()
