"""What of a compiled program takes memory at the moment when it holds most.

A program's instructions are printed in the order in which they run, so that from when to when each
of their buffers is held can be followed. The compiler's own assignment is what counts for whether
a program fits (`memory_analysis`); this tells what it is full of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .rehearse_program import Instruction, Program
from .rehearse_shapes import Array, Shape, arrays_in
from .rehearse_sources import Sources

LARGEST, TOO_SMALL = 10, 1000
"""How many buffers are told, none of which is less than a thousandth of all."""
TO_THE_END = 1 << 60

_PASSED_ON = frozenset(
    {"bitcast", "optimization-barrier", "while", "all-reduce-done", "dynamic-update-slice"}
    | {"add-dependency", "domain"}
)
"""What gives what it takes: the first of its operands, in its place."""
_STARTED = {"copy-done": 0}
"""Which part of what began is what it gives in the end; of all other ends it is the second."""
_RUN_ONE_BY_ONE = frozenset({"while", "conditional", "call", "async-start"})
"""What calls computations whose instructions run by themselves, as those of a loop do."""
_WRITTEN_OVER = frozenset({"add", "subtract", "multiply", "divide", "convert", "select"})
"""What may put its result where an operand was that nobody needs any more."""


class _Buffer:
    """Memory that an instruction's result takes, from when to when."""

    def __init__(self, array: Array, instruction: Instruction, kind: str, born: int) -> None:
        self.array, self.instruction, self.kind = array, instruction, kind
        self.born, self.last = born, born


Value = _Buffer | list["Value"] | None
"""Where a result is; None for what takes no memory of its own here."""


class _Held(NamedTuple):
    """What is held at one moment.

    Attributes:
        size_bytes: How much that is.
        buffers: What it is.
    """

    size_bytes: int
    buffers: list[_Buffer]


def largest_buffers(program: Program, sources: Sources) -> list[dict[str, Any]]:
    """Return the largest buffers at the moment when a program holds most, largest first.

    Args:
        program: The program.
        sources: Names lines of the person's own files.

    Returns:
        Each as the fields of `Buffer` in `kinetic_flows/core/rehearsals.py`.
    """
    held = _Computation(program, program.entry, is_entry=True).most()
    found = [each for each in held.buffers if each.array.size_bytes * TOO_SMALL > held.size_bytes]
    largest = sorted(found, key=lambda each: -each.array.size_bytes)[:LARGEST]
    return [
        {
            "size_bytes": buffer.array.size_bytes,
            "shape": buffer.array.text,
            "operation": _operation(buffer, described),
            "source": sources.of(program.frames_of(described)),
            "kind": buffer.kind,
        }
        for buffer in largest
        for described in [told_by(program, buffer.instruction)]
    ]


def _operation(buffer: _Buffer, described: Instruction) -> str:
    """Return what made a buffer; compilers copy arguments into another layout."""
    is_copy = described.opcode == "parameter" and buffer.kind != "argument"
    return f"copy of {described.operation}" if is_copy else described.operation


def told_by(program: Program, instruction: Instruction) -> Instruction:
    """Return the instruction that tells where one comes from: not all that compilers add do.

    Args:
        program: The program.
        instruction: The instruction.
    """
    found: Instruction | None = instruction
    for _ in range(8):
        if found is None or found.operation:
            break
        inner = program.root_of(found.called[0]) if found.called else None
        if inner is not None and inner.operation:
            return inner
        found = program.by_name.get(found.operands[0]) if found.operands else None
    return found or instruction


