"""What is told of a step that was compiled for GPUs, or for CPUs in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .rehearse_arguments import warnings_of
from .rehearse_compiled import describe, devices_used
from .rehearse_counts import counts_of
from .rehearse_dump import compile_and_note
from .rehearse_live import buffers_of
from .rehearse_program import Program
from .rehearse_steps import Around, Step

Judge = Callable[[Mapping[str, int], Mapping[str, Any]], dict[str, Any]]
"""Says of sizes (the fields of `StepMemory`) and a target whether the step fits, in the fields of
`StepReport`."""


def report_of(step: Step, around: Around, judge: Judge) -> dict[str, Any]:
    """Return what is known of a step, as plain JSON values.

    Args:
        step: The step.
        around: What it is compiled with.
        judge: Says whether it fits.
    """
    import jax

    begun = time.monotonic()
    # What says of no device where it is goes to the first one, as it does where they are.
    with jax.default_device(around.devices[0]):
        lowered = step.function.lower(*step.args, **step.kwargs)
    compiled, live = compile_and_note(lowered)
    known = {"name": step.name, "compile_seconds": round(time.monotonic() - begun, 2)}
    used = devices_used(compiled)
    if not used.issubset(around.devices):
        message = "the step was compiled for other devices than the accelerator's"
        hint = "make its mesh and shardings of the devices that the rehearsal is given"
        return {**known, "verdict": "failed", "message": message, "hint": hint}
    described = describe(compiled, around.sources)
    warnings = warnings_of(step) + described["warnings"]
    if len(used) < len(around.devices):
        warnings.append(
            f"it uses {len(used)} of {len(around.devices)} devices: nothing says how its "
            "arguments are divided among more"
        )
    if live:
        described["buffers"] = buffers_of(live, Program(compiled.as_text()), around.sources)
    described |= counts_of(compiled, lowered, max(len(used), 1))
    judged = judge(described["memory"], around.target)
    return {**known, **described, **judged, "warnings": warnings}
