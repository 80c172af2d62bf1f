"""Reading what XLA prints: compiled programs, and why one does not fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kinetic_flows.runner_image.runner.rehearse_collectives import collectives_of, host_calls_of
from kinetic_flows.runner_image.runner.rehearse_compiled import (
    devices_used,
    fitting,
    memory_of,
    read_parts,
)
from kinetic_flows.runner_image.runner.rehearse_memory import largest_buffers
from kinetic_flows.runner_image.runner.rehearse_program import Program
from kinetic_flows.runner_image.runner.rehearse_refusal import read_refusal
from kinetic_flows.runner_image.runner.rehearse_shapes import Array, parse_shape
from kinetic_flows.runner_image.runner.rehearse_sources import Sources

MIB, GIB = 1 << 20, 1 << 30
SOURCES = Sources("/run/workspace", "/home/ada/project")

TABLES = """
FileNames
1 "/env/lib/flax/linen.py"
2 "/run/workspace/models/layers.py"
3 "/run/workspace/train.py"

FunctionNames
1 "step"

FileLocations
1 {file_name_id=3 function_name_id=1 line=40 end_line=40 column=1 end_column=2}
2 {file_name_id=2 function_name_id=1 line=7 end_line=7 column=1 end_column=2}
3 {file_name_id=1 function_name_id=1 line=900 end_line=900 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}
"""


def program(body: str, head: str = "HloModule jit_step, is_scheduled=true") -> Program:
    """Return a program with frames of the project, the innermost of which is a library's."""
    return Program(f"{head}\n{TABLES}\n{body}")


