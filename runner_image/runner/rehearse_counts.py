"""How much a step computes, where its compiler does not say.

XLA counts that of any program, but in jax it takes a client of a device that runs; the CPU's
counts programs for GPUs as well.
"""

from __future__ import annotations

from typing import Any


def counts_of(compiled: Any, lowered: Any, devices: int) -> dict[str, float | None]:
    """Return operations and bytes of one device, by the names of `StepReport`.

    What stands in a loop counts once: how often that runs, no program says.

    Args:
        compiled: A `jax.stages.Compiled`.
        lowered: What it was compiled from.
        devices: How many devices share what it does.
    """
    own = _counted(compiled.runtime_executable().hlo_modules()[0])
    whole = _counted(lowered.compiler_ir("hlo").as_hlo_module())
    # Libraries such as cuBLAS and cuDNN are called by name, and what they compute is not counted;
    # before the compiler has chosen them it is, of all devices together.
    flops = max(own.get("flops", 0.0), whole.get("flops", 0.0) / devices)
    return {
        "flops": flops if flops > 0 else None,
        "bytes_accessed": own.get("bytes accessed") or None,
    }


def _counted(module: Any) -> dict[str, float]:
    """Return what XLA counts in a program; nothing where a version of jax has no way to ask."""
    try:
        import jax
        from jaxlib import _jax

        return dict(_jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module))
    except (ImportError, AttributeError, RuntimeError):
        return {}
