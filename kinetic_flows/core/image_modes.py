"""What `container_image=` asks for: a mode by name, or an image of one's own."""

from __future__ import annotations

from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.errors import ImageError, suggest
from kinetic_flows.core.image_reference import parse_reference

BUNDLED: ImageMode = "bundled"
PREBUILT: ImageMode = "prebuilt"
CUSTOM: ImageMode = "custom"


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
