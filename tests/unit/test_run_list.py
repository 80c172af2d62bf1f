"""The table of runs fits the terminal, and is whole where there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinetic_flows.cli.run_list import moment, print_runs, table_of
from kinetic_flows.cli.run_show import shown
from kinetic_flows.clients.prefect.records import RunQuery, RunRecord
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.moments import ago, local, took
from kinetic_flows.runs.description import described, reason_of

NOW = datetime(2026, 1, 2, tzinfo=UTC)
GROUP = "1b11d3df-1ecb-425e-b631-5d2d6ff7d17d"

FAILED = RunRecord(
    id="0d2c6c69-23b8-432c-96c1-90dc74d0f11a",
    name="train(rate=0.1, path='/data/some/where/shard-3.csv')",
    state_type="FAILED",
    state_name="Failed",
    message="raised ValueError: the rate is far too small for this data, as everybody knows\nmore",
    created=NOW - timedelta(hours=3),
    started=NOW - timedelta(hours=2, minutes=59),
    ended=NOW - timedelta(hours=2, minutes=56),
    labels={
        "kinetic.function": "train",
        "kinetic.accelerator": "tpu-v6e-8",
        "kinetic.user": "ann",
        "kinetic.host": "mill",
        "kinetic.group": GROUP,
        "kinetic.index": 3,
    },
)
DONE = replace(
    FAILED,
    id="7e57ab1e-23b8-432c-96c1-90dc74d0f11a",
    name="nightly-fox",
    state_type="COMPLETED",
    state_name="Completed",
    message="returned float: 0.25",
    deployment_id="8c9d",
    labels={"kinetic.function": "train"},
)


def rows(*records: RunRecord) -> list[dict[str, Any]]:
    return [described(record, "http://page") for record in records]


def lines_of(columns: int | None, *records: RunRecord) -> list[list[str]]:
    return table_of(rows(*records), columns, NOW)


def width_of(lines: list[list[str]]) -> int:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return sum(widths) + 2 * (len(widths) - 1)


@pytest.mark.parametrize("columns", range(40, 201, 8))
def test_a_table_is_as_wide_as_the_terminal_at_most(columns: int) -> None:
    lines = lines_of(columns, FAILED, DONE)
    assert width_of(lines) <= columns
    assert {"RUN", "NAME", "STATE"} <= set(lines[0])
    assert lines[1][0] == "0d2c6c69"


def test_a_wide_table_has_all_that_tells_runs_apart() -> None:
    titles, first, second = lines_of(None, FAILED, DONE)
    assert dict(zip(titles, first, strict=True)) == {
        "RUN": "0d2c6c69",
        "NAME": "train(rate=0.1, path='/data/some/where/shard-3.csv')",
        "ON": "tpu-v6e-8",
        "STATE": "Failed: raised ValueError: the rate is far too small for this data, as everybody "
        "knows",
        "WHO": "ann@mill",
        "WHEN": "3h ago",
        "AT": FAILED.created.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        "TOOK": "3m00s",
        "GROUP": "1b11d3df",
    }
    assert second[1:4] == ["train", "", "Completed: 0.25"]


def test_a_column_that_says_nothing_is_left_out() -> None:
    (titles, _) = lines_of(None, DONE)
    assert not {"ON", "WHO", "GROUP"} & set(titles)


def test_what_is_cut_keeps_its_beginning_and_names_keep_their_ends() -> None:
    lines = lines_of(80, FAILED)
    name, state = lines[1][1], lines[1][lines[0].index("STATE")]
    assert name.startswith("train(rate")
    assert name.endswith(".csv')")
    assert "…" in name
    assert state.startswith("Failed: raised")
    assert state.endswith("…")


def test_no_runs_are_said_to_be_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_runs([])
    assert capsys.readouterr().out == "no such runs\n"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("returned float: 0.2", "Completed: 0.2"),
        ("returned None", "Completed: None"),
        ("returned str: a: b", "Completed: a: b"),
        ("waiting to be launched", "Completed"),
        ("", "Completed"),
    ],
)
def test_of_a_state_the_reason_or_the_value_is_shown(message: str, text: str) -> None:
    assert reason_of({"state": "Completed", "message": message}) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0.0s"),
        (0.64, "0.6s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3_600, "1h00m"),
        (90_000, "1d01h"),
    ],
)
def test_durations_take_few_characters(seconds: float | None, text: str) -> None:
    assert took(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s ago"), (59, "59s ago"), (125, "2m ago"), (7_300, "2h ago"), (-90, "in 1m")],
)
def test_moments_are_told_from_now(seconds: int, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_since_takes_a_moment_or_how_long_ago() -> None:
    assert moment("2026-01-31T09:00+00:00") == datetime(2026, 1, 31, 9, tzinfo=UTC)
    earliest = datetime.now(UTC) - timedelta(hours=2)
    assert earliest <= moment("2h") <= datetime.now(UTC) - timedelta(hours=2)
    with pytest.raises(UsageError, match="--since is 'soon'"):
        moment("soon")


def test_prefects_server_is_asked_for_what_is_wanted_only() -> None:
    query = RunQuery(of_function="train", tags=("user:ann", "mine"), parent=GROUP)
    assert query.to_flow_filter() == {"name": {"any_": ["train"]}}
    assert query.to_filter() == {
        "tags": {"all_": ["kinetic", "user:ann", "mine"]},
        "parent_flow_run_id": {"any_": [GROUP]},
    }


def test_everything_about_a_run_is_shown_in_an_order() -> None:
    document = {
        **described(FAILED, "http://page"),
        "states": [
            {"name": "Pending", "message": "", "since": FAILED.created.isoformat()},
            {"name": "Failed", "message": "no\x1b[2J\nmore", "since": FAILED.ended.isoformat()},  # type: ignore[union-attr]
        ],
        "retried_as": ["7e57ab1e"],
        "pages": {"Job": "https://console"},
        "facts": {"called by": "ann@mill"},
        "metrics": [],
        "usage": {"words": {}},
    }
    lines = [line.strip() for line in shown(document, NOW).splitlines()]
    labels = [line.split("  ")[0] for line in lines]
    assert labels[:3] == ["run", "id", "state"]
    assert "more" in lines, "a message is shown whole"
    assert "created  " + local(FAILED.created) + " (3h ago)" in lines
    assert "times  waited to start 1m00s, ran 3m00s" in lines
    assert f"group  {GROUP} (input 3)" in lines
    assert "retried as  7e57ab1e" in lines
    assert "called by  ann@mill" in lines
    assert "Job  https://console" in lines
    assert not [line for line in lines if "\x1b" in line]
    assert lines[-2:] == [
        f"its output  kinetic runs logs {FAILED.id}",
        f"its end  kinetic runs why {FAILED.id}",
    ]


def test_of_a_run_that_goes_on_it_is_said_how_to_see_what_it_does() -> None:
    running = replace(FAILED, state_type="RUNNING", state_name="Running", ended=None)
    document = {**described(running, "http://page"), "states": [], "retried_as": [], "pages": {}}
    text = shown({**document, "facts": {}, "metrics": [], "usage": {"words": {}}}, NOW)
    assert [line.strip() for line in text.splitlines()[-2:]] == [
        f"what it does  kinetic runs stacks {FAILED.id}",
        f"a way in  kinetic runs shell {FAILED.id}",
    ]


def test_what_a_group_was_started_with_is_no_argument_of_a_function() -> None:
    document = {
        **described(replace(FAILED, labels={}), "http://page"),
        "arguments": {"inputs": "2", "max_concurrent": "64"},
        "states": [],
        "retried_as": [],
        "pages": {},
        "facts": {},
        "metrics": [],
        "usage": {"words": {}},
        "runs": [],
    }
    lines = [line.strip() for line in shown(document, NOW).splitlines()]
    assert "max concurrent  64" in lines
    assert not [line for line in lines if line.startswith("argument")]
