"""Steps for GPUs that are not there: what is known of GPUs, what fits, and what fills them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import rehearse_estimate, rehearse_gpu, rehearse_gpu_memory
from kinetic_flows.runner_image.runner.rehearse_dump import Live, read_live
from kinetic_flows.runner_image.runner.rehearse_gpu_models import MODELS, memory_of, target_config
from kinetic_flows.runner_image.runner.rehearse_live import buffers_of
from kinetic_flows.runner_image.runner.rehearse_program import Program
from kinetic_flows.runner_image.runner.rehearse_sources import Sources
from kinetic_flows.runner_image.runner.rehearse_steps import NotKnown

from kinetic_flows.core.accelerators.registry import GPUS, GpuModel

GIB = 1 << 30
H100 = MODELS["h100"].memory_bytes

# Of a program for an H100 as jax 0.10.2 compiles and dumps it, shortened.
LIVE_RANGES = """\
HloLiveRange (max 29):
  InstructionSequence:
    0:copy.13
  BufferLiveRange:
    w.1{}:0-29
    while.6{1}:25-29
  Live ranges at 23 (peak):
    x.1{}: 524288 bytes (cumulative: 524288 bytes)
    while.6{1}: 2097152 bytes (cumulative: 2621440 bytes)
    w.1{}: 3145728 bytes (cumulative: 5767168 bytes)
  Stack trace breakdown for peak usage: 5 767 168 bytes
    main.7 (100.0%, total: 5 767 168 bytes, current: 0 bytes, remaining: 5 767 168 bytes)
"""
PROGRAM = """\
HloModule jit_f, is_scheduled=true, input_output_alias={ {1}: (0, {}, may-alias) }

FileNames
1 "/app/model.py"

FunctionNames
1 "f"

FileLocations
1 {file_name_id=1 function_name_id=1 line=8 end_line=8 column=38 end_column=45}

StackFrames
1 {file_location_id=1 parent_frame_id=1}

%fused (p: f32[256,512]) -> f32[256,512] {
  %p = f32[256,512]{1,0} parameter(0)
  %tanh.1 = f32[256,512]{1,0} tanh(%p), metadata={op_name="jit(f)/tanh" stack_frame_id=1}
  ROOT %convert.1 = f32[256,512]{1,0} convert(%tanh.1)
}

ENTRY %main.7 (x.1: f32[256,512], w.1: f32[3,512,512]) -> (f32[256,512], f32[256,512]) {
  %w.1 = f32[3,512,512]{2,1,0} parameter(1), metadata={op_name="w"}
  %x.1 = f32[256,512]{1,0} parameter(0), metadata={op_name="x"}
  %fusion.2 = f32[256,512]{1,0} fusion(%x.1), kind=kLoop, calls=%fused
  %copy.9 = f32[256,512]{0,1} copy(%x.1)
  %while.6 = (s32[], f32[256,512]{1,0}) while(%w.1), metadata={op_name="jit(f)/while"}
  %sin.3 = f32[256,512]{1,0} sine(%copy.9), metadata={op_name="jit(f)/sin" stack_frame_id=1}
  ROOT %tuple.5 = (f32[256,512]{1,0}, f32[256,512]{1,0}) tuple(%fusion.2, %sin.3)
}
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*rehearse_gpu_memory.SHARE_VARIABLES, rehearse_gpu_memory.ALLOCATOR_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def target(model: str = "h100", devices: int = 8) -> dict[str, Any]:
    """Return a target as a task has it."""
    told = {"kind": "gpu", "topology": model, "devices": devices, "hosts": 1, "slices": 1}
    return {"accelerator": f"gpu-{model}", "device_memory_bytes": 80 * GIB, **told}


def sizes(arguments: float, temporary: float) -> dict[str, int]:
    """Return sizes of a program, in GiB."""
    kept, made = int(arguments * GIB), int(temporary * GIB)
    return {"needed_bytes": kept + made, "arguments_bytes": kept, "temporary_bytes": made}


# What is known of GPUs


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_each_gpu_of_gke_is_known_to_the_compiler_as_the_registry_has_it(gpu: GpuModel) -> None:
    model = MODELS[gpu.name]
    assert model.capability == gpu.compute_capability
    # A program finds less than the maker says, who counts in GB or GiB, but not much less.
    assert 0.9 * gpu.memory_gb * GIB < model.memory_bytes < 1.001 * gpu.memory_gb * GIB
    assert target_config(gpu.name, (9, 8))


def test_a_gpu_is_described_as_xla_reads_it() -> None:
    text = target_config("l4", (9, 10))
    assert "cuda_compute_capability { major: 8 minor: 9 }" in text
    assert "core_count: 58" in text
    assert f"device_memory_size: {22_560 << 20}" in text
    assert "dnn_version_info { major: 9 minor: 10 }" in text
    assert text.count("{") == text.count("}") == 3


def test_of_a_gpu_that_is_not_known_nine_tenths_of_the_maker_s_figure_are_counted_on() -> None:
    assert memory_of(target("x900")) == int(0.91 * 80 * GIB)


