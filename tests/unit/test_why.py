"""What is read of a run's end from the store and from where it ran."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kinetic_flows.clients.prefect.labels import STORE_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.object_names import facts_object, job_object, result_object
from kinetic_flows.core.process_facts import ProcessEnd, ProcessFacts
from kinetic_flows.core.processes import start_detached
from kinetic_flows.platforms.local.hosts import HostFiles
from kinetic_flows.platforms.local.platform import LocalPlatform
from kinetic_flows.platforms.local.process_facts import read_facts as local_facts
from kinetic_flows.runs.insight.black_boxes import keep_facts, read_boxes, read_facts
from kinetic_flows.runs.insight.why import evidence_of, explanation
from runner_jobs import wait_until

RUN = RunTicket(run_id="0d2c6c69-23b8-432c-96c1-90dc74d0f11a", name="train", run_key="5e" * 32)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
CRASHED = RunRecord(
    id=RUN.run_id,
    name="train",
    state_type="CRASHED",
    state_name="Crashed",
    message="it is gone",
    created=NOW - timedelta(hours=1),
    started=NOW - timedelta(minutes=30),
    ended=NOW,
    labels={STORE_LABEL: "here"},
)


@pytest.fixture
def platform(tmp_path: Path) -> LocalPlatform:
    return LocalPlatform(tmp_path, {})


def put_box(platform: LocalPlatform, place: str, host: int) -> None:
    data = json.dumps({"host": host, "run_id": RUN.run_id, "message": place}).encode()
    name = f"runs/{RUN.run_id}/{place}black-box/host-{host}.json"
    assert platform.store.put_if_absent(name, data)


def test_a_result_that_is_not_genuine_is_told_and_hides_nothing_else(platform):
    platform.store.put_if_absent(result_object(RUN.run_id), b"somebody else's")
    put_box(platform, "", 0)
    known = evidence_of(platform, RUN, CRASHED)
    assert "is refused" in known.message
    assert [box.host for box in known.boxes] == [0]
    assert "is refused" in explanation(known).sentence


def test_of_a_list_of_accelerators_the_boxes_of_the_last_round_count(platform):
    for place in ("", "rounds/2/", "rounds/10/"):
        put_box(platform, place, 0)
    put_box(platform, "rounds/10/", 1)
    found = read_boxes(platform.store, RUN.run_id)
    assert [(box.host, box.message) for box in found] == [(0, "rounds/10/"), (1, "rounds/10/")]


def test_hosts_are_counted_as_the_job_says_though_some_left_nothing(platform):
    platform.store.put_if_absent(job_object(RUN.run_id), b'{"hosts": 3}')
    put_box(platform, "", 0)
    found = explanation(evidence_of(platform, RUN, CRASHED))
    assert len(found.document()["hosts"]) == 3
    assert "what hosts 1, 2 saw last: nothing was left" in str(found)


def test_what_a_cluster_said_is_read_as_it_was_kept(platform):
    assert read_facts(platform.store, RUN.run_id) is None
    facts = ProcessFacts(ends=(ProcessEnd(host=1, place="p", cause="node_lost", message="gone"),))
    data = json.dumps(facts.document()).encode()
    platform.store.put_if_absent(facts_object(RUN.run_id), data)
    assert read_facts(platform.store, RUN.run_id) == facts
    assert evidence_of(platform, RUN, CRASHED).hosts == 2
    assert not keep_facts(platform, RUN), "what was kept stays"


def test_of_a_run_of_which_nobody_knows_a_process_nothing_is_kept(platform):
    assert not keep_facts(platform, RUN)
    assert read_facts(platform.store, RUN.run_id) is None


def test_a_process_of_this_machine_tells_how_it_ended(tmp_path):
    of_host = HostFiles.of(tmp_path, 2)
    command = ["/bin/sh", "-c", "kill -9 $$"]
    process = start_detached(command, environment={}, log_file=of_host.log, life_file=of_host.life)
    wait_until(lambda: not process.is_alive())
    [end] = local_facts([(of_host, process)]).ends
    assert (end.host, end.exit_code, end.is_alive) == (2, -9, False)
    assert end.message == "its process was killed by SIGKILL"


def test_a_run_that_failed_before_it_was_launched_is_asked_about_nowhere(platform):
    put_box(platform, "", 0)
    failed = replace(CRASHED, state_type="FAILED", state_name="Failed", labels={})
    known = evidence_of(platform, RUN, failed)
    assert not known.boxes
    assert explanation(known).sentence == "It was never launched: it is gone."


def test_as_text_it_orders_a_terminal_nothing(platform):
    failed = replace(CRASHED, labels={}, message="it was \x1b]0;renamed\x07")
    found = explanation(evidence_of(platform, RUN, failed))
    assert "renamed" in found.sentence
    for text in (str(found), repr(found)):
        assert "renamed" in text
        assert not {"\x1b", "\x07"} & set(text)
