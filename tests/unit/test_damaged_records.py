"""Records that are damaged are put aside, or are taken for what is not there."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.clients.prefect.records import RunRecord, environment_of
from kinetic_flows.core.envelope import EnvelopeRefused, open_result
from kinetic_flows.core.launcher import Phase
from kinetic_flows.platforms.local.processes import LocalProcesses
from kinetic_flows.runs.ledger import ClientLedger
from kinetic_flows.runs.settle import ticket_of

FLOW_RUN = "01a21a78-7c9c-7afa-8433-d6d59e637b2e"

DAMAGED = (b"", b"{", b'{"pid": 1', b"[]", b"null", b"7", b'{"pid": 1}', b"\xff\xfe")


class Unasked:
    """Stands for an API that nobody is to ask anything."""

    url = "http://127.0.0.1:1/api"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("suffix", [".json", ".owed"])
def test_a_damaged_entry_of_the_ledger_is_put_aside_and_named_once(
    tmp_path: Path, content: bytes, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = tmp_path / f"{FLOW_RUN}{suffix}"
    entry.write_bytes(content)
    (tmp_path / f"of nobody{suffix}").write_text("{}")
    ledger, api = ClientLedger(tmp_path), Unasked()
    for _ in range(2):
        ledger.crash_orphans(api)  # type: ignore[arg-type]
        ledger.send_pending_updates(api)  # type: ignore[arg-type]
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert kept[f"{entry.name}.damaged"] == content
    assert f"of nobody{suffix}.damaged" in kept
    assert len(kept) == len(caplog.records) == 2


def test_an_entry_of_a_client_that_lives_is_left_alone(tmp_path: Path) -> None:
    ledger = ClientLedger(tmp_path)
    with ledger.entered(FLOW_RUN):
        assert ledger.crash_orphans(Unasked()) == 0  # type: ignore[arg-type]
        assert json.loads((tmp_path / f"{FLOW_RUN}.json").read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [*DAMAGED, b'{"pid": "x", "started": "1"}'])
def test_a_damaged_record_of_a_process_is_no_process(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "process.json").write_bytes(content)
    launcher = LocalProcesses(tmp_path, lambda _: Path("python"), {})
    for _ in range(2):
        assert launcher.observe("run").phase is Phase.GONE
    launcher.stop("run", 0.0)
    assert (tmp_path / "run" / "process.json.damaged").read_bytes() == content


@pytest.mark.parametrize("key", ["", "not hexadecimal", "abc", "ü"])
def test_a_damaged_key_refuses_the_result_and_breaks_nothing(key: str) -> None:
    with pytest.raises(EnvelopeRefused):
        open_result(b"kinetic-result-1\nsignature\n{}\nbody", key, "run")


@pytest.mark.parametrize(
    ("env", "read"),
    [
        ({"A": "1"}, {"A": "1"}),
        ([{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}], {"A": "1", "B": None}),
        (None, {}),
        ("A=1", {}),
        ([1, None, {}], {}),
    ],
)
def test_variables_are_read_however_somebody_wrote_them(env: Any, read: Any) -> None:
    assert environment_of({"env": env}) == read


@pytest.mark.parametrize("labels", [{}, {"kinetic.cached-from": 7, "kinetic.function": []}])
@pytest.mark.parametrize("env", [None, [], 7, [{"name": "KINETIC_RUN_KEY", "value": None}]])
def test_a_foreign_run_has_a_ticket_without_a_key(labels: Any, env: Any) -> None:
    record = RunRecord(
        id=FLOW_RUN,
        name="theirs",
        state_type="RUNNING",
        state_name="Running",
        message="",
        created=datetime.now(UTC),
        labels=labels,
        job_variables={"env": env},
    )
    assert ticket_of(record).run_key == ""