class _Computation:
    """Follows the buffers of a computation."""

    def __init__(self, program: Program, name: str, *, is_entry: bool = False) -> None:
        self._program, self._is_entry = program, is_entry
        self._values: dict[str, Value] = {}
        self._buffers: list[_Buffer] = []
        self._inside: dict[int, _Held] = {}
        self._instructions = program.computations.get(name, [])

    def most(self) -> _Held:
        """Return what is held at the moment when that is most."""
        for moment, instruction in enumerate(self._instructions):
            self._follow(moment, instruction)
        for moment, instruction in enumerate(self._instructions):
            self._write_over(moment, instruction)
        return self._at(self._fullest())

    def _follow(self, moment: int, instruction: Instruction) -> None:
        for operand in instruction.operands:
            for buffer in _in(self._values.get(operand)):
                buffer.last = max(buffer.last, moment)
        if instruction.opcode in _RUN_ONE_BY_ONE:
            inner = (_Computation(self._program, each).most() for each in instruction.called)
            self._inside[moment] = max(inner, key=lambda held: held[0], default=_Held(0, []))
        value = self._value(moment, instruction)
        self._values[instruction.name] = value
        if instruction.is_root:
            self._keep(value)

    def _value(self, moment: int, instruction: Instruction) -> Value:
        """Return where an instruction's result is."""
        operands = [self._values.get(each) for each in instruction.operands]
        first = operands[0] if operands else None
        opcode = instruction.opcode
        if opcode == "parameter":
            made = self._made(instruction.shape, instruction, moment, "argument")
            return made if self._is_entry else None
        if opcode == "tuple":
            return operands
        if opcode == "get-tuple-element":
            return _part(first, _index(instruction))
        if opcode in _PASSED_ON or (opcode == "fusion" and self._is_in_place(instruction)):
            return self._alike(instruction)
        if opcode.endswith("-done"):
            return _part(first, _STARTED.get(opcode, 1))
        if opcode.endswith("-start") and isinstance(instruction.shape, list):
            own = _STARTED.get(opcode.replace("-start", "-done"), 1)
            return [
                self._made(part, instruction, moment) if place == own else None
                for place, part in enumerate(instruction.shape)
            ]
        return self._made(instruction.shape, instruction, moment)

    def _made(
        self, shape: Shape, instruction: Instruction, moment: int, kind: str = "temporary"
    ) -> Value:
        """Return new buffers for a result."""
        if not isinstance(shape, Array):
            return [self._made(part, instruction, moment, kind) for part in shape]
        if not shape.is_in_device_memory or instruction.opcode == "constant":
            return None
        if kind == "argument" and not self._is_entry:
            return None
        buffer = _Buffer(shape, instruction, kind, 0 if kind == "argument" else moment)
        if kind == "argument":
            buffer.last = TO_THE_END
        self._buffers.append(buffer)
        return buffer

    def _is_in_place(self, instruction: Instruction) -> bool:
        """Whether a fusion changes a part of what it takes, in its place."""
        root = self._program.root_of(instruction.called[0]) if instruction.called else None
        while root is not None and root.opcode == "bitcast" and root.operands:
            root = self._program.by_name.get(root.operands[0])
        return root is not None and root.opcode == "dynamic-update-slice"

    def _alike(self, instruction: Instruction) -> Value:
        """Return where the operand is that has an instruction's shape, else the first one."""
        shape = instruction.shape
        for operand in instruction.operands:
            producer = self._program.by_name.get(operand)
            if producer is not None and _texts(producer.shape) == _texts(shape):
                return self._values.get(operand)
        return self._values.get(instruction.operands[0]) if instruction.operands else None

    def _keep(self, value: Value) -> None:
        """Hold what a computation gives to its end."""
        in_arguments = self._program.outputs_in_arguments() if self._is_entry else {}
        parts = value if isinstance(value, list) else [value]
        for place, part in enumerate(parts):
            for buffer in _in(part):
                if not self._is_entry or (place in in_arguments and buffer.kind != "argument"):
                    # A loop's state is where it was, and so is what takes an argument's place.
                    # What is given twice is gone by then.
                    if buffer in self._buffers:
                        self._buffers.remove(buffer)
                elif buffer.kind != "argument":
                    buffer.kind, buffer.last = "output", TO_THE_END

    def _write_over(self, moment: int, instruction: Instruction) -> None:
        """Have a result where an operand was that is needed no more, where that may be."""
        may = instruction.opcode in _WRITTEN_OVER or instruction.opcode.startswith("all-reduce")
        if not may and "kind=kLoop" not in instruction.rest:
            return
        value = self._values.get(instruction.name)
        if not isinstance(value, _Buffer) or value.born != moment:
            return
        for operand in instruction.operands:
            taken = self._values.get(operand)
            if (
                isinstance(taken, _Buffer)
                and taken.last == moment > taken.born
                and taken.array.size_bytes == value.array.size_bytes
            ):
                taken.last = moment - 1
                return

    def _fullest(self) -> int:
        """Return the moment when most is held."""
        changes = [0] * (len(self._instructions) + 1)
        for buffer in self._buffers:
            changes[buffer.born] += buffer.array.size_bytes
            if buffer.last < len(self._instructions):
                changes[buffer.last + 1] -= buffer.array.size_bytes
        best, fullest, held = -1, 0, 0
        for moment, change in enumerate(changes[:-1]):
            held += change
            inside = self._inside.get(moment, _Held(0, [])).size_bytes
            if held + inside > best:
                best, fullest = held + inside, moment
        return fullest

    def _at(self, moment: int) -> _Held:
        inside = self._inside.get(moment, _Held(0, []))
        buffers = [each for each in self._buffers if each.born <= moment <= each.last]
        size = sum(each.array.size_bytes for each in buffers)
        return _Held(size + inside.size_bytes, buffers + inside.buffers)


def _in(value: Value) -> Iterator[_Buffer]:
    if isinstance(value, _Buffer):
        yield value
    elif value is not None:
        for part in value:
            yield from _in(part)


def _part(value: Value, place: int) -> Value:
    """Return a part of a tuple; of what is in another's memory, nothing."""
    if isinstance(value, list):
        return value[place] if place < len(value) else None
    return value


def _index(instruction: Instruction) -> int:
    _, _, rest = instruction.rest.partition("index=")
    digits = rest.partition(",")[0].strip()
    return int(digits) if digits.isdigit() else 0


def _texts(shape: Shape) -> list[str]:
    return [array.text for array in arrays_in(shape)]