def buffers(found: Program) -> list[tuple[str, str, int]]:
    """Return the kind, the operation and the size in MiB of the largest buffers."""
    return [
        (each["kind"], each["operation"], each["size_bytes"] // MIB)
        for each in largest_buffers(found, SOURCES)
    ]


def array(text: str) -> Array:
    """Return the shape of an array."""
    found = parse_shape(text)
    assert isinstance(found, Array)
    return found


def test_arrays_are_as_large_as_their_whole_tiles() -> None:
    assert array("bf16[16,128]{1,0:T(8,128)(2,1)}").size_bytes == 16 * 128 * 2
    assert array("f32[9,3]{1,0:T(8,128)}").size_bytes == 16 * 128 * 4
    # The first dimension is the most minor one here.
    assert array("f32[3,9]{0,1:T(8,128)}").size_bytes == 16 * 128 * 4
    assert array("pred[]").size_bytes == 1
    assert array("s4[4]{0}").size_bytes == 2
    assert array("c64[2]{0}").size_bytes == 16
    assert array("f8e4m3fn[8]{0}").size_bytes == 8
    assert not array("f32[8]{0:T(128)S(1)}").is_in_device_memory
    assert parse_shape("(f32[2]{0}, (s32[], token[]), /*index=3*/u8[4]{0})") == [
        array("f32[2]"),
        [array("s32[]"), array("token[]")],
        array("u8[4]"),
    ]


def test_the_largest_buffers_are_those_of_the_moment_when_most_is_held() -> None:
    found = program("""
ENTRY %main (x: f32[1048576]) -> f32[1048576] {
  %x = f32[1048576]{0} parameter(0), metadata={op_name="batch[\\'x\\']"}
  %early = f32[1048576,3]{0,1} broadcast(%x), metadata={op_name="jit(step)/early"}
  %small = f32[1048576]{0} custom-call(%early), metadata={op_name="jit(step)/small"}
  %late = f32[1048576,4]{0,1} sort(%small), metadata={op_name="jit(step)/late" stack_frame_id=3}
  %near = f32[1048576,64]{0,1:S(1)} copy(%late), metadata={op_name="jit(step)/near"}
  ROOT %out = f32[1048576]{0} custom-call(%late, %near), metadata={op_name="jit(step)/out"}
}
""")
    # What came before is gone, and what is in a core's own memory is no matter.
    assert buffers(found) == [
        ("temporary", "jit(step)/late", 16),
        ("argument", "batch['x']", 4),
        ("temporary", "jit(step)/small", 4),
    ]
    assert largest_buffers(found, SOURCES)[0]["source"] == "models/layers.py:7"


def test_what_takes_the_place_of_arguments_or_of_what_nobody_needs_counts_once() -> None:
    head = "HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias) }"
    found = program(
        """
%update (p: f32[1048576], q: f32[8]) -> f32[1048576] {
  %p = f32[1048576]{0} parameter(0)
  %q = f32[8]{0} parameter(1)
  %zero = s32[] constant(0)
  ROOT %dus = f32[1048576]{0} dynamic-update-slice(%p, %q, %zero)
}

ENTRY %main (w: f32[1048576], b: f32[8]) -> (f32[1048576], f32[1048576]) {
  %w = f32[1048576]{0} parameter(0), metadata={op_name="w"}
  %b = f32[8]{0} parameter(1), metadata={op_name="b"}
  %made = f32[1048576]{0} custom-call(%w), metadata={op_name="jit(step)/made"}
  %changed = f32[1048576]{0} fusion(%made, %b), kind=kLoop, calls=%update
  %scaled = f32[1048576]{0} multiply(%changed, %changed), metadata={op_name="jit(step)/scaled"}
  %new = f32[1048576]{0} custom-call(%w, %scaled), metadata={op_name="jit(step)/new"}
  ROOT %both = (f32[1048576]{0}, f32[1048576]{0}) tuple(%new, %scaled)
}
""",
        head,
    )
    assert buffers(found) == [("argument", "w", 4), ("temporary", "jit(step)/made", 4)]


def test_what_a_loop_makes_inside_is_held_while_it_runs() -> None:
    found = program("""
%body (p: (s32[], f32[1048576])) -> (s32[], f32[1048576]) {
  %p = (s32[], f32[1048576]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %c = f32[1048576]{0} get-tuple-element(%p), index=1
  %inner = f32[1048576,8]{0,1} broadcast(%c), metadata={op_name="jit(step)/while/body/inner"}
  %next = f32[1048576]{0} custom-call(%inner)
  ROOT %state = (s32[], f32[1048576]{0}) tuple(%i, %next)
}

%condition (q: (s32[], f32[1048576])) -> pred[] {
  %q = (s32[], f32[1048576]{0}) parameter(0)
  ROOT %more = pred[] constant(true)
}

ENTRY %main (x: f32[1048576]) -> f32[1048576] {
  %x = f32[1048576]{0} parameter(0), metadata={op_name="x"}
  %start = f32[1048576]{0} copy(%x)
  %zero = s32[] constant(0)
  %begin = (s32[], f32[1048576]{0}) tuple(%zero, %start)
  %loop = (s32[], f32[1048576]{0}) while(%begin), condition=%condition, body=%body
  ROOT %end = f32[1048576]{0} get-tuple-element(%loop), index=1
}
""")
    assert buffers(found) == [
        ("temporary", "jit(step)/while/body/inner", 32),
        ("argument", "x", 4),
        ("output", "copy of x", 4),
    ]


def test_collectives_are_counted_once_however_they_are_begun_and_ended() -> None:
    found = program("""
%scatter (p: f32[1024]) -> f32[256] {
  %p = f32[1024]{0} parameter(0)
  ROOT %rs = f32[256]{0} reduce-scatter(%p), channel_id=3, dimensions={0}
}

ENTRY %main (x: f32[1024]) -> f32[4096] {
  %x = f32[1024]{0} parameter(0), metadata={op_name="x"}
  %ar = f32[1024]{0} all-reduce(%x), channel_id=1, to_apply=%add
  %begun = (f32[1024]{0}, f32[4096]{0}) all-gather-start(%ar), channel_id=2, dimensions={0}
  %gathered = f32[4096]{0} all-gather-done(%begun)
  %other = ((f32[1024]{0}), f32[256]{0}) async-start(%ar), calls=%scatter
  %done = f32[256]{0} async-done(%other)
  %again = f32[1024]{0} all-reduce(%ar), channel_id=4, to_apply=%add
  ROOT %out = f32[4096]{0} custom-call(%gathered, %done, %again)
}
""")
    assert [tuple(each.values()) for each in collectives_of(found)] == [
        ("all-reduce", 2, 8192),
        ("reduce-scatter", 1, 4096),
        ("all-gather", 1, 4096),
    ]
    assert host_calls_of(found) == []


def test_a_file_of_the_project_is_named_from_wherever_it_was_compiled() -> None:
    found = Program("""HloModule old
ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  ROOT %y = f32[4]{0} sine(%x), metadata={op_name="jit(f)/sin" source_file="/run/a" source_line=3}
}
""")
    frames = found.frames_of(found.by_name["y"])
    assert Sources("/run").of(frames) == "a:3"
    assert Sources("/elsewhere").of(frames) == ""


def test_a_refusal_in_one_sentence_says_what_is_needed_and_what_there_is() -> None:
    text = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (1.17T) exceeds available HBM (15.75G)."
    )
    refusal = read_refusal(text, SOURCES)
    assert refusal is not None
    assert refusal.memory == {
        "needed_bytes": int(1.17 * (1 << 40)),
        "available_bytes": int(15.75 * GIB),
    }
    assert refusal.buffers == []
    assert read_refusal("INVALID_ARGUMENT: something else", SOURCES) is None


