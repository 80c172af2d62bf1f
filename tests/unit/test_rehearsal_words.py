"""What a rehearsal says to people: tables, what stands out, and what follows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.rehearsal_amounts import flops, memory, moment, of_memory, share
from kinetic_flows.core.rehearsal_words import (
    document,
    sentence,
    smallest_that_fits,
    table_markdown,
    table_text,
    tables,
)
from kinetic_flows.core.rehearsals import (
    Buffer,
    Collective,
    RehearsalRecord,
    StepMemory,
    StepReport,
    TargetReport,
)

GIB = 1 << 30


def _step(verdict: Any = "fits", needed: float | None = 12.5, **more: Any) -> StepReport:
    room = StepMemory(
        available_bytes=int(31.25 * GIB),
        needed_bytes=None if needed is None else int(needed * GIB),
        arguments_bytes=4 * GIB,
        temporary_bytes=8 * GIB,
        output_bytes=512,
        code_bytes=3 << 20,
    )
    return StepReport(**{"name": "step", "verdict": verdict, "memory": room, **more})


def _of(name: str, *steps: StepReport, **more: Any) -> TargetReport:
    return TargetReport(accelerator=name, steps=steps, **more)


def _record(*reports: TargetReport) -> RehearsalRecord:
    return RehearsalRecord(
        function="train:train", code_sha256="c", environments={}, made_at=1.0, reports=reports
    )


FITS = _of(
    "tpu-v6e-8",
    _step(
        flops=91.8e12,
        bytes_accessed=1.64e12,
        compile_seconds=4.2,
        buffers=(
            Buffer(
                size_bytes=2 * GIB,
                shape="bf16[8192,4096]",
                operation="jit(step)/dot_general",
                source="model.py:42",
            ),
        ),
        collectives=(Collective(operation="all-reduce", count=3, size_bytes=GIB),),
    ),
    versions={"jax": "0.10.2", "libtpu": "0.0.42.1"},
)
EXCEEDS = _of(
    "tpu-v5litepod-8",
    _step("exceeds", 48.625, message="RESOURCE_EXHAUSTED: Ran out of memory", hint="shard more"),
)
UNKNOWN = _of("tpu-v3-2x2", problem="unknown-topology", message="libtpu has no v3", hint="upgrade")


def test_table_says_what_is_needed_and_what_is_left() -> None:
    first, *_ = table_text(_record(EXCEEDS, FITS, UNKNOWN)).split("\n\n")
    assert [line.split("  ")[0] for line in first.splitlines()] == [
        "Memory of one device",
        "accelerator",
        "tpu-v5litepod-8",
        "tpu-v6e-8",
        "tpu-v3-2x2",
    ]
    rows = [[cell.strip() for cell in line.split("  ") if cell] for line in first.splitlines()]
    assert rows[2][1:5] == ["does not fit", "48.62 GiB", "31.25 GiB", "-17.38 GiB"]
    assert rows[3] == [
        "tpu-v6e-8",
        "fits",
        "12.50 GiB",
        "31.25 GiB",
        "18.75 GiB",
        "4.00 GiB",
        "8.00 GiB",
        "512 B",
        "3.00 MiB",
    ]
    assert rows[4][1] == "not known"


def test_table_says_how_long_a_step_takes_at_least() -> None:
    text = table_text(_record(FITS))
    head, row = text.partition("One step on one device\n")[2].splitlines()[:2]
    assert head.split("  ")[0] == "accelerator"
    assert " ".join(row.split()) == "tpu-v6e-8 91.80 TFLOP 1,527.37 GiB 1.0 s memory 10 % 4.2 s"


def test_steps_are_named_where_there_are_several() -> None:
    assert "step  " not in table_text(_record(FITS)).splitlines()[1].replace("One step", "")
    several = _of("tpu-v6e-8", _step(name="train"), _step(name="evaluate"))
    assert table_text(_record(several)).splitlines()[1].split()[:2] == ["accelerator", "step"]


def test_largest_buffers_say_what_made_them_and_where() -> None:
    text = table_text(_record(FITS))
    assert "Largest buffers of step on tpu-v6e-8" in text
    assert "2.00 GiB  bf16[8192,4096]  temporary  jit(step)/dot_general  model.py:42" in text
    assert "all-reduce  3      1.00 GiB" in text


def test_what_went_wrong_is_told_with_what_to_do() -> None:
    text = table_text(_record(EXCEEDS, UNKNOWN))
    assert (
        "step on tpu-v5litepod-8 does not fit\n"
        "  RESOURCE_EXHAUSTED: Ran out of memory\n"
        "  hint: shard more" in text
    )
    assert "Of tpu-v3-2x2 nothing is known\n  libtpu has no v3\n  hint: upgrade" in text


def test_comparison_ends_with_the_smallest_that_fits_and_its_price() -> None:
    text = table_text(_record(EXCEEDS, FITS))
    assert "The smallest of them that fits: tpu-v6e-8, $21.60 an hour" in text
    assert "Not known before it runs: how fast data comes" in text


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ((FITS,), "It fits: tpu-v6e-8"),
        ((EXCEEDS,), "It does not fit."),
        ((EXCEEDS, EXCEEDS), "None of them fits."),
        ((EXCEEDS, UNKNOWN), "Not one of them is known to fit."),
    ],
)
def test_what_follows_is_said(reports: tuple[TargetReport, ...], said: str) -> None:
    assert said in table_text(_record(*reports))


def test_smallest_is_by_price_where_all_are_known_and_by_memory_else() -> None:
    dear, cheap = _of("tpu-v6e-8", _step()), _of("tpu-v5litepod-16", _step())
    assert smallest_that_fits(_record(dear, cheap)) == "tpu-v5litepod-16"
    small, unpriced = _of("tpu-v6e-4", _step()), _of("tpu7x-2x2x1", _step())
    assert smallest_that_fits(_record(unpriced, small)) == "tpu-v6e-4"
    assert smallest_that_fits(_record(EXCEEDS, UNKNOWN)) is None


def test_estimates_are_marked() -> None:
    estimate = _of("h100", _step(is_estimate=True))
    assert "fits, an estimate" in table_text(_record(estimate))
    assert "Estimates are of the program that is compiled for CPUs" in table_text(_record(estimate))
    assert sentence(estimate) == "fits h100: 12.50 of 31.25 GiB a device, an estimate"
    undecided = _of("h100", _step(is_estimate=True, verdict="failed"))
    assert "may fit, an estimate" in table_text(_record(undecided))


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (FITS, "fits tpu-v6e-8: 12.50 of 31.25 GiB a device"),
        (EXCEEDS, "does not fit tpu-v5litepod-8: needs 48.62 of 31.25 GiB a device"),
        (UNKNOWN, "not known whether it fits tpu-v3-2x2: libtpu has no v3"),
        (
            _of("tpu-v6e-8", _step(name="a"), _step("exceeds", 40, name="b")),
            "does not fit tpu-v6e-8: needs 40.00 of 31.25 GiB a device, in the step b",
        ),
        (_of("tpu-v6e-8", _step("exceeds", None)), "does not fit tpu-v6e-8"),
        (
            _of("tpu-v6e-8", _step(), _step("failed", name="b", message="no such axis\nmore")),
            "not known whether it fits tpu-v6e-8: no such axis",
        ),
    ],
)
def test_outcome_is_one_sentence(report: TargetReport, said: str) -> None:
    assert sentence(report) == said


EVIL = "x\x1b]0;gone\x07\u202e|<b>`[a](javascript:b)\nnext"


def test_names_of_others_give_no_orders_to_terminals_or_pages() -> None:
    buffer = Buffer(size_bytes=1, shape=EVIL, operation=EVIL, source=EVIL)
    evil = _of(
        "tpu-v6e-8",
        _step("exceeds", 40, name=EVIL, message=EVIL, hint=EVIL, buffers=(buffer,)),
        warnings=(EVIL,),
    )
    other = _of("tpu-v5litepod-8", problem="function", message=EVIL, hint=EVIL)
    texts = [
        table_text(_record(evil, other)),
        table_markdown(_record(evil, other)),
        sentence(evil),
        sentence(other),
    ]
    for text in texts:
        assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "\\<b\\>" in texts[1]
    assert "](javascript" not in texts[1].replace("\\](", "")
    assert "<b>" not in texts[1]


def test_the_page_shows_tables_as_they_are_printed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rehearsal.md").read_text()
    for title, (head, *_) in tables(_record(FITS)):
        shown = page.partition(f"\n{title}\n")[2].splitlines()[0]
        assert tuple(re.split(r"\s{2,}", shown)) == head


def test_markdown_has_a_table_of_whole_rows() -> None:
    lines = table_markdown(_record(EXCEEDS, FITS)).splitlines()
    table = [line for line in lines if line.startswith("| accelerator | fits")]
    assert table
    at = lines.index(table[0])
    assert {line.count(" |") for line in lines[at : at + 4]} == {9}


def test_document_has_the_bounds_and_what_follows() -> None:
    told = document(_record(EXCEEDS, FITS))
    assert told["smallest_that_fits"] == "tpu-v6e-8"
    assert [each["fits"] for each in told["reports"]] == [False, True]
    assert told["reports"][1]["hourly_usd"] == pytest.approx(21.6)
    step = told["reports"][1]["steps"][0]
    assert (step["bound_by"], step["at_least_seconds"]) == ("memory", pytest.approx(1.0))
    assert step["use_at_most"] == pytest.approx(0.1)
    assert told["reports"][0]["steps"][0]["bound_by"] is None
    assert RehearsalRecord.from_json(_record(FITS).to_json()) == _record(FITS)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (memory(0), "0 B"),
        (memory(1536), "1.50 KiB"),
        (memory(None), "-"),
        (of_memory(int(12.3 * GIB), int(31.25 * GIB)), "12.30 of 31.25 GiB"),
        (of_memory(5 << 20, GIB), "5.00 MiB of 1.00 GiB"),
        (flops(999), "999 FLOP"),
        (flops(1.234e13), "12.34 TFLOP"),
        (moment(0.0449), "45 ms"),
        (moment(7.14e-6), "7.1 us"),
        (moment(125.0), "125 s"),
        (share(0.999), "99 %"),
        (share(1.0), "100 %"),
    ],
)
def test_amounts_are_in_the_units_people_know(told: str, said: str) -> None:
    assert told == said
