"""What runs have used, as clients read, tell and show it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from kinetic_flows.runner_image.runner.measured import document_of, told
from kinetic_flows.runner_image.runner.readings import ChipReading, Reading

from kinetic_flows.cli.run_top import Looked, table_of
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.run_metrics import (
    HostMetrics,
    RunMetrics,
    latest,
    read_metrics,
    used_in_words,
)

GIB = 1 << 30
BEGAN = 1_760_000_000.0


def a_document(**changes: Any) -> dict[str, Any]:
    """Return what a runner writes of a host with two GPUs, over two minutes."""
    chips = [
        (ChipReading(used, GIB, 80 * GIB, None, 50.0), ChipReading(used, GIB, 80 * GIB, None, 50.0))
        for used in (90.0, 30.0)
    ]
    readings = [
        Reading(
            at=BEGAN + 60.0 * (number + 1),
            seconds=60.0,
            cpus=2.0 + number,
            memory_bytes=(3 - number) * GIB,
            memory_limit_bytes=16 * GIB,
            disk_written_bytes_per_second=0.0,
            network_received_bytes_per_second=4e7,
            network_sent_bytes_per_second=100.0,
            chips=chips[number],
        )
        for number in range(2)
    ]
    made = document_of(
        readings,
        host=0,
        start=0,
        began=BEGAN,
        ended=True,
        scope="container",
        cpus=8,
        chip_kind="gpu",
        chip_name="NVIDIA L4",
    )
    return json.loads(json.dumps({**told(made), **changes}))


def a_host(**changes: Any) -> HostMetrics:
    return read_metrics(a_document(**changes))


def test_a_client_reads_what_a_runner_writes() -> None:
    host = a_host()
    assert (host.began, host.has_ended, host.is_container) == (
        datetime.fromtimestamp(BEGAN, UTC),
        True,
        True,
    )
    assert (host.chips_used_percent, host.cpus_used, host.seconds) == (60.0, 2.5, 120.0)
    assert (host.memory_bytes, host.memory_limit_bytes) == (3 * GIB, 16 * GIB)
    assert (host.chip_memory_bytes, host.chip_memory_total_bytes) == (2 * GIB, 160 * GIB)
    assert host.words == ("the 2 GPUs were used 60 % of the time",)
    assert host.picture.startswith("<svg ")


def test_columns_of_later_versions_are_left_out() -> None:
    document = a_document()
    document["columns"].insert(0, "mood")
    document["readings"] = [["fine", *row] for row in document["readings"]]
    document["chip_columns"].append("mood")
    for row in document["readings"]:
        row[-1] = [[*chip, "fine"] for chip in row[-1]]
    assert read_metrics(document) == a_host()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({**a_document(), "version": 2}, "metrics of version 2 cannot be read here"),
        ({}, "metrics of version None"),
        ({"version": 1}, "these are no metrics: KeyError"),
    ],
)
def test_what_is_no_document_of_metrics_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_metrics(document)


def test_what_a_host_used_is_one_line() -> None:
    assert used_in_words(a_host()) == (
        "2 GPUs 60 %, 2.0 GiB of 160.0 GiB; 2.5 of 8 CPUs; memory 3.0 GiB of 16.0 GiB; "
        "network 40.0 MB/s received; over 2 min 0 s"
    )


def test_what_is_used_now_is_of_the_last_seconds() -> None:
    now = latest(a_host(), 15.0)
    assert now is not None
    assert (now.cpus, now.memory_bytes) == (3.0, 2 * GIB)
    assert [chip.used_percent for chip in now.chips] == [30.0, 30.0]
    assert latest(a_host(readings=[]), 15.0) is None


def test_rows_for_a_table_have_a_column_for_each_chip() -> None:
    rows = RunMetrics(name="train()", hosts=(a_host(),)).rows()
    assert [row["chip1_used_percent"] for row in rows] == [90.0, 30.0]
    assert rows[0]["at"] == datetime.fromtimestamp(BEGAN + 60, UTC)
    assert {type(value) for row in rows for value in row.values()} <= {
        *(int, float, datetime, type(None)),
    }


def test_a_run_in_a_notebook_shows_its_picture_and_nothing_of_it_can_run_there() -> None:
    evil = "<svg onload='alert(1)'/>"
    metrics = RunMetrics(
        name="<b>train</b>",
        hosts=(a_host(picture=evil, words=["<script>"]),),
        missing={1: "its pod is gone"},
    )
    html = metrics._repr_html_()
    assert "data:image/svg+xml;base64," in html
    assert [part for part in ("onload", "<script>", "<b>train") if part in html] == []
    assert "host 1" in html
    assert repr(metrics) == (
        "<RunMetrics <b>train</b>\n"
        "  host 0: 2 GPUs 60 %, 2.0 GiB of 160.0 GiB; 2.5 of 8 CPUs; memory 3.0 GiB of 16.0 GiB; "
        "network 40.0 MB/s received; over 2 min 0 s\n"
        "  note: <script>\n"
        "  host 1: its pod is gone>"
    )


def a_look(host: HostMetrics, state: str, missing: dict[int, str] | None = None) -> Looked:
    record = RunRecord(
        id="9229eced-0000-4000-8000-000000000001",
        name="train()",
        state_type=state.upper(),
        state_name=state,
        message="",
        created=datetime.fromtimestamp(BEGAN, UTC),
    )
    return Looked(
        record=record, metrics=RunMetrics(name="train()", hosts=(host,), missing=missing or {})
    )


def test_the_table_of_a_run_says_what_its_hosts_use_now() -> None:
    assert table_of(a_look(a_host(), "Running", {1: "its pod is gone"})) == [
        ["HOST", "CHIPS", "CHIP MEMORY", "CPUS", "MEMORY", "NETWORK", "DISK", "LATELY"],
        [
            *("0", "2 GPUs 30 %, 100 W", "2.0 GiB of 160.0 GiB", "3.0 of 8", "2.0 GiB of 16.0 GiB"),
            *("↓40.0 MB/s ↑0", "↑0", "█▃"),
        ],
        ["1", "its pod is gone", "", "", "", "", "", ""],
    ]


def test_the_table_of_a_run_that_is_over_says_what_it_has_used() -> None:
    titles, row = table_of(a_look(a_host(), "Completed"))
    assert dict(zip(titles, row, strict=True))["CHIPS"] == "2 GPUs 60 %, 100 W"
    assert dict(zip(titles, row, strict=True))["MEMORY"] == "3.0 GiB of 16.0 GiB"


def test_of_a_run_of_which_nothing_is_known_there_is_no_table() -> None:
    looked = a_look(a_host(), "Completed")
    assert table_of(replace(looked, metrics=RunMetrics(name="train()", hosts=()))) == []


def test_columns_in_which_nothing_stands_are_left_out() -> None:
    document = a_document()
    document["readings"] = [[row[0], row[1], *[None] * 7, []] for row in document["readings"]]
    assert table_of(a_look(read_metrics(document), "Running"))[0] == ["HOST", "LATELY"]