# As libtpu 0.0.6 refused the gradient of 40 scanned layers, shortened.
PAGE = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory \
space hbm. Used 36.25G of 31.25G hbm. Exceeded hbm capacity by 5.00G.

Total hbm usage >= 36.50G:
    reserved        260.00M\x20
    program          31.00G\x20
    arguments         5.25G\x20

Output size 5.00G; shares 0B with arguments.

Program hbm requirement 31.00G:
    HLO temp         31.00G (100.0% utilization: Unpadded (30.00G) Padded (30.00G), 3.2% \
fragmentation (1.00G))

  Largest program allocations in hbm:

  1. Size: 10.00G
     Shape: bf16[40,16384,8192]{1,2,0:T(8,128)(2,1)}
     Unpadded size: 10.00G
     XLA label: custom-call = custom-call(), custom_call_target="AllocateBuffer"
     Allocation type: HLO temp
     ==========================

  2. Size: 256.00M
     Operator: op_name="jit(mlp)/jit(main)/jvp(while)/body/dot_general" \
source_file="/run/workspace/m.py" source_line=5
     Shape: bf16[16384,8192]{0,1:T(8,128)(2,1)}
     Unpadded size: 256.00M
     XLA label: fusion.7 = fusion(get-tuple-element.356, copy.41, ...(+1)), kind=kOutput
     Allocation type: HLO temp
     ==========================

  3. Size: 512B
     Shape: s32[]{:T(128)}
     Unpadded size: 4B
     Extra memory due to padding: 508B (128.0x expansion)
     XLA label: copy.15 = copy(constant.7)
     Allocation type: HLO temp
     ==========================

