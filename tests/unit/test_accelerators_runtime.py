"""Which releases of CUDA's packages and of libtpu know which chip."""

from __future__ import annotations

import pytest

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.accelerators.packages import accelerator_closure
from kinetic_flows.core.accelerators.runtime import moved_constraints, require_runtime
from kinetic_flows.core.errors import AcceleratorError
from kinetic_flows.dependencies.targets import cloud_target
from kinetic_flows.images.bases import read_base_inputs


@pytest.mark.parametrize("name", ["p4", "p100", "v100x8"])
def test_a_gpu_that_the_base_does_not_know_gets_a_release_that_does(name: str) -> None:
    needs = parse_accelerator(name).runtime
    inputs = read_base_inputs("gpu", "3.12")
    target = cloud_target("gpu", "3.12", base_lock=inputs.lock, base_identity="b", needs=needs)

    assert "nvidia-cudnn-cu12<9.11" in target.constraints
    others = set(accelerator_closure(inputs.lock)) - set(target.constraints)
    assert [pin.partition("==")[0] for pin in others] == ["nvidia-cudnn-cu12"]


@pytest.mark.parametrize("name", ["t4", "l4", "a100", "h100x8", "b200x8"])
def test_every_other_gpu_is_content_with_the_base(name: str) -> None:
    pins = accelerator_closure(read_base_inputs("gpu", "3.12").lock)

    assert moved_constraints(pins, parse_accelerator(name).runtime) == pins


@pytest.mark.parametrize(
    ("name", "packages", "complaint"),
    [
        (
            "tpu7x-2x2x1",
            {"libtpu": "0.0.24"},
            r"needs libtpu>=0\.0\.30, and the image has 0\.0\.24",
        ),
        ("v100", {"nvidia-cudnn-cu12": "9.28.0.42"}, "needs nvidia-cudnn-cu12<9.11"),
        ("p4", {"nvidia-cuda-runtime": "13.0.48"}, "needs nvidia-cuda-runtime<13"),
        ("b200x8", {"nvidia-cuda-runtime-cu12": "12.6.77"}, "needs nvidia-cuda-runtime-cu12>=12.8"),
    ],
)
def test_packages_that_do_not_know_the_chip_are_refused(
    name: str, packages: dict[str, str], complaint: str
) -> None:
    accelerator = parse_accelerator(name)

    with pytest.raises(AcceleratorError, match=complaint) as caught:
        require_runtime(str(accelerator), accelerator.runtime, packages)
    assert "# kn:keep" in caught.value.hint


def test_packages_that_are_not_there_are_not_missed() -> None:
    accelerator = parse_accelerator("v100")

    require_runtime(str(accelerator), accelerator.runtime, {"torch": "2.9.0"})
