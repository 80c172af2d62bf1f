"""`kinetic check-image`: whether an image of one's own can run calls."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.cli.documents import print_json
from kinetic_flows.code.project_settings import named_accelerator
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.images.inspection import ImageRequirements, inspect_image
from kinetic_flows.platforms.gke.registries import image_registry
from kinetic_flows.runs.session import configure


def check_image(
    image: str,
    /,
    *,
    accelerator: str = "cpu",
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Look at an image, without pulling it, and say whether it can run this Python's calls.

    Args:
        image: The image, as container_image= takes it.
        accelerator: What it is to run on, by its own name or the project's for it: its nodes
            decide the platform, and its kind which variables runs set where the image does not.
        as_json: Print a JSON object instead of text.
    """
    environ = process_environment()
    settings = configure(load_settings(environ), environ, NullProgress())
    nodes = parse_accelerator(named_accelerator(accelerator))
    required = ImageRequirements(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        architecture=nodes.architecture,
        category=nodes.category,
        project=settings.cloud.project if settings.cloud else None,
    )
    registry = image_registry(environ, settings.home, settings.cloud)
    try:
        report = inspect_image(registry, image, required)
    finally:
        registry.close()
    if as_json:
        print_json(report.to_json())
    else:
        print(for_terminal(report.explain()))
    if report.problems:
        sys.exit(ImageError.exit_code)
