"""How much a compiled program computes in its loops, which compilers count once.

XLA's cost analysis takes a `while` for one turn of its body, so that a model whose layers are
scanned seems to have a single one (https://github.com/openxla/xla,
`HloCostAnalysis::HandleWhile`). Here the matrix products of every further turn are counted, of
loops whose number of turns stands in the program; of others, as of `lax.while_loop`, none are.
"""

from __future__ import annotations

import re
from functools import cache
from math import gcd, prod
from typing import NamedTuple

from .rehearse_program import Instruction, Program
from .rehearse_shapes import Array

_DIMENSIONS = re.compile(r"\[([\d,]*)\]")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_DIRECTION = re.compile(r"direction=(\w+)")
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_GROUPS = re.compile(r"(feature_group_count|batch_group_count)=(\d+)")
_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")

Dimensions = tuple[int, ...]


def flops_of_further_turns(program: Program) -> float:
    """Return the operations of all turns of a program's loops but the first of each.

    Args:
        program: The program.
    """
    times, once = runs_of(program), _runs(program, turns=False)
    further = {name: count - once.get(name, 0.0) for name, count in times.items()}
    return sum(
        count * sum(_flops(program, each) for each in program.computations.get(name, ()))
        for name, count in further.items()
        if count > 0
    )


def runs_of(program: Program) -> dict[str, float]:
    """Return how often each computation runs each time that the program does, by its name.

    Args:
        program: The program.
    """
    return _runs(program, turns=True)


def _runs(program: Program, *, turns: bool) -> dict[str, float]:
    """Return how often each computation runs, with all turns of loops or one of each."""
    times: dict[str, float] = {program.entry: 1.0}
    # A computation is printed before those that call it.
    for name in reversed(program.computations):
        for instruction in program.computations[name]:
            count = times.get(name, 0.0)
            if instruction.opcode == "while" and turns:
                count *= _turns(program, instruction)
            for called in instruction.called:
                times[called] = times.get(called, 0.0) + count
    return times


def _turns(program: Program, loop: Instruction) -> int:
    """Return how often a loop turns; 1 where that is not told.

    Loops of jax count from 0, and go on while that is less than a constant.
    """
    told = _TURNS.search(loop.rest)
    if told:
        return int(told[1])
    condition = _CONDITION.search(loop.rest)
    test = program.root_of(condition[1]) if condition else None
    if test is None or test.opcode != "compare" or len(test.operands) != 2:
        return 1
    direction = _DIRECTION.search(test.rest)
    side = {"LT": 1, "GT": 0}.get(direction[1] if direction else "")
    bound = None if side is None else program.by_name.get(test.operands[side])
    return 1 if bound is None or bound.constant is None else bound.constant


def _flops(program: Program, instruction: Instruction) -> float:
    """Return the operations of a matrix product or a convolution; 0 for any other instruction."""
    if instruction.opcode not in ("dot", "convolution"):
        return 0.0
    taken = [program.by_name.get(each) for each in instruction.operands]
    if len(taken) != 2 or taken[0] is None or taken[1] is None:
        return 0.0
    data, kernel = _dimensions(taken[0]), _dimensions(taken[1])
    if instruction.opcode == "convolution":
        return _convolution(instruction.rest, data, kernel, _dimensions(instruction))
    contracted = _CONTRACTED.search(instruction.rest)
    sides = _numbers(contracted[1]) if contracted else ()
    return 2.0 * prod(_dimensions(instruction)) * prod(data[side] for side in sides)


def _convolution(
    attributes: str, data: Dimensions, kernel: Dimensions, output: Dimensions
) -> float:
    """Return the operations of a convolution, which matrix products are, too, on a TPU.

    Their batches are sides of the window then, of which most positions are empty.
    """
    labels = _LABELS.search(attributes)
    if labels is None:
        return 0.0
    of_data, of_kernel, of_output = labels.groups()
    groups = {name: int(count) for name, count in _GROUPS.findall(attributes)}
    features = data[of_data.index("f")] // groups.get("feature_group_count", 1)
    batch = data[of_data.index("b")] // groups.get("batch_group_count", 1)
    positions = 1
    for side in (each for each in of_data if each.isdigit()):
        positions *= _positions(
            data[of_data.index(side)],
            kernel[of_kernel.index(side)],
            output[of_output.index(side)],
            _window(attributes, int(side)),
        )
    return 2.0 * features * output[of_output.index("f")] * batch * positions


class _Side(NamedTuple):
    """How a kernel goes along one side of its data."""

    stride: int = 1
    padding: int = 0
    dilation: int = 1
    kernel_dilation: int = 1


def _window(attributes: str, side: int) -> _Side:
    found = _WINDOW.search(attributes)
    told = dict(each.split("=", 1) for each in found[1].split()) if found else {}

    def number(name: str, default: int) -> int:
        return int(told[name].split("x")[side].split("_")[0]) if name in told else default

    return _Side(
        stride=number("stride", 1),
        padding=number("pad", 0),
        dilation=number("lhs_dilate", 1),
        kernel_dilation=number("rhs_dilate", 1),
    )


@cache
def _positions(data: int, kernel: int, output: int, side: _Side) -> int:
    """Return how many places of a kernel meet data, over all places of the output."""
    count = 0
    for place in range(kernel):
        first = place * side.kernel_dilation - side.padding
        if side.dilation == 1:
            before, after = -(first // side.stride), -((first - data) // side.stride)
            count += max(min(after, output) - max(before, 0), 0)
            continue
        count += _hits(first, output, data, side)
    return count


def _hits(first: int, output: int, data: int, side: _Side) -> int:
    """Return how many of `first`, `first + stride` and so on lie on one of the data's places.

    Data are `dilation` apart, so that this is how many places of the output solve a congruence.
    """
    common = gcd(side.stride, side.dilation)
    if first % common:
        return 0
    period = side.dilation // common
    solution = -first // common * pow(side.stride // common, -1, period) % period
    begin = max(-(first // side.stride), 0)
    end = min(-((first - (data - 1) * side.dilation - 1) // side.stride), output)
    begin += (solution - begin) % period
    return max(-((begin - end) // period), 0)


def _dimensions(instruction: Instruction) -> Dimensions:
    """Return how long the sides of an instruction's result are; none for what is no array."""
    shape = instruction.shape
    found = _DIMENSIONS.search(shape.text) if isinstance(shape, Array) else None
    return _numbers(found[1]) if found else ()


def _numbers(text: str) -> Dimensions:
    return tuple(int(each) for each in text.split(",") if each)