# What fits


def test_a_program_may_have_three_quarters_of_a_gpu() -> None:
    judged = rehearse_gpu_memory.judge(sizes(40, 19), target())
    assert judged["verdict"] == "fits"
    assert judged["memory"]["available_bytes"] == int(0.75 * H100)


@pytest.mark.parametrize("variable", rehearse_gpu_memory.SHARE_VARIABLES)
def test_the_run_s_own_share_of_the_memory_counts(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "0.9")
    judged = rehearse_gpu_memory.judge(sizes(40, 30), target())
    assert (judged["verdict"], judged["memory"]["available_bytes"]) == ("fits", int(0.9 * H100))


def test_without_an_own_allocator_a_program_may_have_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_PYTHON_CLIENT_ALLOCATOR", "platform")
    assert rehearse_gpu_memory.available_bytes(target()) == H100


def test_what_a_larger_share_would_hold_is_told_with_the_variable() -> None:
    judged = rehearse_gpu_memory.judge(sizes(40, 30), target())
    assert judged["verdict"] == "exceeds"
    assert judged["message"] == (
        "the program needs 70.00 GiB of each GPU, and jax has 59.33 GiB for programs"
    )
    assert "XLA_CLIENT_MEM_FRACTION=0.95" in judged["hint"]


def test_no_variable_is_named_where_none_is_enough() -> None:
    judged = rehearse_gpu_memory.judge(sizes(80, 30), target())
    assert (judged["verdict"], judged["hint"]) == ("exceeds", "")


# What is estimated


@pytest.mark.parametrize(
    ("arguments", "temporary", "verdict"),
    [(20, 30, "fits"), (20, 40, "failed"), (20, 150, "failed"), (20, 160, "exceeds")],
)
def test_an_estimate_says_what_is_certain_and_no_more(
    arguments: float, temporary: float, verdict: str
) -> None:
    judged = rehearse_estimate.judge(sizes(arguments, temporary), target())
    assert judged["verdict"] == verdict


def test_an_estimate_that_decides_nothing_tells_between_what_it_lies() -> None:
    judged = rehearse_estimate.judge(sizes(20, 40), target())
    assert judged["message"] == (
        "it may fit or not: by an estimate it needs 30.00 GiB to 70.00 GiB of each GPU, of "
        "59.33 GiB that jax has for programs"
    )
    assert judged["memory"]["needed_bytes"] == 60 * GIB


# What fills it


def test_what_is_in_memory_at_the_peak_is_read_largest_first(tmp_path: Path) -> None:
    folded = LIVE_RANGES.partition("  Live ranges")[0]
    (tmp_path / "module_0001.jit_f.gpu_after_optimizations-live-range.txt").write_text(LIVE_RANGES)
    (tmp_path / "module_0002.fold.gpu_after_optimizations-live-range.txt").write_text(folded)
    expected = [Live("w.1", "", 3145728), Live("while.6", "1", 2097152), Live("x.1", "", 524288)]
    assert read_live(str(tmp_path)) == expected


def test_where_nothing_was_written_down_nothing_is_read(tmp_path: Path) -> None:
    assert read_live(str(tmp_path)) == []


def test_what_is_in_memory_is_named_with_what_made_it_and_where() -> None:
    names = ("w.1", "while.6", "fusion.2", "sin.3", "copy.9", "n")
    live = [Live(name, "1" if name == "while.6" else "", 9) for name in names]
    buffers = buffers_of(live, Program(PROGRAM), Sources("/app"))
    told = [(each["kind"], each["shape"], each["operation"], each["source"]) for each in buffers]
    assert told == [
        ("argument", "f32[3,512,512]", "w", ""),
        ("temporary", "f32[256,512]", "jit(f)/while", ""),
        ("output", "f32[256,512]", "jit(f)/tanh", "model.py:8"),
        ("temporary", "f32[256,512]", "jit(f)/sin", "model.py:8"),
        ("temporary", "f32[256,512]", "copy of x", ""),
        ("temporary", "", "n", ""),
    ]


# What is set, and what is missing


def test_flags_of_the_person_stay_and_there_are_as_many_cpus_as_gpus() -> None:
    environ = {"XLA_FLAGS": "--xla_gpu_enable_latency_hiding_scheduler=true", "JAX_PLATFORMS": "x"}
    rehearse_gpu.set_variables(environ, target(devices=16))
    assert environ["XLA_FLAGS"] == (
        "--xla_gpu_enable_latency_hiding_scheduler=true --xla_force_host_platform_device_count=16"
    )
    assert environ["JAX_PLATFORMS"] == "cpu"


def test_an_environment_without_jax_is_told_what_can_be_rehearsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rehearse_gpu, "find_spec", lambda _name: None)
    with pytest.raises(NotKnown) as known:
        rehearse_gpu.devices_of(target())
    assert known.value.problem == "no-compiler"
    assert re.search(r"torch .* cannot be rehearsed; .* jax\[cuda12\]", known.value.hint)
