"""How much a step computes, where its compiler does not say.

XLA counts that of any program, but in jax it takes a client of a device that runs; the CPU's
counts programs for GPUs as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .rehearse_loops import flops_of_further_turns
from .rehearse_program import Program


def flops_of(compiled: Any, lowered: Any, program: Program, devices: int) -> float | None:
    """Return how many operations one device has; None where nobody has counted them.

    Args:
        compiled: A `jax.stages.Compiled`.
        lowered: What it was compiled from.
        program: The compiled program.
        devices: How many devices share what it does.
    """
    own = _counted(lambda: compiled.runtime_executable().hlo_modules()[0])
    # Libraries such as cuBLAS and cuDNN are called by name, and what they compute is not counted;
    # before the compiler has chosen them it is, of all devices together.
    whole = _counted(lambda: lowered.compiler_ir("hlo").as_hlo_module())
    counted = max(own, whole / devices)
    return counted + flops_of_further_turns(program) if counted > 0 else None


def _counted(module: Callable[[], Any]) -> float:
    """Return what XLA counts in a program; 0 where a version of jax has no way to ask."""
    try:
        import jax
        from jaxlib import _jax

        counted = _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module())
    except (ImportError, AttributeError, RuntimeError):
        return 0.0
    return float(counted.get("flops", 0.0))
