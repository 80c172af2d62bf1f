"""Environment variables that accelerators need in an image, the product's or not. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.core.accelerators.model import Category

JAX_PLATFORMS: Mapping[Category, str] = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
"""What JAX has to bring up, else it raises; without it JAX goes on with the CPU.

Only where there is no device file of an NVIDIA GPU does JAX 0.10 skip `cuda` without a word
(`jax._src.xla_bridge.backends`), which the runner looks for before the call.
"""

DRIVER_LIBRARIES = "/usr/local/nvidia/lib64"
DRIVER_PROGRAMS = "/usr/local/nvidia/bin"
"""Where GKE mounts the driver: https://cloud.google.com/kubernetes-engine/docs/how-to/gpus#cuda."""


def missing_variables(category: Category, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what has to be set for an image on an accelerator besides its own ENV.

    What the image sets stays; directories are added at the end of its own.

    Args:
        category: Kind of accelerator.
        environment: The image's ENV.
    """
    if category == "cpu":
        return {}
    missing = {}
    if not environment.get("JAX_PLATFORMS"):
        missing["JAX_PLATFORMS"] = JAX_PLATFORMS[category]
    if category == "gpu":
        missing |= _with_directory("LD_LIBRARY_PATH", DRIVER_LIBRARIES, environment)
        # An image without a PATH has its runtime's default, which nothing may cover up.
        if environment.get("PATH"):
            missing |= _with_directory("PATH", DRIVER_PROGRAMS, environment)
    return missing


def _with_directory(name: str, directory: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return a list of directories with one more at its end, unless that is in it."""
    own = environment.get(name, "")
    if directory in (part.rstrip("/") for part in own.split(":")):
        return {}
    return {name: f"{own}:{directory}" if own else directory}
