"""What to do for an image that must exist: reuse it, follow a build, build it, or wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from kinetic_flows.core.image_registry import ResolvedImage


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """The image exists."""

    image: ResolvedImage


@dataclass(frozen=True, kw_only=True)
class Follow:
    """A build that makes the image is running; its log can be read."""

    build: str


@dataclass(frozen=True)
class Build:
    """No client builds the image: start a build."""


@dataclass(frozen=True)
class Wait:
    """Another client holds the lease, and no build is to be followed: look again soon."""


Decision: TypeAlias = Reuse | Follow | Build | Wait


def decide(
    *, image: ResolvedImage | None, holds_lease: bool, leased_build: str, running_build: str
) -> Decision:
    """Decide what to do next.

    Args:
        image: The image, if the registry has it. It counts more than anything else.
        holds_lease: Whether the lease is ours.
        leased_build: The build that the lease speaks of; empty for none, or for one that was
            over before anybody here waited for it.
        running_build: A running build with the image's tag, found without the lease's help
            (its holder died before it could say); empty for none, or when nobody has looked.
    """
    if image is not None:
        return Reuse(image=image)
    if not holds_lease:
        return Follow(build=leased_build) if leased_build else Wait()
    return Follow(build=running_build) if running_build else Build()
