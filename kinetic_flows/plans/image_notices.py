"""What a call's image source makes worth saying, besides what the accelerators do."""

from __future__ import annotations

from kinetic_flows.dependencies.base_locks import made_base_notice
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.platforms.image_sources import ImageSource, OwnImage


def image_notices(image: ImageSource, source: DependencySource) -> tuple[str, ...]:
    """Say what of the project does not count for an image, and which base was made for it.

    Args:
        image: Where the image comes from.
        source: What declares the project's dependencies.
    """
    return (*_ignored(image, source), *_made_base(image))


def _ignored(image: ImageSource, source: DependencySource) -> tuple[str, ...]:
    """Say that dependencies do not count for an image of the person's own."""
    if not isinstance(image, OwnImage) or source.kind == "none":
        return ()
    return (f"{source.label} is ignored: {image.reference} has its own packages",)


def _made_base(image: ImageSource) -> tuple[str, ...]:
    """Say that the base has a lock that was made for this Python."""
    if isinstance(image, OwnImage) or not image.target.made_base_lock:
        return ()
    target = image.target
    return (made_base_notice(target.category, target.python, target.made_base_lock),)
