"""What compiled programs compute in loops, from texts as XLA writes them."""

from __future__ import annotations

import pytest
from kinetic_flows.runner_image.runner.rehearse_loops import flops_of_further_turns, runs_of
from kinetic_flows.runner_image.runner.rehearse_program import Program

PRODUCT = 2 * 64 * 32 * 16

SCANNED = """\
HloModule jit_step, is_scheduled=true

%fused_computation.1 (param_0: bf16[64,16], param_1: bf16[16,32]) -> bf16[64,32] {
  %param_0 = bf16[64,16]{1,0:T(8,128)(2,1)} parameter(0)
  %param_1 = bf16[16,32]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %convolution.1 = bf16[64,32]{1,0} convolution(%param_0, %param_1), dim_labels=bf_io->bf
}

%body.1 (arg: (s32[], bf16[64,16], bf16[16,32])) -> (s32[], bf16[64,16], bf16[16,32]) {
  %arg = (s32[], bf16[64,16], bf16[16,32]) parameter(0)
  %gte.1 = bf16[64,16]{1,0} get-tuple-element(%arg), index=1
  %gte.2 = bf16[16,32]{1,0} get-tuple-element(%arg), index=2
  %fusion.1 = bf16[64,32]{1,0} fusion(%gte.1, %gte.2), kind=kOutput, calls=%fused_computation.1
  ROOT %tuple.1 = (s32[], bf16[64,16], bf16[16,32]) tuple(%gte.1, %gte.1, %gte.2)
}

%condition.1 (arg: (s32[], bf16[64,16], bf16[16,32])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(12)
  %arg = (s32[], bf16[64,16], bf16[16,32]) parameter(0)
  %gte.3 = s32[]{:T(128)} get-tuple-element(%arg), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%gte.3, %constant.1), direction=LT
}

ENTRY %main.1 (p: (s32[], bf16[64,16], bf16[16,32])) -> (s32[], bf16[64,16], bf16[16,32]) {
  %p = (s32[], bf16[64,16], bf16[16,32]) parameter(0)
  ROOT %while.1 = (s32[], bf16[64,16], bf16[16,32]) while(%p), condition=%condition.1, body=%body.1
}
"""


def test_every_turn_of_a_scan_but_the_first_is_added() -> None:
    assert flops_of_further_turns(Program(SCANNED)) == 11 * PRODUCT


def test_computations_run_as_often_as_their_loop_turns() -> None:
    runs = runs_of(Program(SCANNED))
    assert (runs["main.1"], runs["body.1"], runs["fused_computation.1"]) == (1, 12, 12)


def test_turns_may_stand_beside_the_loop() -> None:
    told = SCANNED.replace(
        "body=%body.1", 'body=%body.1, backend_config={"known_trip_count":{"n":"5"}}'
    )
    assert flops_of_further_turns(Program(told)) == 4 * PRODUCT


def test_loop_that_does_not_say_how_often_it_turns_counts_once() -> None:
    assert flops_of_further_turns(Program(SCANNED.replace("direction=LT", "direction=NE"))) == 0


@pytest.mark.parametrize(
    ("operation", "flops"),
    [
        # A batch of matrix products, as libtpu has them: a side of the window for the batch.
        (
            (
                "convolution(%a, %b), window={size=4x8 stride=3x7 lhs_dilate=4x8}, "
                "dim_labels=01bf_01oi->01bf|4,8,64,32|4,8,16,32|4,8,64,16"
            ),
            2 * 4 * 8 * 64 * 32 * 16,
        ),
        (
            (
                "convolution(%a, %b), window={size=1x8 pad=0_0x7_7 rhs_reversal=0x1}, "
                "dim_labels=0bf1_i1o0->0b1f|4,64,32,1|32,8,16,1|4,64,8,16"
            ),
            2 * 4 * 64 * 32 * 8 * 16,
        ),
        # A convolution of images that are padded: corners and sides meet less of the kernel.
        (
            (
                "convolution(%a, %b), window={size=3x3 pad=1_1x1_1}, "
                "dim_labels=b01f_01io->b01f|2,8,8,16|3,3,16,32|2,8,8,32"
            ),
            2 * 2 * 16 * 32 * (8 * 3 - 2) ** 2,
        ),
        (
            "dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}|64,16|16,32|64,32",
            PRODUCT,
        ),
    ],
)
def test_products_and_convolutions_are_counted(operation: str, flops: float) -> None:
    text, first, second, output = operation.split("|")
    fused = (
        f"  %a = bf16[{first}]{{1,0}} parameter(0)\n"
        f"  %b = bf16[{second}]{{1,0}} parameter(1)\n"
        f"  ROOT %c = bf16[{output}]{{1,0}} {text}\n"
    )
    head, _, rest = SCANNED.partition("  %param_0 = ")
    program = Program(head + fused + rest[rest.index("}\n\n%body") :])
    assert flops_of_further_turns(program) == 11 * flops
