"""What rehearsals say of a call: of this code or of older, and whether it is launched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinetic_flows.core.errors import RehearsalError, UsageError
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.rehearsals import (
    Buffer,
    RehearsalRecord,
    StepMemory,
    StepReport,
    TargetReport,
    Verdict,
)
from kinetic_flows.plans.call_arguments import check_rehearsal
from kinetic_flows.plans.draft import Call
from kinetic_flows.plans.rehearsal_verdict import judge
from kinetic_flows.plans.rehearsed import Rehearsed, Subjects, rehearsed_on

GIB = 1 << 30
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
SMALL, LARGE = "tpu-v5litepod-8", "tpu-v6e-8"


def step(verdict: Verdict, needed: float = 12.3, **changes: Any) -> StepReport:
    memory = StepMemory(available_bytes=int(31.25 * GIB), needed_bytes=int(needed * GIB))
    return replace(StepReport(name="train", verdict=verdict, memory=memory), **changes)


FITS = TargetReport(accelerator=LARGE, steps=(step("fits"),))
EXCEEDS = TargetReport(
    accelerator=SMALL,
    steps=(
        step(
            "exceeds",
            48.625,
            buffers=(
                Buffer(
                    size_bytes=16 * GIB,
                    shape="f32[65536,65536]",
                    operation="jit(step)/dot_general",
                    source="model.py:42",
                ),
            ),
        ),
    ),
)
TOO_LARGE = (
    "it needs 48.62 of 31.25 GiB a device; the largest is 16.00 GiB f32[65536,65536] by "
    "jit(step)/dot_general at model.py:42"
)
RECORD = RehearsalRecord(
    function="train:train",
    code_sha256="code",
    environments={LARGE: "packages", SMALL: "packages"},
    made_at=(NOW - timedelta(hours=2)).timestamp(),
    reports=(FITS, EXCEEDS),
)


def asked(name: str, code: str = "code", packages: str | None = None, devices: int = 8) -> Subjects:
    return Subjects(accelerator=name, devices=devices, code=code, packages=packages)


def found_in(
    *records: RehearsalRecord, name: str = LARGE, code: str = "code", packages: str | None = None
) -> Rehearsed:
    told = rehearsed_on(records, asked(name, code, packages))
    assert told is not None
    return told


def of(*reports: TargetReport) -> dict[str, Rehearsed]:
    record = replace(RECORD, reports=reports)
    return {each.accelerator: found_in(record, name=each.accelerator) for each in reports}


@pytest.mark.parametrize(
    ("code", "packages", "words"),
    [
        ("code", "packages", "2h ago: fits, 12.30 of 31.25 GiB a device"),
        ("code", None, "2h ago: fits, 12.30 of 31.25 GiB a device"),
        (
            "other",
            "packages",
            "2h ago, with other code or values: fits, 12.30 of 31.25 GiB a device",
        ),
        ("code", "other", "2h ago, with other packages: fits, 12.30 of 31.25 GiB a device"),
    ],
)
def test_a_rehearsal_says_how_old_it_is_and_whether_it_was_of_this_code(
    code: str, packages: str | None, words: str
) -> None:
    told = found_in(RECORD, code=code, packages=packages)
    assert told.planned().words(NOW) == words
    assert told.is_current is (words.startswith("2h ago: "))


def test_a_rehearsal_of_this_code_counts_before_a_newer_one_of_other_code() -> None:
    newer = replace(RECORD, code_sha256="other", made_at=NOW.timestamp())
    assert found_in(newer, RECORD).made_at == RECORD.made_at
    assert found_in(newer, replace(RECORD, code_sha256="third")).made_at == newer.made_at
    assert rehearsed_on((RECORD,), asked("tpu-v4-8")) is None
    assert rehearsed_on((), asked(LARGE)) is None


def test_a_rehearsal_for_one_slice_says_nothing_of_two() -> None:
    of_one = replace(RECORD, reports=(replace(FITS, devices=8),))
    assert rehearsed_on((of_one,), asked(LARGE, devices=8)) is not None
    assert rehearsed_on((of_one,), asked(LARGE, devices=16)) is None


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (EXCEEDS, "does not fit, needs 48.62 of 31.25 GiB a device"),
        (
            replace(FITS, steps=(step("fits", 1.0, name="a"), step("fits", 2.0, name="b"))),
            "fits, 2.00 of 31.25 GiB a device, in the step b",
        ),
        (
            replace(FITS, steps=(step("fits", 1.0, is_estimate=True),)),
            "fits, 1.00 of 31.25 GiB a device (an estimate)",
        ),
        (
            replace(FITS, steps=(step("exceeds", memory=StepMemory()),)),
            "does not fit",
        ),
        (
            replace(FITS, steps=(), problem="no-compiler", message="no libtpu\nmore"),
            "not known to fit: no libtpu",
        ),
        (
            replace(FITS, steps=(step("failed", message="TypeError: x"),)),
            "not known to fit: TypeError: x",
        ),
        (replace(FITS, steps=()), "not known to fit"),
    ],
)
def test_an_outcome_is_told_in_one_line(report: TargetReport, words: str) -> None:
    told = of(report)[report.accelerator]
    assert told.planned().words(NOW) == f"2h ago: {words}"


def test_machines_are_told_the_same_in_bytes() -> None:
    told = json.loads(json.dumps(found_in(RECORD, name=SMALL).planned().to_json()))
    assert told == {
        "accelerator": SMALL,
        "made_at": "2026-05-04T10:00:00+00:00",
        "of": "this",
        "fits": False,
        "problem": None,
        "smallest_that_fits": LARGE,
        "steps": [
            {
                "name": "train",
                "fits": False,
                "is_estimate": False,
                "needed_bytes": int(48.625 * GIB),
                "available_bytes": int(31.25 * GIB),
            }
        ],
    }


def test_a_call_that_fits_nowhere_is_refused_with_what_it_needs_and_what_would_fit() -> None:
    verdict = judge([SMALL], of(EXCEEDS, FITS))
    error = verdict.refusal("train")
    assert isinstance(error, RehearsalError)
    assert error.exit_code == 14
    assert error.message == f"train does not fit {SMALL}, as its rehearsal says: {TOO_LARGE}"
    assert error.value == (SMALL,)
    assert error.hint == (
        f"{LARGE} is the smallest rehearsed that fits; nothing was launched, and "
        "KINETIC_REHEARSE=0 launches it all the same"
    )


def test_an_argument_that_is_the_largest_is_named_as_one() -> None:
    weights = Buffer(size_bytes=GIB, shape="f32[16384,16384]", operation="params", kind="argument")
    told = of(replace(EXCEEDS, steps=(step("exceeds", 32, buffers=(weights,)),)))[SMALL]
    assert told.misfit.endswith("the largest is 1.00 GiB f32[16384,16384] of the argument params")


def test_of_a_list_that_fits_nowhere_each_reason_is_told() -> None:
    also = replace(EXCEEDS, accelerator="tpu-v4-8")
    error = judge([SMALL, "tpu-v4-8"], of(EXCEEDS, also)).refusal("train")
    assert error.message == (
        "train fits none of its accelerators, as its rehearsal says:\n"
        f"  - {SMALL}: {TOO_LARGE}\n  - tpu-v4-8: {TOO_LARGE}"
    )
    assert (error.hint or "").startswith("`train.rehearse([...])` with larger ones may find one")


def test_of_a_list_only_what_does_not_fit_is_left_out() -> None:
    verdict = judge([SMALL, LARGE], of(EXCEEDS, FITS))
    assert verdict.left_out("train") == (
        f"{SMALL} is left out: train does not fit, as its rehearsal says: {TOO_LARGE}",
    )
    assert verdict.warnings("train") == ()


@pytest.mark.parametrize(
    ("found", "failure", "why"),
    [
        ({}, "", "it was not rehearsed"),
        ({}, "no uv here", "no uv here"),
        ({LARGE: found_in(RECORD, code="other")}, "no uv here", "no uv here"),
        (
            of(replace(FITS, steps=(), problem="time", message="it took more than 600 s")),
            "",
            "it took more than 600 s",
        ),
        (
            of(replace(EXCEEDS, accelerator=LARGE, steps=(step("exceeds", is_estimate=True),))),
            "",
            (
                "its rehearsal says that it does not fit, needs 12.30 of 31.25 GiB a device (an "
                "estimate)"
            ),
        ),
    ],
)
def test_what_nobody_knows_is_launched_with_a_warning(
    found: Mapping[str, Rehearsed], failure: str, why: str
) -> None:
    verdict = judge([LARGE], found, failure)
    assert verdict.misfits == {}
    assert verdict.warnings("train") == (f"nobody knows whether train fits {LARGE}: {why}",)


def test_a_rehearsal_of_older_code_refuses_nothing() -> None:
    assert not judge([SMALL], {SMALL: found_in(RECORD, name=SMALL, code="other")}).misfits


def train() -> None: ...


def test_who_asks_for_a_rehearsal_has_to_have_one() -> None:
    call = Call(function=train, args=(), kwargs={}, options=RunOptions(rehearse=True))
    with pytest.raises(UsageError, match="asks for a rehearsal of train, and it has none"):
        check_rehearsal(call)
    check_rehearsal(replace(call, rehearsal=lambda _: None))
    check_rehearsal(replace(call, options=RunOptions()))