"""


def test_a_refusal_with_a_page_names_what_is_largest() -> None:
    refusal = read_refusal(PAGE, SOURCES)
    assert refusal is not None
    assert refusal.memory == {
        "needed_bytes": int(36.25 * GIB),
        "available_bytes": int(31.25 * GIB),
        "arguments_bytes": int(5.25 * GIB),
        "temporary_bytes": 31 * GIB,
    }
    first, second = refusal.buffers
    assert (first["size_bytes"], first["operation"]) == (10 * GIB, "custom-call")
    assert second == {
        "size_bytes": 256 * MIB,
        "shape": "bf16[16384,8192]",
        "operation": "jit(mlp)/jit(main)/jvp(while)/body/dot_general",
        "source": "m.py:5",
        "kind": "temporary",
    }


@pytest.mark.parametrize(
    ("text", "needed", "available"),
    [
        (
            (
                "Compilation failure: Aborting compilation early because it's unlikely to have "
                "enough device memory. Requires 4.00T, has 29.68G available. If more"
            ),
            4096,
            None,
        ),
        (
            (
                "TPU TensorCore Hbm usage: 34.5G, SparseCore Hbm usage 174.25G, exceeding "
                "available bytes: 95.75G"
            ),
            208.75,
            95.75,
        ),
        (
            (
                "E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for "
                "HLO temporaries (69.75G) exceeds available HBM (31.25G). HLO module: jit_step."
            ),
            69.75,
            31.25,
        ),
    ],
)
def test_a_refusal_is_known_in_the_words_of_each_version(
    text: str, needed: float, available: float | None
) -> None:
    refusal = read_refusal(f"RESOURCE_EXHAUSTED: {text}", SOURCES)
    assert refusal is not None
    assert refusal.memory["needed_bytes"] == needed * GIB
    assert refusal.memory.get("available_bytes") == (available and available * GIB)


class Compiled:
    """A compiled program that says what memory it takes, in MiB."""

    def __init__(self, **sizes: int) -> None:
        peak = sizes.pop("peak", None)
        told = {f"{name}_size_in_bytes": size * MIB for name, size in sizes.items()}
        self._told = told if peak is None else {**told, "peak_memory_in_bytes": peak * MIB}

    def memory_analysis(self) -> SimpleNamespace:
        """Return what XLA says."""
        return SimpleNamespace(**self._told)


# As libtpu 0.0.50 took the gradient of 40 scanned layers for v6e, which gives it 31.24 GiB.
TAKEN = {"argument": 5376, "output": 5120, "alias": 0, "temp": 22016, "generated_code": 2}


@pytest.mark.parametrize("told", [{"peak": 31744}, {}], ids=["held at once", "side by side"])
def test_what_a_compiler_takes_never_needs_more_than_there_is(told: dict[str, int]) -> None:
    compiled = Compiled(**TAKEN, **told)
    memory, (warning,) = fitting(compiled, memory_of(compiled), 31_990 * MIB)
    assert memory["needed_bytes"] == (31_746 if told else 31_990) * MIB
    assert memory["available_bytes"] == 31_990 * MIB
    assert "524 MiB more than there is" in warning


def test_what_fits_side_by_side_needs_what_it_holds_at_its_fullest() -> None:
    compiled = Compiled(**TAKEN, peak=31_744)
    memory, warnings = fitting(compiled, memory_of(compiled), 96_000 * MIB)
    assert (memory["needed_bytes"], warnings) == (31_746 * MIB, [])
    assert fitting(compiled, memory_of(compiled), None)[0]["available_bytes"] is None


def test_what_cannot_be_read_of_a_program_is_said_and_hides_nothing_else() -> None:
    known, (warning,) = read_parts({"flops": lambda: 3.0, "bytes_accessed": lambda: 1 / 0})
    assert known == {"flops": 3.0}
    assert "bytes accessed: not to be read" in warning
    assert "ZeroDivisionError" in warning


def test_what_is_returned_twice_is_counted_once() -> None:
    found = program("""
%body (p: (s32[], f32[1048576], f32[1048576])) -> (s32[], f32[1048576], f32[1048576]) {
  %p = (s32[], f32[1048576]{0}, f32[1048576]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %c = f32[1048576]{0} get-tuple-element(%p), index=1
  %next = f32[1048576]{0} custom-call(%c)
  ROOT %state = (s32[], f32[1048576]{0}, f32[1048576]{0}) tuple(%i, %next, %next)
}

ENTRY %main (x: f32[1048576]) -> (f32[1048576], f32[1048576]) {
  %x = f32[1048576]{0} parameter(0), metadata={op_name="x"}
  %zero = s32[] constant(0)
  %begin = (s32[], f32[1048576]{0}, f32[1048576]{0}) tuple(%zero, %x, %x)
  %loop = (s32[], f32[1048576]{0}, f32[1048576]{0}) while(%begin), body=%body
  %end = f32[1048576]{0} get-tuple-element(%loop), index=1
  %made = f32[1048576]{0} custom-call(%end), metadata={op_name="jit(step)/made"}
  ROOT %both = (f32[1048576]{0}, f32[1048576]{0}) tuple(%made, %made)
}
""")
    assert buffers(found) == [("argument", "x", 4), ("output", "jit(step)/made", 4)]


class Mapped:
    """What jax.pmap compiles until jax 0.6, which does not say where."""

    @property
    def input_shardings(self) -> None:
        """Where its arguments are."""
        raise NotImplementedError


def test_what_does_not_say_for_which_devices_it_is_is_of_none() -> None:
    assert devices_used(Mapped()) == set()
