"""How the packages of a prebuilt run come to it: mounted as a volume, or installed at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core.display import counted
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.errors import ImageError, LockError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job_parts import PackagesSpec
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.plans.look_ahead import installed_because
from kinetic_flows.platforms.image_sources import DecidedBaseImage, ImageQuestions

MOUNTED = "Mounted as a volume"
ASSEMBLED = "Assembled from layers (cached by dep hash)"

UNASKED = "whether the cluster could mount them cannot be asked from here"


@dataclass(frozen=True, kw_only=True)
class PackagesVolume:
    """An image with a run's packages, which is mounted.

    Attributes:
        request: The image, by the name that its content gives it.
        environment: What is in it.
        image: The image; None when it has to be made.
    """

    request: ImageRequest
    environment: EnvironmentSpec
    image: ResolvedImage | None

    @property
    def expected(self) -> ResolvedImage:
        """The image, by its name alone where it has to be made."""
        return self.image or ResolvedImage(reference=self.request.reference, digest="", labels={})

    def mounted(self, image: ResolvedImage) -> PackagesSpec:
        """Return what the run is told of the image."""
        return PackagesSpec(image=image.reference, identity=self.environment.dependency_hash)


@dataclass(frozen=True, kw_only=True)
class Packages:
    """The decision about a prebuilt run's packages.

    Attributes:
        volume: The image that is mounted; None where they are installed at the start.
        why_installed: Why they are; empty where they are not, or nobody wants to know.
    """

    volume: PackagesVolume | None = None
    why_installed: str = ""

    @property
    def told(self) -> str:
        """Why they are installed, as a sentence; empty where nobody wants to know."""
        return installed_because(self.why_installed) if self.why_installed else ""


@dataclass(frozen=True, kw_only=True)
class WheelQuestion:
    """What is needed to find the wheels of a lock.

    Attributes:
        home: Directory of this machine's caches.
        environ: Variables for uv.
    """

    home: Path
    environ: Mapping[str, str]

    def without_wheel(self, environment: EnvironmentSpec) -> tuple[str, ...]:
        """Return the packages of an environment that only have a source archive."""
        # What asks an index is not imported by calls that need none.
        from kinetic_flows.dependencies.wheel_files import choose_wheels

        return choose_wheels(
            environment.lock,
            python=environment.python,
            platform=environment.platform,
            home=self.home,
            environ=self.environ,
        ).sources


def decide_packages(
    decided: DecidedBaseImage,
    found: Preflight | None,
    ask: ImageQuestions,
    wheels: WheelQuestion,
) -> Packages:
    """Decide how the packages of a prebuilt run come to it.

    Args:
        decided: The base image and the packages.
        found: What the cluster told; None where this client may not ask it.
        ask: What looks for an image.
        wheels: What finds wheels.

    Raises:
        ImageError: They are to be mounted whatever happens, and a package has no wheel.
        LockError: Likewise, and the public index cannot be asked for wheels.
    """
    if decided.prebuilt == "install" or not decided.lacking.packages:
        return Packages()
    if found is None and decided.prebuilt == "auto":
        return Packages(why_installed=UNASKED)
    if found is not None and found.no_image_volumes != "":
        why = found.no_image_volumes or ""
        return Packages(why_installed="" if installed_because(why) in found.warnings else why)
    image = ask.resolve(decided.volume)
    try:
        without = () if image else wheels.without_wheel(decided.lacking)
    except LockError as error:
        if decided.prebuilt == "volume":
            raise
        return Packages(why_installed=error.message.splitlines()[0])
    if without and decided.prebuilt == "volume":
        raise ImageError(
            f"KINETIC_PREBUILT is 'volume', and {_no_wheel(without)}",
            value=without,
            hint="say KINETIC_PREBUILT=install, with ship_wheels=True to have them built here; or "
            "container_image='bundled'",
        )
    if without:
        return Packages(why_installed=_no_wheel(without))
    volume = PackagesVolume(request=decided.volume, environment=decided.lacking, image=image)
    return Packages(volume=volume)


def _no_wheel(names: tuple[str, ...]) -> str:
    have = "has" if len(names) == 1 else "have"
    packages = counted(len(names), "package")
    return f"{packages} {have} no wheel for the image, only a source archive: {', '.join(names)}"
