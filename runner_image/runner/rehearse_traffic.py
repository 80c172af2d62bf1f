"""How much a compiled program reads and writes of a device's memory.

XLA's cost analysis counts what stays in a core's own memory, too, and of a loop one turn. Here only
arrays in the device's memory count, as often as they are read or written, and of those that are
cut from or set into others only the part.
"""

from __future__ import annotations

from collections.abc import Iterator

from .rehearse_loops import runs_of
from .rehearse_program import Instruction, Program
from .rehearse_shapes import arrays_in

_STILL = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"}
    | {"call", "after-all", "add-dependency", "domain", "optimization-barrier", "partition-id"}
)
"""What moves nothing, or leaves that to the computations that it calls."""

_CUT = frozenset({"dynamic-slice", "slice", "gather"})
"""What reads a part of its first operand."""

_SET = "dynamic-update-slice"
"""What writes a part, its second operand, into its first."""

_VIEWS = frozenset({"bitcast", "convert", "copy", "reshape", "transpose"})
"""What gives all of its operand in another form; within a fusion, only as far as it is needed."""

_NOTHING = ("AllocateBuffer", "ConcatBitcast")
"""Custom calls of libtpu that move nothing."""

_DEEPEST = 50


def bytes_moved(program: Program) -> float:
    """Return how many bytes a program reads and writes of a device's memory, loops included.

    Args:
        program: The program.
    """
    runs = runs_of(program)
    return sum(
        runs.get(name, 0.0) * sum(_moved(program, each) for each in program.computations[name])
        for name in _run_by_themselves(program)
    )


def _run_by_themselves(program: Program) -> set[str]:
    """Return the computations whose instructions run one after the other, as those of loops do.

    Which branch of a conditional runs nobody knows, so none of them is counted.
    """
    found, waiting = set(), [program.entry]
    while waiting:
        name = waiting.pop()
        if name in found or name not in program.computations:
            continue
        found.add(name)
        waiting += (
            called
            for each in program.computations[name]
            if each.opcode in ("while", "call")
            for called in each.called
        )
    return found


def _moved(program: Program, instruction: Instruction) -> int:
    opcode = instruction.opcode
    if opcode in _STILL or any(f'"{name}"' in instruction.rest for name in _NOTHING):
        return 0
    if opcode.endswith("-done"):
        return _size(instruction)
    if opcode.endswith("-start"):
        return sum(_reads(program, instruction))
    return sum(_reads(program, instruction)) + _written(program, instruction)


def _reads(program: Program, instruction: Instruction) -> Iterator[int]:
    """Return what an instruction reads of each of its operands."""
    for place, name in enumerate(instruction.operands):
        operand = program.by_name.get(name)
        full = 0 if operand is None else _size(operand)
        if full == 0:
            continue
        opcode = instruction.opcode.removesuffix("-start")
        if place == 0 and opcode in _CUT:
            yield min(full, _cut_size(instruction))
        elif place == 0 and opcode == _SET:
            continue
        elif instruction.opcode in ("fusion", "async-start") and instruction.called:
            used, is_view = _used(program, instruction.called[0], place, full)
            yield full if is_view else used
        else:
            yield full


def _used(
    program: Program, computation: str, place: int, full: int, depth: int = 0
) -> tuple[int, bool]:
    """Return how much of an operand is read by the computation that takes it.

    Returns:
        How much of it is for certain, and whether all of it is given on besides, so that this
        depends on who takes that.
    """
    inner = program.computations.get(computation, ())
    own = next((each for each in inner if each.argument == place), None)
    if own is None or depth > _DEEPEST:
        return full, False
    names, total = {own.name}, 0
    for each in inner:
        at = [number for number, name in enumerate(each.operands) if name in names]
        if not at:
            continue
        if each.opcode in _VIEWS:
            names.add(each.name)
        elif each.opcode in _CUT and at == [0]:
            total += _cut_size(each)
        elif each.opcode == "fusion" and each.called:
            for one in at:
                used, is_view = _used(program, each.called[0], one, full, depth + 1)
                total += used
                names |= {each.name} if is_view else set()
        elif each.opcode != _SET or at != [0]:
            return full, False
    root = program.root_of(computation)
    return min(total, full), root is not None and root.name in names


def _written(program: Program, instruction: Instruction) -> int:
    """Return what an instruction writes."""
    if instruction.opcode == _SET:
        return _update(program, instruction, _size(instruction))
    root = program.root_of(instruction.called[0]) if instruction.called else None
    if instruction.opcode != "fusion" or root is None:
        return _size(instruction)
    parts = [root]
    if root.opcode == "tuple":
        parts = [program.by_name.get(name, root) for name in root.operands]
    shapes = arrays_in(instruction.shape)
    if len(shapes) != len(parts):
        return _size(instruction)
    return sum(
        _update(program, _behind_views(program, part), shape.size_bytes)
        for part, shape in zip(parts, shapes, strict=True)
        if shape.is_in_device_memory
    )


def _update(program: Program, instruction: Instruction, full: int) -> int:
    """Return the size of what is set into another array; that of all where nothing is."""
    if instruction.opcode != _SET or len(instruction.operands) < 2 or full == 0:
        return full
    update = program.by_name.get(instruction.operands[1])
    return full if update is None else min(full, _cut_size(update))


def _behind_views(program: Program, instruction: Instruction) -> Instruction:
    """Return what an instruction gives in another form; itself where it makes something."""
    for _ in range(_DEEPEST):
        before = program.by_name.get(instruction.operands[0]) if instruction.operands else None
        is_view = instruction.opcode in _VIEWS or (
            instruction.opcode == "fusion"
            and len(instruction.called) == 1
            and _used(program, instruction.called[0], 0, 1)[1]
        )
        if not is_view or before is None:
            break
        instruction = before
    return instruction


def _size(instruction: Instruction) -> int:
    """Return how much of an instruction's result is in the device's memory."""
    return sum(each.size_bytes for each in arrays_in(instruction.shape) if each.is_in_device_memory)


def _cut_size(instruction: Instruction) -> int:
    """Return how large what an instruction cuts or makes is, wherever it is.

    What begins to be cut has what it is cut from as well, first.
    """
    arrays = arrays_in(instruction.shape)
    cut = arrays[1:2] if instruction.opcode.endswith("-start") else arrays
    return max((each.size_bytes for each in cut), default=0)
