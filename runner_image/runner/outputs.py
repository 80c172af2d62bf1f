"""Where a run's outputs go, decided and had before its function is called."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .contract import EXIT_OUTPUT_DIR_UNAVAILABLE, Fault

if TYPE_CHECKING:
    from .preparing import Start

OUTPUT_DIR_LABEL = "kinetic.output-dir"
"""Label of a flow run with the directory of its outputs, where its parameters decided it."""


def output_directory(start: Start, parameters: Mapping[str, Any] | None) -> str:
    """Return the directory or URI of a run's outputs; a directory is made.

    Args:
        start: The start of the run.
        parameters: What the function is called with besides its payload; None for nothing.

    Raises:
        Fault: Another run writes there, a parameter cannot be part of its name, or it cannot be
            made.
    """
    # Jobs that were written by earlier clients do not say.
    output = start.job.get("output")
    directory: str = start.job["output_dir"]
    if output:
        directory = _own(start, output, parameters or {})
    if "://" not in directory:
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            message = f"the output directory {directory} cannot be made: {error.strerror}"
            raise Fault(EXIT_OUTPUT_DIR_UNAVAILABLE, message) from error
    return directory


def _own(start: Start, output: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Have a directory that was named."""
    from .output_dirs import exact_directory, has_fields
    from .output_leases import Lease, take

    directory: str = output["directory"]
    # Where a volume is mounted there, others know it by what is on that.
    place: str = output.get("uri") or directory
    if has_fields(directory):
        arguments = {**output["arguments"], **parameters}
        directory = exact_directory(directory, arguments)
        place = exact_directory(place, arguments)
        if start.host == 0:
            start.reporter.label({OUTPUT_DIR_LABEL: place})
    lease = Lease(place, output["in_use"] == "wait", start.store, start.api, start.job)
    take(lease, start.host, start.output.say)
    return directory
