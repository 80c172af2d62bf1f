"""What a rehearsal is of: accelerators as compilers name them, and the function's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import kinetic
from kinetic_flows.code.internals import without_class_ids
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import RehearsalError, UsageError
from kinetic_flows.core.job_parts import RehearsalTarget
from kinetic_flows.core.rehearsals import RehearsalRecord, StepMemory, StepReport, TargetReport
from kinetic_flows.plans.rehearsal import function_id, target_for
from kinetic_flows.plans.rehearsal_plan import require_rehearsal


@kinetic.run(accelerator="tpu-v6e-8")
def train(rate: float) -> float:
    return rate


@train.rehearsal
def steps(devices: Any) -> Any:
    return len(devices)


class Trainer:
    @kinetic.run(accelerator="tpu-v6e-8")
    def fit(self) -> None: ...

    @fit.rehearsal
    def steps(self, devices: Any) -> Any: ...


@pytest.mark.parametrize(
    ("name", "topology", "bounds", "devices"),
    [
        # As libtpu 0.0.42.1 was seen to take them, and how many devices it gave.
        ("tpu-v3-2x2", "v3:2x2", (2, 2, 1), 8),
        ("tpu-v3-4x4", "v3:4x4", (2, 2, 1), 32),
        ("tpu-v4-2x2x1", "v4:2x2x1", (2, 2, 1), 4),
        ("tpu-v5e-1", "v5e:1x1", (1, 1, 1), 1),
        ("tpu-v5e-8", "v5e:2x4", (2, 4, 1), 8),
        ("tpu-v5e-16", "v5e:4x4", (2, 2, 1), 16),
        ("tpu-v5p-2x2x2", "v5p:2x2x2", (2, 2, 1), 8),
        ("tpu-v6e-1", "v6e:1x1", (1, 1, 1), 1),
        ("tpu-v6e-4", "v6e:2x2", (2, 2, 1), 4),
        ("tpu-v6e-8", "v6e:2x4", (2, 4, 1), 8),
        ("tpu7x-1x1x1", "tpu7x:1x1x1", (1, 1, 1), 2),
        ("tpu7x-2x2x1", "tpu7x:2x2x1", (2, 2, 1), 8),
    ],
)
def test_a_slice_is_named_as_its_compiler_names_it(
    name: str, topology: str, bounds: tuple[int, ...], devices: int
) -> None:
    target = target_for(parse_accelerator(name))

    assert (target.topology, target.chips_per_host, target.devices) == (topology, bounds, devices)


def test_two_cores_of_a_v4_chip_are_one_device_for_a_compiler_that_is_told() -> None:
    assert target_for(parse_accelerator("tpu-v4-2x2x1")).chip_config == "megacore"


def test_memory_is_of_one_device_where_a_chip_is_two() -> None:
    assert target_for(parse_accelerator("tpu7x-2x2x1")).device_memory_bytes == 96 << 30
    assert target_for(parse_accelerator("tpu-v6e-8")).device_memory_bytes == 32 << 30


def test_slices_that_are_joined_are_compiled_for_together() -> None:
    target = target_for(parse_accelerator("tpu-v6e-16").times(slices=2))

    assert (target.topology, target.slices, target.hosts, target.devices) == ("v6e:4x4", 2, 8, 32)


def test_gpus_are_named_by_their_model() -> None:
    assert target_for(parse_accelerator("a100-80gbx8").times(hosts=2)) == RehearsalTarget(
        accelerator="a100-80gbx8",
        kind="gpu",
        topology="a100-80gb",
        devices=16,
        device_memory_bytes=80 * 10**9,
        hosts=2,
    )
    assert target_for(parse_accelerator("l4")).topology == "l4"


def test_nothing_is_compiled_ahead_for_cpus() -> None:
    with pytest.raises(RehearsalError, match="rehearsals are for TPUs and GPUs"):
        target_for(parse_accelerator("cpu"))


def test_a_function_with_other_options_keeps_its_rehearsal() -> None:
    assert train.with_options(accelerator="tpu-v5e-8").rehearsed is steps


def test_the_method_of_an_instance_has_the_rehearsal_of_its_class() -> None:
    assert Trainer().fit.rehearsed is Trainer.steps


def test_a_rehearsal_goes_along_where_its_function_is_pickled() -> None:
    copied = cloudpickle.loads(cloudpickle.dumps(train.with_options(retries=1)))

    assert copied.rehearsed is steps


async def waiting(devices: Any) -> Any: ...


@pytest.mark.parametrize(
    ("rehearsal", "said"),
    [
        (None, "train has no rehearsal"),
        (lambda: None, "given the devices, and nothing else"),
        (waiting, "is an async function, and nothing waits for it"),
    ],
)
def test_a_function_is_not_rehearsed_by_what_cannot_name_its_steps(
    rehearsal: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        require_rehearsal("train", rehearsal, ())


def test_of_several_rehearsals_the_last_counts() -> None:
    other = train.with_options(retries=1)

    @other.rehearsal
    def again(devices: Any) -> Any: ...

    assert other.rehearsed is again
    assert train.rehearsed is steps


def test_what_is_no_function_is_no_rehearsal() -> None:
    with pytest.raises(UsageError, match="decorates a function, and 'steps' is none"):
        train.rehearsal("steps")  # type: ignore[type-var]


def test_a_function_is_known_by_project_module_and_name_and_a_script_by_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "clone"
    root.mkdir()
    assert function_id(Trainer.fit.fn, root) == f"clone/{__name__}:Trainer.fit"
    (root / "pyproject.toml").write_text('project.name = "forecast"\n')
    assert function_id(Trainer.fit.fn, root) == f"forecast/{__name__}:Trainer.fit"

    def main() -> None: ...

    main.__module__, main.__qualname__ = "__main__", "main"
    monkeypatch.setattr("__main__.__file__", str(tmp_path / "job.py"), raising=False)

    assert function_id(main, root) == "forecast/job:main"


def test_classes_of_a_script_are_the_same_in_each_of_its_processes() -> None:
    def pickled() -> bytes:
        class Config:
            width = 8

        return bytes(cloudpickle.dumps([Config, Config()]))

    assert pickled() != pickled()
    assert without_class_ids(pickled()) == without_class_ids(pickled())


def test_a_rehearsal_is_shown_in_a_line_and_printed_as_a_table() -> None:
    memory = StepMemory(available_bytes=32 << 30, needed_bytes=8 << 30)
    step = StepReport(name="train", verdict="fits", memory=memory)
    found = kinetic.Rehearsal(
        record=RehearsalRecord(
            function="job:train",
            code_sha256="0" * 64,
            environments={},
            made_at=0.0,
            reports=(
                TargetReport(accelerator="tpu-v5e-8", problem="no-compiler", message="no jax"),
                TargetReport(accelerator="tpu-v6e-8", steps=(step,)),
            ),
        )
    )

    assert repr(found).startswith("<Rehearsal of job:train: not known whether it fits tpu-v5e-8")
    assert (found.fits, found.smallest) == (True, "tpu-v6e-8")
    assert found.to_json()["smallest_that_fits"] == "tpu-v6e-8"
    assert "8.00 GiB" in str(found)
    assert "8.00 GiB" in found._repr_markdown_()


def test_whether_it_fits_is_not_known_where_one_accelerator_is_not() -> None:
    exceeds = TargetReport(
        accelerator="tpu-v5e-8", steps=(StepReport(name="train", verdict="exceeds"),)
    )
    unknown = TargetReport(accelerator="tpu-v6e-8", problem="time")

    def fits(*reports: TargetReport) -> bool | None:
        record = RehearsalRecord(
            function="f", code_sha256="", environments={}, made_at=0.0, reports=reports
        )
        return kinetic.Rehearsal(record=record).fits

    assert fits(exceeds) is False
    assert fits(exceeds, unknown) is None
