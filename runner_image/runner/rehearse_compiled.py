"""What a compiled step tells of itself, of one device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .rehearse_collectives import collectives_of, host_calls_of
from .rehearse_loops import flops_of_further_turns
from .rehearse_memory import largest_buffers
from .rehearse_program import Program
from .rehearse_sources import Sources
from .rehearse_traffic import bytes_moved


def describe(compiled: Any, sources: Sources) -> dict[str, Any]:
    """Return what is known of a program, as fields of `StepReport`, and warnings.

    Args:
        compiled: A `jax.stages.Compiled`.
        sources: Names lines of the person's own files.
    """
    program = Program(compiled.as_text())
    return {
        "memory": memory_of(compiled),
        "buffers": largest_buffers(program, sources),
        "flops": _flops(compiled, program),
        "bytes_accessed": bytes_moved(program),
        "collectives": collectives_of(program),
        "warnings": _warnings(program, sources),
    }


def memory_of(compiled: Any) -> dict[str, int]:
    """Return the memory that a program takes, as fields of `StepMemory`.

    All of it is there at once: arguments and results are somebody's, and what the program makes
    meanwhile is one piece of memory that it gets when it begins.

    Args:
        compiled: A `jax.stages.Compiled`.
    """
    told = compiled.memory_analysis()
    if told is None:
        return {}
    arguments, temporary = told.argument_size_in_bytes, told.temp_size_in_bytes
    output = max(told.output_size_in_bytes - told.alias_size_in_bytes, 0)
    code = told.generated_code_size_in_bytes
    return {
        "needed_bytes": arguments + output + temporary + code,
        "arguments_bytes": arguments,
        "output_bytes": output,
        "temporary_bytes": temporary,
        "code_bytes": code,
    }


def devices_used(compiled: Any) -> set[Any]:
    """Return the devices that a program was compiled for."""
    import jax

    places = jax.tree_util.tree_leaves((compiled.input_shardings, compiled.output_shardings))
    return {device for place in places for device in _devices(place)}


def _devices(place: Any) -> Iterable[Any]:
    return getattr(place, "device_set", ())


def _flops(compiled: Any, program: Program) -> float | None:
    """Return how many operations a step has; None where the compiler has counted none."""
    told = compiled.cost_analysis()
    # Some versions of jax give a list of one.
    found = told[0] if isinstance(told, list | tuple) and told else told
    counted = (found or {}).get("flops") or 0.0
    return float(counted) + flops_of_further_turns(program) if counted > 0 else None


def _warnings(program: Program, sources: Sources) -> list[str]:
    """Return what a person should know of a program, a sentence each."""
    calls = host_calls_of(program)
    if not calls:
        return []
    named = []
    for call in calls:
        source = sources.of(program.frames_of(call))
        named.append(f"{call.operation or call.name} at {source}" if source else call.operation)
    what = ", ".join(dict.fromkeys(filter(None, named)))
    return [f"it calls Python on its host each time ({what}), and chips wait for that"]
