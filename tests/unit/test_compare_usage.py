"""What the hosts of two runs have used, compared as far as it is not about the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.run_metrics import ChipReading, HostMetrics, Reading
from kinetic_flows.runs.compare.difference import Section
from kinetic_flows.runs.compare.subject import Subject
from kinetic_flows.runs.compare.usage import Measured, of_host, usage_differences

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def _subject(run_id: str, seconds: float) -> Subject:
    record = RunRecord(
        id=run_id,
        name="train",
        state_type="COMPLETED",
        state_name="Completed",
        message="",
        created=NOW,
    )
    return Subject(
        record=record,
        source=record,
        told={"seconds": seconds},
        store=None,
        stored=None,
        unknown="",
        job=None,
        header=None,
        frame=None,
    )


def _measured(*, cpus: float, chip_percent: float) -> Measured:
    chip = ChipReading(used_percent=chip_percent, memory_bytes=8_000_000_000)
    readings = (Reading(at=0.0, seconds=60.0, cpus=cpus, memory_bytes=1_000_000, chips=(chip,)),)
    return of_host(
        HostMetrics(
            host=0,
            began=NOW,
            has_ended=True,
            is_container=True,
            cpus=4.0,
            memory_limit_bytes=None,
            chip_kind="gpu",
            chip_name="L4",
            readings=readings,
            words=(),
            picture="",
        )
    )


def test_what_is_used_about_as_much_is_no_difference() -> None:
    unknown: dict[Section, str] = {}
    runs = _subject("a" * 8, 60.0), _subject("b" * 8, 60.0)
    used = _measured(cpus=2.0, chip_percent=80.0), _measured(cpus=2.1, chip_percent=4.0)
    (found,) = usage_differences(runs, used, unknown)
    assert (found.section, found.name, found.before, found.after, found.note) == (
        *("metrics", "GPU use", "80 %", "4 %", "x 0.05"),
    )
    assert unknown == {}


@pytest.mark.parametrize(
    ("seconds", "has_second", "said"),
    [
        (60.0, True, "nothing was read of aaaaaaaa, or it has expired"),
        (60.0, False, "nothing was read of aaaaaaaa and bbbbbbbb, or it has expired"),
        (1.0, True, "nothing was read of aaaaaaaa, or it has expired"),
        # Of brief runs nothing is read, which is nothing to tell.
        (1.0, False, None),
    ],
)
def test_what_was_not_read_is_unknown(seconds: float, has_second: bool, said: str | None) -> None:
    unknown: dict[Section, str] = {}
    runs = _subject("a" * 8, seconds), _subject("b" * 8, seconds)
    second = _measured(cpus=2.0, chip_percent=80.0) if has_second else {}
    assert list(usage_differences(runs, ({}, second), unknown)) == []
    assert unknown.get("metrics") == said
