"""The source of a build that assembles an image: what to make, the assembler, wheels that ship."""

from __future__ import annotations

from kinetic_flows.core.wheel_file import WheelSource
from kinetic_flows.images.assembly.bundle import (
    BUNDLE_FILE,
    assembler_bundle,
    assembler_script,
)
from kinetic_flows.images.assembly.remote import ASSEMBLY_FILE, WHEELS_DIRECTORY
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.dockerfiles import BuildContext
from kinetic_flows.platforms.gke.builds.build import AssemblyRecipe
from kinetic_flows.platforms.gke.builds.requests import BuildSource


def assembly_source(assembly: Assembly, wheels: WheelSource) -> BuildSource:
    """Return what a build assembles an image from.

    Args:
        assembly: The image.
        wheels: Where wheels that ship come from; the build downloads all others itself.

    Raises:
        KineticError: A wheel that ships cannot be had.
    """
    shipped = {
        f"{WHEELS_DIRECTORY}/{wheel.filename}": wheels.fetch(wheel).read_bytes()
        for wheel in assembly.wheels
        if not wheel.url
    }
    files = {
        ASSEMBLY_FILE: assembly.to_json().encode(),
        BUNDLE_FILE: assembler_bundle(),
        **shipped,
    }
    return BuildSource(
        context=BuildContext(files=files),
        recipe=AssemblyRecipe(
            python=assembly.python, command=("bash", "-e", "-c", assembler_script())
        ),
    )
