"""Reading a compiled program as XLA prints it: its instructions, and where they come from.

The text is that of `Compiled.as_text()`: tables of files and frames, then computations, the
entry's last, in the order in which their instructions are run (`is_scheduled=true`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .rehearse_shapes import Shape, parse_shape, split_parts

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation"
    r"|branch_computations|called_computations)=\{?((?:%[\w.\-]+(?:, )?)+)"
)
_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_FRAME = re.compile(r"stack_frame_id=(\d+)")
_SOURCE = re.compile(r'source_file="((?:[^"\\]|\\.)*)"(?: source_line=(\d+))?')
_ENTRY_OF_TABLE = re.compile(r"^(\d+) (.*)$")
_NUMBER = re.compile(r"(\w+)=(\d+)")
_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
DEEPEST = 200


class Instruction(NamedTuple):
    """An instruction of a program.

    Attributes:
        name: Its name.
        opcode: What it does.
        shape: What it gives.
        operands: The names of what it takes.
        called: The computations that it calls.
        rest: Everything that follows its operands.
        is_root: Whether it gives what its computation gives.
        argument: Of a parameter, which one; None for any other instruction.
        constant: Of a constant that is one whole number, that; None for any other instruction.
    """

    name: str
    opcode: str
    shape: Shape
    operands: tuple[str, ...]
    called: tuple[str, ...]
    rest: str
    is_root: bool
    argument: int | None = None
    constant: int | None = None

    @property
    def operation(self) -> str:
        """What of the person's code it is, such as `jit(step)/dot_general`."""
        found = _NAME.search(self.rest)
        return _ESCAPED.sub(r"\1", found[1]) if found else ""


class Program:
    """A compiled program.

    Args:
        text: What XLA printed.

    Attributes:
        entry: Name of the computation that runs first.
        computations: The instructions of each computation, by its name, in their order.
        by_name: Each instruction; no two of a program have one name.
    """

    def __init__(self, text: str) -> None:
        self.entry = ""
        self.computations: dict[str, list[Instruction]] = {}
        self._tables: dict[str, dict[int, str]] = {}
        lines = iter(text.splitlines())
        self._head = next(lines, "")
        self._read(lines)
        self._frames = self._read_frames()
        each = (one for instructions in self.computations.values() for one in instructions)
        self.by_name = {instruction.name: instruction for instruction in each}

    def frames_of(self, instruction: Instruction) -> list[tuple[str, int]]:
        """Return the files and lines that an instruction comes from, the innermost first."""
        found = _FRAME.search(instruction.rest)
        if found is None:
            # As compilers before 2025 wrote it.
            source = _SOURCE.search(instruction.rest)
            return [(source[1], int(source[2] or 0))] if source else []
        frames: list[tuple[str, int]] = []
        number = int(found[1])
        while number in self._frames and len(frames) < DEEPEST:
            file, line, number = self._frames[number]
            frames.append((file, line))
        return frames

    def outputs_in_arguments(self) -> dict[int, int]:
        """Return which parts of what the program returns take the place of which arguments."""
        begin = self._head.find("input_output_alias={")
        if begin < 0:
            return {}
        text = _balanced(self._head[begin + len("input_output_alias=") :])
        pairs = re.findall(r"\{(\d*)[\d, ]*\}: \((\d+)", text)
        return {int(output or 0): int(argument) for output, argument in pairs}

    def root_of(self, computation: str) -> Instruction | None:
        """Return what gives the result of a computation."""
        found = (each for each in self.computations.get(computation, ()) if each.is_root)
        return next(found, None)

    def _read(self, lines: Iterable[str]) -> None:
        computation: list[Instruction] = []
        table: dict[int, str] | None = None
        for line in lines:
            if line.rstrip() in _TABLES:
                table = self._tables.setdefault(line.rstrip(), {})
            elif table is not None and (entry := _ENTRY_OF_TABLE.match(line)):
                table[int(entry[1])] = entry[2]
            elif head := _HEAD.match(line):
                table, computation = None, []
                self.computations[head[2]] = computation
                if head[1]:
                    self.entry = head[2]
            elif found := _INSTRUCTION.match(line):
                computation.append(_instruction(found[2], found[3], is_root=bool(found[1])))

    def _read_frames(self) -> dict[int, tuple[str, int, int]]:
        """Return each frame's file and line, and the number of the frame that called it."""
        files = {number: text.strip('"') for number, text in self._of("FileNames").items()}
        places = {
            number: (files.get(fields.get("file_name_id", 0), ""), fields.get("line", 0))
            for number, fields in self._fields("FileLocations")
        }
        frames = dict(self._fields("StackFrames"))
        # XLA counts the parent from one where it has one, and prints one where it has none.
        # A frame that would be its own parent shows it.
        shift = int(any(each.get("parent_frame_id") == number for number, each in frames.items()))
        return {
            number: (
                *places.get(fields.get("file_location_id", 0), ("", 0)),
                fields.get("parent_frame_id", 0) - shift,
            )
            for number, fields in frames.items()
        }

    def _of(self, table: str) -> dict[int, str]:
        return self._tables.get(table, {})

    def _fields(self, table: str) -> Iterator[tuple[int, dict[str, int]]]:
        for number, text in self._of(table).items():
            yield number, {name: int(value) for name, value in _NUMBER.findall(text)}


def _instruction(name: str, text: str, *, is_root: bool) -> Instruction:
    shape = _balanced(text) if text.startswith("(") else text.partition(" ")[0]
    rest = text[len(shape) :]
    opcode = _OPCODE.match(rest)
    if opcode is None:
        return Instruction(name, "", parse_shape(shape), (), (), rest, is_root)
    taken = _balanced(rest[opcode.end() - 1 :])
    after = rest[opcode.end() - 1 + len(taken) :]
    called = [each for group in _CALLED.findall(after) for each in _OPERAND.findall(group)]
    number = int(taken[1:-1]) if taken[1:-1].isdigit() else None
    operands = [each for part in split_parts(taken[1:-1]) for each in _OPERAND.findall(part)[-1:]]
    return Instruction(
        name=name,
        opcode=opcode[1],
        shape=parse_shape(shape),
        operands=tuple(operands),
        called=tuple(called),
        rest=after,
        is_root=is_root,
        argument=number if opcode[1] == "parameter" else None,
        constant=number if opcode[1] == "constant" else None,
    )


def _balanced(text: str) -> str:
    """Return the beginning of a text up to where its first bracket is closed."""
    depth = 0
    for place, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return text[: place + 1]
    return text
