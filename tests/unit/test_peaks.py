"""What chips can do at most, and what a step takes at least because of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.accelerators import list_accelerators, parse_accelerator
from kinetic_flows.core.accelerators.peaks import PEAKS, UNKNOWN, peak_of
from kinetic_flows.core.accelerators.registry import GPUS, TPUS
from kinetic_flows.core.rehearsals import Collective, StepReport
from kinetic_flows.core.roofline import Roofline, roofline
from kinetic_flows.plans.rehearsal import target_for


def _bound(name: str, **figures: Any) -> Roofline:
    found = roofline(StepReport(name="step", verdict="fits", **figures), parse_accelerator(name))
    assert found is not None
    return found


def test_every_label_is_one_of_the_registry() -> None:
    tpus = {shape.label for tpu in TPUS for shape in tpu.shapes}
    assert set(PEAKS) <= tpus | {gpu.label for gpu in GPUS}


def test_every_generation_of_tpu_has_its_page_operations_and_memory() -> None:
    for accelerator in list_accelerators():
        if accelerator.category == "tpu":
            peak = peak_of(accelerator)
            assert peak.flops
            assert peak.memory_bandwidth
            assert peak.source.startswith("https://cloud.google.com/tpu/docs/")


@pytest.mark.parametrize("name", ["p4", "p100", "rtx-pro-6000", "cpu"])
def test_what_no_page_says_is_not_known(name: str) -> None:
    assert peak_of(parse_accelerator(name)) == UNKNOWN


def test_chips_are_as_many_devices_as_a_rehearsal_has() -> None:
    for accelerator in list_accelerators():
        if accelerator.category != "cpu":
            devices = target_for(accelerator).devices
            assert devices == accelerator.count * peak_of(accelerator).devices


def test_the_page_has_every_figure_with_its_source() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rehearsal.md").read_text()
    for peak in PEAKS.values():
        row = next(line for line in page.splitlines() if f"({peak.source})" in line)
        assert peak.flops
        assert peak.memory_bandwidth
        cells = [cell.strip() for cell in row.split("|")]
        assert f"{peak.flops / 1e12:g}" == cells[2]
        assert f"{peak.memory_bandwidth / 1e9:g}" in cells[3].split(", ")
        assert (f"{peak.link_bandwidth / 1e9:g}" if peak.link_bandwidth else "") == cells[4]


def test_step_that_computes_long_uses_all_of_a_chip_at_most() -> None:
    bound = _bound("tpu-v6e-8", flops=918e12, bytes_accessed=1.0)
    assert bound == Roofline(seconds=1.0, bound_by="compute", use=1.0)


def test_step_that_waits_for_memory_uses_part_of_a_chip() -> None:
    bound = _bound("tpu-v5litepod-8", flops=197e12, bytes_accessed=4 * 819e9)
    assert bound.bound_by == "memory"
    assert bound.seconds == pytest.approx(4.0)
    assert bound.use == pytest.approx(0.25)


def test_device_that_is_half_a_chip_does_half_of_what_the_chip_does() -> None:
    assert _bound("tpu7x-2x2x1", flops=2307e12).seconds == pytest.approx(2.0)


def test_what_chips_exchange_takes_time_in_one_direction() -> None:
    told = (
        Collective(operation="all-reduce", count=2, size_bytes=400_000_000_000),
        Collective(operation="reduce-scatter", count=1, size_bytes=400_000_000_000),
    )
    bound = _bound("tpu-v6e-8", flops=1.0, collectives=told)
    assert bound.bound_by == "links"
    assert bound.seconds == pytest.approx(1.5)


@pytest.mark.parametrize("name", ["tpu-v6e-1", "tpu7x-2x2x1", "tpu-v4-2x2x1", "h100x8"])
def test_exchange_within_chips_or_over_unknown_links_bounds_nothing(name: str) -> None:
    told = (Collective(operation="all-reduce", count=1, size_bytes=1 << 50),)
    assert _bound(name, flops=1.0, collectives=told).bound_by == "compute"


def test_estimate_is_bound_by_its_operations_alone() -> None:
    bound = _bound("h100", flops=989.5e12, bytes_accessed=1e18, is_estimate=True)
    assert bound == Roofline(seconds=1.0, bound_by="compute", use=1.0)


@pytest.mark.parametrize(
    ("name", "figures"), [("tpu-v6e-8", {}), ("cpu", {"flops": 1.0}), ("p100", {"flops": 1.0})]
)
def test_nothing_known_of_step_or_chip_bounds_nothing(name: str, figures: dict[str, float]) -> None:
    step = StepReport(name="step", verdict="fits", flops=figures.get("flops"))
    assert roofline(step, parse_accelerator(name)) is None
