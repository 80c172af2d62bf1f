"""For how long the starts of a run had their hosts, where there was more than one."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner.candidates import Launch
from kinetic_flows.runner_image.runner.starts import SINCE_LABEL, USED_LABEL, Launched, Starts
from kinetic_flows.runner_image.runner.stores import DirectoryStore

from kinetic_flows.clients.prefect import labels
from prefect_wire import PrefectWire, serve
from runner_jobs import RUN_ID, Job, wait, wait_until

ON_V6E = Launched("tpu-v6e-8")


@pytest.fixture
def prefect() -> Iterator[PrefectWire]:
    with serve() as wire:
        yield wire


def _mark(root: Path, number: int, name: str, **moment: float) -> None:
    path = root / "runs" / RUN_ID / "attempts" / str(number) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(moment))


def _starts(root: Path, host: int = 0) -> Starts:
    return Starts(DirectoryStore(str(root)), RUN_ID, host)


def test_the_client_knows_the_labels() -> None:
    assert (labels.SINCE_LABEL, labels.USED_LABEL) == (SINCE_LABEL, USED_LABEL)


def test_starts_are_numbered_in_turn(tmp_path: Path) -> None:
    assert [_starts(tmp_path).claim(lambda number: number) for _ in range(3)] == [0, 1, 2]
    assert _starts(tmp_path, host=1).claim(lambda number: number + 2) == 2
    assert _starts(tmp_path).has_begun(2)
    assert not _starts(tmp_path).has_begun(3)


def test_a_start_counts_to_its_end_or_where_it_left_none_to_the_next(tmp_path: Path) -> None:
    now = time.time()
    _mark(tmp_path, 0, "started", started=now - 1000)
    _mark(tmp_path, 0, "ended", ended=now - 900)
    _mark(tmp_path, 1, "started", started=now - 500)
    _mark(tmp_path, 2, "started", started=now - 100)
    _mark(tmp_path, 2, "ended", ended=now - 40)
    starts = _starts(tmp_path)
    assert starts.seconds_before(1) == pytest.approx(100, abs=1)
    assert starts.seconds_before(3) == pytest.approx(100 + 400 + 60, abs=1)


def test_marks_that_are_gone_or_no_marks_count_nothing(tmp_path: Path) -> None:
    _mark(tmp_path, 0, "started")
    (tmp_path / "runs" / RUN_ID / "attempts" / "0" / "ended.json").write_text("{")
    assert _starts(tmp_path).seconds_before(2) == 0.0


def _put(root: Path, name: str, what: Any) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what))


def test_a_later_round_tells_what_was_used_before_it(tmp_path: Path) -> None:
    now, run = time.time(), f"runs/{RUN_ID}"
    names = ("l4:spot", "l4", "h100")
    _put(tmp_path, f"{run}/candidates.json", {"candidates": [{"accelerator": n} for n in names]})
    _put(tmp_path, f"{run}/rounds/0/claim.json", {"candidate": 0})
    _put(tmp_path, f"{run}/rounds/0/attempts/0/started.json", {"started": now - 1000})
    _put(tmp_path, f"{run}/rounds/0/attempts/0/ended.json", {"ended": now - 900})
    _put(tmp_path, f"{run}/rounds/1/round.json", {"began": now - 800})
    _put(tmp_path, f"{run}/rounds/1/claim.json", {"candidate": None, "why": "given up"})
    _put(tmp_path, f"{run}/rounds/2/round.json", {"began": now - 700})
    _put(tmp_path, f"{run}/rounds/2/claim.json", {"candidate": 1})
    _put(tmp_path, f"{run}/rounds/2/attempts/0/started.json", {"started": now - 650})
    _put(tmp_path, f"{run}/rounds/3/round.json", {"began": now - 600})
    starts = Starts(DirectoryStore(str(tmp_path)), f"{RUN_ID}/rounds/3", 0)
    told = starts.labels(0, Launched("h100", 3), RUN_ID)
    since = told.pop(SINCE_LABEL)
    assert since == pytest.approx(now, abs=5)
    assert told == {
        "kinetic.seconds.used.0.l4:spot": pytest.approx(100, abs=0.01),
        "kinetic.seconds.used.2.l4": pytest.approx(50, abs=0.01),
    }


def test_rounds_whose_objects_are_no_marks_count_nothing(tmp_path: Path) -> None:
    _put(tmp_path, f"runs/{RUN_ID}/candidates.json", [])
    _put(tmp_path, f"runs/{RUN_ID}/rounds/0/claim.json", {"candidate": 0})
    told = _starts(tmp_path).labels(0, Launched("l4", 1), RUN_ID)
    assert list(told) == [SINCE_LABEL]


def test_what_a_process_is_on_its_job_says_or_its_launch() -> None:
    assert Launched.of({"launch": {"accelerator": "l4"}}, None) == Launched("l4", 0)
    assert Launched.of({"launch": None}, None) == Launched("", 0)
    launch = Launch(3, 1, "h100", moves_on=False)
    assert Launched.of({}, launch) == Launched("h100", 3)


def test_a_page_says_for_how_long_the_chips_were_had(tmp_path: Path) -> None:
    now = time.time()
    _mark(tmp_path, 0, "started", started=now - 7200)
    _mark(tmp_path, 0, "ended", ended=now - 3600)
    starts, chips = _starts(tmp_path), {"KINETIC_DEVICES": "tpu:4"}
    two_hosts = {"hosts": 2, "cost": {"hourly": 20.0, "limit": 50.0}}
    assert starts.on_page(1, two_hosts, chips, lambda: "- memory: 1 GB") == (
        "- 8 chips for 1 h 0 min: 8.00 chip-hours, about \\$20.00 (an estimate)\n\n- memory: 1 GB"
    )
    assert starts.on_page(1, {"hosts": 1}, {}, lambda: "- memory: 1 GB") == "- memory: 1 GB"
    one = {"KINETIC_DEVICES": "gpu:1"}
    assert starts.on_page(0, {"hosts": 1}, one, str).startswith("- 1 chip for 0.")


def test_a_run_that_starts_again_tells_for_how_long_it_had_its_host(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = """
        import os, time
        def main(path):
            if os.path.exists(path):
                return
            open(path, "w").close()
            time.sleep(600)
    """
    marker = tmp_path / "begun"
    launch = {"image": {}, "accelerator": "tpu-v6e-8", "mode": "custom", "options": {}}
    job = Job(
        tmp_path / "store",
        source,
        args=(str(marker),),
        prefect_url=prefect.url,
        changes={"launch": launch},
    )
    began = time.time()
    process = job.start()
    wait_until(marker.exists)
    process.send_signal(signal.SIGTERM)
    assert wait(process).exit_code == 143
    held = time.time() - began
    assert not prefect.labels, "of a first start there is nothing to tell"
    again = time.time()
    assert job.again().exit_code == 0
    assert 0 < prefect.labels["kinetic.seconds.used.0.tpu-v6e-8"] <= held
    assert again <= prefect.labels["kinetic.seconds.since"] <= time.time()
