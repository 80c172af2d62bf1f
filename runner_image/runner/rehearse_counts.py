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
    # Libraries such as cuBLAS and cuDNN are called by name, and what they compute is not counted;
    # before the compiler has chosen them it is, of all devices together.
    whole = _module(lambda: lowered.compiler_ir("hlo").as_hlo_module())
    before = _counted(whole) + (flops_of_further_turns(Program(whole.to_string())) if whole else 0)
    own = _counted(_module(lambda: compiled.runtime_executable().hlo_modules()[0]))
    flops = max(own + flops_of_further_turns(program) if own else 0.0, before / devices)
    return flops if flops > 0 else None


def _module(ask: Callable[[], Any]) -> Any:
    """Return a program; None where a version of jax does not give it."""
    try:
        return ask()
    except (AttributeError, RuntimeError):
        return None


def _counted(module: Any) -> float:
    """Return what XLA counts in a program; 0 where a version of jax has no way to ask."""
    if module is None:
        return 0.0
    try:
        import jax
        from jaxlib import _jax

        counted = _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module)
    except (ImportError, AttributeError, RuntimeError):
        return 0.0
    return max(float(counted.get("flops", 0.0)), 0.0)
