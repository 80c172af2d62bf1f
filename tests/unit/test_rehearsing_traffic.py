"""What compiled programs read and write of a device's memory, from texts as XLA writes them."""

from __future__ import annotations

import pytest
from kinetic_flows.runner_image.runner.rehearse_program import Program
from kinetic_flows.runner_image.runner.rehearse_traffic import bytes_moved

LAYER = 16 * 128 * 4
LAYERS = "f32[12,16,128]{2,1,0:T(8,128)}"
ONE = "f32[1,16,128]{2,1,0:T(8,128)}"
THERE = "f32[16,128]{1,0:T(8,128)}"
OWN, HALF = "f32[16,128]{1,0:T(8,128)S(1)}", "f32[8,128]{1,0:T(8,128)S(1)}"


def _moved(*lines: str, before: str = "") -> float:
    body = "\n".join(f"  {line}" for line in lines)
    head = "HloModule jit_step, is_scheduled=true\n\n"
    return bytes_moved(
        Program(f"{head}{before}ENTRY %main (p: f32[12,16,128]) -> f32[] {{\n{body}\n}}\n")
    )


SCANNED = f"""\
%retile (t: f32[12,16,128]) -> f32[12,16,128] {{
  %t = {LAYERS} parameter(0)
  ROOT %retiled = {LAYERS} copy(%t)
}}

%fused_read (q: f32[12,16,128], i: s32[]) -> f32[1,16,128] {{
  %q = {LAYERS} parameter(0)
  %i = s32[] parameter(1)
  %view = {LAYERS} fusion(%q), kind=kLoop, calls=%retile
  ROOT %cut = {ONE} dynamic-slice(%view, %i, %i, %i), dynamic_slice_sizes={{1,16,128}}
}}

%fused_write (r: f32[12,16,128], u: f32[1,16,128], j: s32[]) -> f32[12,16,128] {{
  %r = {LAYERS} parameter(0)
  %u = {ONE} parameter(1)
  %j = s32[] parameter(2)
  ROOT %set = {LAYERS} dynamic-update-slice(%r, %u, %j, %j, %j)
}}

%body (arg: (s32[], f32[12,16,128])) -> (s32[], f32[12,16,128]) {{
  %arg = (s32[], {LAYERS}) parameter(0)
  %n = s32[]{{:S(2)}} get-tuple-element(%arg), index=0
  %all = {LAYERS} get-tuple-element(%arg), index=1
  %read = f32[1,16,128]{{2,1,0:T(8,128)S(1)}} fusion(%all, %n), kind=kLoop, calls=%fused_read
  %write = {LAYERS} fusion(%all, %read, %n), kind=kLoop, calls=%fused_write
  ROOT %turn = (s32[], {LAYERS}) tuple(%n, %write)
}}

%condition (arg2: (s32[], f32[12,16,128])) -> pred[] {{
  %arg2 = (s32[], {LAYERS}) parameter(0)
  %limit = s32[]{{:S(2)}} constant(12)
  %n2 = s32[]{{:S(2)}} get-tuple-element(%arg2), index=0
  ROOT %less = pred[]{{:S(2)}} compare(%n2, %limit), direction=LT
}}

"""


def test_scan_reads_and_writes_one_layer_each_turn() -> None:
    moved = _moved(
        f"%p = (s32[], {LAYERS}) parameter(0)",
        f"ROOT %loop = (s32[], {LAYERS}) while(%p), condition=%condition, body=%body",
        before=SCANNED,
    )
    assert moved == 12 * 2 * LAYER


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        ((f"ROOT %sum = {THERE} add(%a, %a)",), 3),
        # What a core keeps in its own memory is not in the device's.
        ((f"ROOT %sum = {OWN} add(%a, %a)",), 2),
        (
            (
                f"%go = ({OWN}, {THERE}, u32[]{{:S(2)}}) copy-start(%a)",
                f"ROOT %end = {OWN} copy-done(%go)",
            ),
            1,
        ),
        (
            (
                f"%go = (({THERE}), {HALF}, s32[]{{:S(2)}}) slice-start(%a), slice={{[0:8]}}",
                f"ROOT %end = {HALF} slice-done(%go)",
            ),
            0.5,
        ),
        (('ROOT %made = f32[16,128]{1,0} custom-call(), custom_call_target="AllocateBuffer"',), 0),
        (("ROOT %same = f32[2048]{0} bitcast(%a)",), 0),
        ((f"ROOT %new = {THERE} fusion(%a), kind=kLoop, calls=%retile",), 2),
    ],
)
def test_what_is_in_the_devices_memory_counts_as_often_as_it_is_moved(
    lines: tuple[str, ...], size: float
) -> None:
    assert _moved(f"%a = {THERE} parameter(0)", *lines, before=SCANNED) == size * LAYER
