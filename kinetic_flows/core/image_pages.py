"""Where a browser shows an image."""

from __future__ import annotations

import re

from kinetic_flows.core.image_reference import (
    DOCKER_HUB,
    artifact_registry_location,
    parse_reference,
)

ARTIFACT_REGISTRY_CONSOLE = "https://console.cloud.google.com/artifacts/docker"


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
