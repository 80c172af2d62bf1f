"""What a compiled step tells of itself, of one device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from .rehearse_collectives import collectives_of, host_calls_of
from .rehearse_hints import one_line
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
    program = cache(lambda: Program(compiled.as_text()))
    known, warnings = read_parts(
        {
            "buffers": lambda: largest_buffers(program(), sources),
            "flops": lambda: _flops(compiled, program()),
            "bytes_accessed": lambda: bytes_moved(program()),
            "collectives": lambda: collectives_of(program()),
            "warnings": lambda: _warnings(program(), sources),
        }
    )
    told = known.pop("warnings", [])
    return {"memory": memory_of(compiled), **known, "warnings": [*told, *warnings]}


def read_parts(parts: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return what can be read of a program, and a sentence on what cannot.

    XLA may print programs as nobody here has seen yet, which does not change whether they fit.

    Args:
        parts: What reads each part, by its name.
    """
    known: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, read in parts.items():
        try:
            known[name] = read()
        except Exception as error:  # noqa: BLE001 - a reader's mistake is no failure of the step
            missing[name] = one_line(error)
    if not missing:
        return known, []
    names = ", ".join(name.replace("_", " ") for name in missing)
    return known, [f"{names}: not to be read of this compiler's program ({missing.popitem()[1]})"]


def memory_of(compiled: Any) -> dict[str, int]:
    """Return the memory that a program takes, as fields of `StepMemory`.

    What it needs is here all of it side by side: arguments and results are somebody's, and what
    the program makes meanwhile is one piece of memory that it gets when it begins.

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


def fitting(
    compiled: Any, memory: Mapping[str, Any], available: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the memory of a program that its compiler takes, and what is to be said of it.

    The compiler compares what is held at the fullest moment with what there is. Arguments, results
    and the piece of memory for all else may be more, as that piece is not always full.

    Args:
        compiled: A `jax.stages.Compiled`.
        memory: What it takes side by side, as `memory_of` has it.
        available: How many bytes a program may use; None where that is not known.
    """
    beside = memory.get("needed_bytes")
    if beside is None:
        return {"available_bytes": available}, []
    # jax 0.6 does not tell it.
    held = getattr(compiled.memory_analysis(), "peak_memory_in_bytes", 0) or beside
    needed = min(beside, held + memory["code_bytes"])
    if available is None:
        return {**memory, "needed_bytes": needed, "available_bytes": None}, []
    told = {**memory, "needed_bytes": min(needed, available), "available_bytes": available}
    if beside - memory["code_bytes"] <= available:
        return told, []
    over = (beside - available) / (1 << 20)
    what = (
        "its compiler takes it, but its arguments, results and temporaries side by side are "
        f"{over:,.0f} MiB more than there is: it may run out of memory when it begins"
    )
    return told, [what]


def devices_used(compiled: Any) -> set[Any]:
    """Return the devices that a program was compiled for; none where it does not say."""
    try:
        told = (compiled.input_shardings, compiled.output_shardings)
    except (AttributeError, NotImplementedError):
        # What jax.pmap makes, until jax 0.6 at least.
        return set()
    import jax

    places = jax.tree_util.tree_leaves(told)
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
