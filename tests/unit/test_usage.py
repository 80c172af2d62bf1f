"""What runs have used: chips, for how long they waited for them and had them, and money."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.runs.usage import usage_of
from kinetic_flows.runs.usage_report import report, sum_rows, usage_document
from kinetic_flows.runs.usage_words import hours, usage_rows

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
V6E = 2.70


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_run(
    accelerator: str = "tpu-v6e-8",
    *,
    started: float | None = 600,
    ended: float | None = 4200,
    state: str = "COMPLETED",
    **labels: Any,
) -> RunRecord:
    told = {name.replace("__", ".").replace("_", "-"): value for name, value in labels.items()}
    return RunRecord(
        id="r",
        name="train(1)",
        state_type=state if ended is not None else "RUNNING",
        state_name=state.title(),
        message="",
        created=NOON,
        labels={
            "kinetic.accelerator": accelerator,
            "kinetic.function": "train",
            "kinetic.platform": "gke",
            "kinetic.launched": NOON.isoformat(),
            **{f"kinetic.{name}": value for name, value in told.items()},
        },
        started=None if started is None else after(started),
        ended=None if ended is None else after(ended),
    )


def test_an_hour_on_eight_chips_is_eight_chip_hours() -> None:
    usage = usage_of(a_run(), {})
    assert usage.to_json() == {
        "chips": 8,
        "hosts": 1,
        "waiting_seconds": 600.0,
        "running_seconds": 3600.0,
        "chip_hours": {
            "asked": pytest.approx(8 + 8 / 6, abs=1e-5),
            "waiting": pytest.approx(8 / 6, abs=1e-5),
            "running": 8.0,
        },
        "cost_usd": pytest.approx(8 * V6E),
        "prices": ["Google's list prices of us-central1, November 2026"],
    }


def test_its_hosts_are_there_while_they_pull_the_image() -> None:
    usage = usage_of(a_run(seconds__wait=600.0, seconds__pull=120.0), {})
    assert (usage.waiting_seconds, usage.running_seconds) == (480.0, 3720.0)


@pytest.mark.parametrize(
    ("run", "chips", "hosts"),
    [
        (a_run("a100x2", hosts=3), 6, 3),
        (a_run("tpu-v6e-16", slices=2), 32, 8),
        (a_run("cpu", hosts=4), 0, 4),
        (a_run("tpu-v6e-8", platform="local"), 0, 1),
        (a_run("tpu-v6e-8 or l4"), None, 1),
        (a_run("of tomorrow"), None, 1),
    ],
)
def test_every_host_counts(run: RunRecord, chips: int | None, hosts: int) -> None:
    (used,) = usage_of(run, {}).running
    assert (used.chips, used.hosts) == (chips, hosts)


def test_what_goes_on_is_counted_to_this_moment() -> None:
    usage = usage_of(a_run(ended=None), {}, after(960))
    assert (usage.waiting_seconds, usage.running_seconds) == (600.0, 360.0)
    waiting = usage_of(a_run(started=None, ended=None), {}, after(300))
    assert (waiting.waiting_seconds, waiting.running_seconds) == (300.0, 0.0)
    assert waiting.usd == 0.0
    assert waiting.waiting_chip_hours == pytest.approx(8 / 12)


def test_what_was_never_launched_has_used_nothing() -> None:
    usage = usage_of(a_run(started=None, ended=900, launched=""), {})
    assert (usage.waiting_seconds, usage.running_seconds) == (0.0, 0.0)


def test_a_value_from_the_cache_costs_nothing() -> None:
    assert not usage_of(a_run(cached_from="another"), {}).running


def test_between_two_starts_nobody_has_chips() -> None:
    again = a_run(ended=7200)
    labels = {
        **again.labels,
        "kinetic.seconds.used.0.tpu-v6e-8": 1800.0,
        "kinetic.seconds.since": after(6600).timestamp(),
    }
    usage = usage_of(_with(again, labels), {})
    assert usage.running_seconds == pytest.approx(1800 + 600)
    assert usage.usd == pytest.approx(8 * V6E * 2400 / 3600)
    assert dict(usage_rows(usage))["chips"].startswith("8 for 40m00s: 5.33 chip-hours; waited")


def test_a_run_that_started_again_is_one_run() -> None:
    run = a_run("tpu-v6e-8:spot", ended=7200)
    again = _with(run, {**run.labels, "kinetic.seconds.used.0.tpu-v6e-8:spot": 1800.0})
    total = report([again], {}, "function").total
    assert (total.runs, total.unpriced) == (1, {"tpu-v6e-8:spot": 1})
    (row,) = report([again], {}, "accelerator").rows
    assert row.runs == 1


def test_a_run_of_a_list_has_used_each_accelerator_that_it_was_on() -> None:
    run = a_run("tpu-v6e-8", ended=7200)
    labels = {
        **run.labels,
        "kinetic.seconds.used.0.tpu-v6e-8:spot": 3600.0,
        "kinetic.seconds.since": after(3600).timestamp(),
    }
    usage = usage_of(_with(run, labels), {"tpu-v6e:spot": 1.0})
    assert [(each.name, each.seconds) for each in usage.running] == [
        ("tpu-v6e-8:spot", 3600.0),
        ("tpu-v6e-8", 3600.0),
    ]
    assert usage.usd == pytest.approx(8 * 1.0 + 8 * V6E)
    assert len(usage.sources) == 2
    assert usage_of(_with(run, labels), {}).usd is None, "one of the prices is not known"


def test_a_run_is_told_in_words() -> None:
    assert dict(usage_rows(usage_of(a_run(), {}))) == {
        "chips": "8 for 1h00m: 8.00 chip-hours; waited 10m00s for them: 1.33 more",
        "cost": "about $21.60, an estimate by Google's list prices of us-central1, November 2026",
    }
    spot = dict(usage_rows(usage_of(a_run("tpu-v6e-8:spot"), {})))
    assert spot["cost"] == (
        "not known: there is no price of tpu-v6e-8:spot; KINETIC_PRICES can say one"
    )
    assert not dict(usage_rows(usage_of(a_run(platform="local"), {})))
    own = dict(usage_rows(usage_of(a_run(platform="local"), {"local": 2.0})))
    assert own == {"cost": "about $2.00, an estimate by your own prices"}
    several = dict(usage_rows(usage_of(a_run("cpu", hosts=4), {"cpu": 0.5})))
    assert several["hosts"] == "4 for 1h00m each"


def _with(run: RunRecord, labels: dict[str, Any]) -> RunRecord:
    return replace(run, labels=labels)


MANY = [
    a_run(user="ann"),
    a_run(user="bob", function="infer", started=600, ended=2400),
    a_run("tpu-v6e-8:spot", user="ann"),
    a_run("cpu", function="infer"),
    a_run(platform="local", user="ann", function="infer"),
]


def test_runs_are_added_up_by_what_they_have_in_common() -> None:
    by_function = report(MANY, {}, "function")
    assert [(each.name, each.runs, each.running) for each in by_function.rows] == [
        ("train", 2, 16.0),
        ("infer", 3, 4.0),
    ]
    assert [row.usd for row in by_function.rows] == pytest.approx([8 * V6E, 4 * V6E])
    assert by_function.rows[0].unpriced == {"tpu-v6e-8:spot": 1}
    by_user = report(MANY, {}, "user")
    assert [(each.name, each.runs) for each in by_user.rows] == [
        ("ann", 3),
        ("bob", 1),
        ("(not told)", 1),
    ]
    by_accelerator = report(MANY, {}, "accelerator")
    assert {each.name: each.runs for each in by_accelerator.rows} == {
        "tpu-v6e-8": 3,
        "tpu-v6e-8:spot": 1,
        "cpu": 1,
    }
    for each in (by_function, by_user, by_accelerator):
        assert (each.total.runs, each.total.usd) == (5, pytest.approx(12 * V6E))


def test_a_group_has_used_what_its_runs_have() -> None:
    document = usage_document(MANY, {})
    assert (document["runs"], document["chip_hours"]["running"]) == (5, 20.0)
    assert document["words"]["chips"].startswith("20.00 chip-hours, waited for 4.00 more")
    assert document["words"]["cost"].startswith("about $32.40, an estimate by Google's list")
    assert document["words"][""] == (
        "without 1 run on tpu-v6e-8:spot, 1 run on cpu: no price is known "
        "(KINETIC_PRICES can say one)"
    )


def test_what_has_not_begun_is_told_without_money() -> None:
    waiting = usage_of(a_run(started=None, ended=None), {}, after(300))
    assert list(dict(usage_rows(waiting))) == ["chips"]
    assert usage_document([], {})["words"] == {}


def test_runs_of_which_no_price_is_known_say_just_that() -> None:
    total = report([a_run("cpu")], {}, "function").total
    assert dict(sum_rows(total)) == {
        "cost": "without 1 run on cpu: no price is known (KINETIC_PRICES can say one)"
    }


def test_hours_are_told_as_far_as_they_say_something() -> None:
    assert [hours(each) for each in (0, 0.00042, 0.042, 1.6, 99.95, 320.4, 12345.0)] == [
        "0",
        "0.00042",
        "0.042",
        "1.60",
        "99.95",
        "320",
        "12,345",
    ]
