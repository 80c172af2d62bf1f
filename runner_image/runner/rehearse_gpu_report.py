"""What is told of a step that was compiled for GPUs, or for CPUs in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .rehearse_arguments import warnings_of
from .rehearse_collectives import collectives_of
from .rehearse_compiled import devices_used, memory_of, read_parts
from .rehearse_counts import flops_of
from .rehearse_dump import compile_and_note
from .rehearse_live import buffers_of
from .rehearse_memory import largest_buffers
from .rehearse_program import Program
from .rehearse_steps import Around, Step
from .rehearse_traffic import bytes_moved

Judge = Callable[[Mapping[str, int], Mapping[str, Any]], dict[str, Any]]
"""Says of sizes (the fields of `StepMemory`) and a target whether the step fits, in the fields of
`StepReport`."""


def report_of(
    step: Step, around: Around, judge: Judge, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what is known of a step, as plain JSON values.

    Args:
        step: The step.
        around: What it is compiled with.
        judge: Says whether it fits.
        options: Options of XLA.
    """
    import jax

    begun = time.monotonic()
    # What says of no device where it is goes to the first one, as it does where they are.
    with jax.default_device(around.devices[0]):
        lowered = step.function.lower(*step.args, **step.kwargs)
    compiled, text, live = compile_and_note(lowered, options)
    known = {"name": step.name, "compile_seconds": round(time.monotonic() - begun, 2)}
    used = devices_used(compiled)
    if not used.issubset(around.devices):
        message = "the step was compiled for other devices than the accelerator's"
        hint = "make its mesh and shardings of the devices that the rehearsal is given"
        return {**known, "verdict": "failed", "message": message, "hint": hint}
    warnings = warnings_of(step)
    if 0 < len(used) < len(around.devices):
        warnings.append(
            f"it uses {len(used)} of {len(around.devices)} devices: nothing says how its "
            "arguments are divided among more"
        )
    program = Program(text)
    sources = around.sources
    described, unread = read_parts(
        {
            "buffers": lambda: (
                buffers_of(live, program, sources) or largest_buffers(program, sources)
            ),
            "flops": lambda: flops_of(compiled, lowered, program, max(len(used), 1)),
            "bytes_accessed": lambda: bytes_moved(program) or None,
            "collectives": lambda: collectives_of(program),
        }
    )
    judged = judge(memory_of(compiled), around.target)
    return {**known, **described, "warnings": warnings + unread, **judged}
