"""Which releases of the accelerator's own packages know which chip.

The facts were read off the packages themselves, and each names where:

* a TPU generation is known to a libtpu that compiles for it without one being there
  (`jax.experimental.topologies.get_topology_desc("tpu7x:2x2x1", platform="tpu")`);
* a GPU is known to a library that holds machine code for its compute capability, or for an
  earlier one of the same major version (the entries of the library's `.nv_fatbin` section).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from kinetic_flows.core.errors import AcceleratorError


@dataclass(frozen=True, kw_only=True)
class RuntimeRequirement:
    """The versions of a runtime package that support a chip.

    Attributes:
        package: The package.
        versions: The releases that know the chip, as a version specifier.
        source: Where that is known from.
    """

    package: str
    versions: str
    source: str

    def is_met_by(self, version: str | None) -> bool:
        """Whether a release will do; a package that is not there does no harm."""
        if version is None:
            return True
        return SpecifierSet(self.versions).contains(version, prereleases=True)


def libtpu(versions: str, source: str) -> RuntimeRequirement:
    """Return what a TPU generation asks of libtpu."""
    return RuntimeRequirement(package="libtpu", versions=versions, source=source)


BEFORE_TURING = (
    RuntimeRequirement(
        package="nvidia-cudnn-cu12",
        versions="<9.11",
        source="libcudnn_ops.so.9 of 9.10.2.21 has machine code for 5.0 to 7.0, that of 9.11.0.98 "
        "for nothing before 7.5",
    ),
    RuntimeRequirement(
        package="nvidia-cuda-runtime",
        versions="<13",
        source="https://docs.nvidia.com/cuda/cuda-toolkit-release-notes (13.0: Maxwell, Pascal "
        "and Volta are gone)",
    ),
)
"""What GPUs with a compute capability below 7.5 ask for."""

BLACKWELL = (
    RuntimeRequirement(
        package="nvidia-cuda-runtime-cu12",
        versions=">=12.8",
        source="https://docs.nvidia.com/cuda/archive/12.8.0/cuda-toolkit-release-notes (the first "
        "with compute capabilities 10.0 and 12.0)",
    ),
)
"""What GPUs with a compute capability of 10.0 and more ask for."""


def moved_constraints(
    pins: tuple[str, ...], needs: tuple[RuntimeRequirement, ...]
) -> tuple[str, ...]:
    """Return the pins of a base, without those that do not know an accelerator.

    Args:
        pins: Pins such as `nvidia-cudnn-cu12==9.28.0.42`.
        needs: What the accelerator asks for; what a pin contradicts takes the pin's place.
    """
    by_package = {need.package: need for need in needs}

    def moved(pin: str) -> str:
        name, _, version = pin.partition("==")
        need = by_package.get(name)
        return pin if need is None or need.is_met_by(version) else f"{name}{need.versions}"

    return tuple(moved(pin) for pin in pins)


def require_runtime(
    accelerator: str, needs: tuple[RuntimeRequirement, ...], packages: Mapping[str, str]
) -> None:
    """Refuse an accelerator that the packages of an image do not know.

    Args:
        accelerator: Its name, for the message.
        needs: What it asks of the packages that talk to it.
        packages: Version of each package of the image, by name.

    Raises:
        AcceleratorError: One of the packages is too old, or too new, for it.
    """
    for need in needs:
        version = packages.get(need.package)
        if need.is_met_by(version):
            continue
        raise AcceleratorError(
            f"{accelerator} needs {need.package}{need.versions}, and the image has {version}",
            value=accelerator,
            hint=f"require `{need.package}{need.versions}  # kn:keep`, or choose another "
            f"accelerator ({need.source})",
        )
