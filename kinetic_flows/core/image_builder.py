"""The image builder: one protocol, and the values of a build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.image_registry import ResolvedImage


@dataclass(frozen=True, kw_only=True)
class StartedBuild:
    """A build that runs somewhere else, and can be looked at there.

    Attributes:
        id: The build's id.
        image: Reference of the image that it makes.
        url: Its page in a browser; empty when it has none.
        service: What runs it, as people call it.
        activity_of: Tells what a line of its log begins; None when it goes on as before.
    """

    id: str
    image: str
    url: str
    service: str
    activity_of: Callable[[str], str | None]


@dataclass(frozen=True, kw_only=True)
class ImagePreview:
    """How an image would be made, found out without making anything.

    Attributes:
        builder: Who makes it: this client (`direct`) or `cloud-build`.
        because: Why, in a few words.
        layers: How many layers it is assembled from; None where it has a Dockerfile.
        known: How many of them are in the registry.
        bytes_to_send: About how much is sent there.
        warnings: What of its packages does not go together, a sentence each, as far as it is known.
    """

    builder: str
    because: str
    layers: int | None = None
    known: int = 0
    bytes_to_send: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        """Who makes it, and why."""
        return f"{self.builder} ({self.because})"

    def __str__(self) -> str:
        if self.layers is None:
            return "built from a Dockerfile"
        words = [f"assembled from {self.layers} layers", f"{self.known} known"]
        missing = self.layers - self.known
        words += [f"{missing} to make"] if missing else []
        words += [f"{size_in_units(self.bytes_to_send)} to send"] if self.bytes_to_send else []
        return ", ".join(words)


OnBuild: TypeAlias = Callable[[StartedBuild], None]
"""Called with each build that is started or joined."""


def unannounced(build: StartedBuild) -> None:
    """Do nothing about a build that was started."""


class ImageBuilder(Protocol):
    """Makes images; one build per distinct request at a time, however many ask."""

    def build(
        self,
        request: ImageRequest,
        environment: EnvironmentSpec,
        on_output: Callable[[str], None],
        *,
        on_build: OnBuild = unannounced,
    ) -> ResolvedImage:
        """Build the image, or wait for the client that builds it; raise `BuildError` on failure.

        Args:
            request: Which image, named by its environment's hash.
            environment: What goes into it.
            on_output: Called with each line the build prints, as it is printed.
            on_build: Told of builds that run elsewhere, for links to them.
        """
        ...

    def preview(self, request: ImageRequest, environment: EnvironmentSpec) -> ImagePreview | None:
        """Say how the image would be made; None where that is always the same.

        Args:
            request: Which image.
            environment: What goes into it.

        Raises:
            KineticError: Whoever knows cannot be asked.
        """
        ...
