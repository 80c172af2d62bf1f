"""What the hosts of a run use: asked of those that live, else read from the store."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import KineticError, ObjectNotFoundError, in_a_sentence
from kinetic_flows.core.object_names import METRICS, run_objects
from kinetic_flows.core.run_metrics import HostMetrics, RunMetrics, read_metrics
from kinetic_flows.core.run_page import WHAT_IT_USED
from kinetic_flows.runs.insight.beside import ask_all
from kinetic_flows.runs.insight.ended_run import EndedRun
from kinetic_flows.runs.session import Session

COMMAND = "metrics"
"""As `runner_image/runner/beside.py` has it."""

ASK_SECONDS = 10.0
"""How long a host may take to say what it uses."""

JUST_ENDED_SECONDS = 5.0
LAST_SECONDS = 2.0
"""For how long after a run's end its last readings may still be on their way; how long they are
waited for."""

LOOK_SECONDS = 0.2

NOTHING_YET = "nothing is read of it yet"

_OBJECT = re.compile(rf"(?:rounds/(?P<round>[0-9]+)/)?{METRICS}host-(?P<host>[0-9]+)\.json")


def run_metrics(session: Session, record: RunRecord) -> RunMetrics:
    """Return what a run's hosts have used.

    Args:
        session: Where the run is.
        record: Its flow run.

    Raises:
        KineticError: The store cannot be read.
    """
    live, missing = _live(session, record)
    hosts = {each.host: each for each in _stored(session.platform.store, record)}
    hosts.update(live)
    return RunMetrics(
        name=record.shown_name,
        hosts=tuple(hosts[number] for number in sorted(hosts)),
        missing={number: why for number, why in missing.items() if number not in hosts},
    )


def _live(
    session: Session, record: RunRecord
) -> tuple[Mapping[int, HostMetrics], Mapping[int, str]]:
    """Return what hosts say that live, and why others do not."""
    if record.is_final:
        return {}, {}
    try:
        answers = ask_all(session, record, COMMAND, limit_seconds=ASK_SECONDS)
    except KineticError as error:
        # What was stored of it is there in any case.
        return {}, {0: in_a_sentence(error)}
    found = {each.host: _read(each.told) for each in answers if each.told.get("readings")}
    missing = {each.host: each.why_not or NOTHING_YET for each in answers}
    return {number: host for number, host in found.items() if host is not None}, missing


def _stored(store: ArtifactStore, record: RunRecord) -> list[HostMetrics]:
    """Return what was stored, a moment after the end where that is still to come."""
    found = stored_metrics(store, record.id)
    ended = record.ended if record.is_final else None
    if ended is None or (datetime.now(UTC) - ended).total_seconds() > JUST_ENDED_SECONDS:
        return found
    until = time.monotonic() + LAST_SECONDS
    while time.monotonic() < until and not all(each.has_ended for each in found):
        time.sleep(LOOK_SECONDS)
        found = stored_metrics(store, record.id)
    return found


def stored_metrics(store: ArtifactStore, run_id: str) -> list[HostMetrics]:
    """Return what a run's hosts have stored; of a list of accelerators, those of the last one.

    Args:
        store: Where it is.
        run_id: The run.

    Raises:
        StoreError: It cannot be read.
    """
    prefix = run_objects(run_id)
    named = [
        (item.name, _OBJECT.fullmatch(item.name[len(prefix) :])) for item in store.list(prefix)
    ]
    rounds = [(int(match["round"] or 0), name) for name, match in named if match]
    last = max((number for number, _ in rounds), default=0)
    return _documents(store, (name for number, name in rounds if number == last))


def _documents(store: ArtifactStore, names: Iterable[str]) -> list[HostMetrics]:
    found = []
    for name in names:
        with suppress(ObjectNotFoundError, ValueError):
            found.append(read_metrics(json.loads(store.get(name).data)))
    return found


def _read(document: Mapping[str, object]) -> HostMetrics | None:
    with suppress(ValueError):
        return read_metrics(document)
    return None


def what_it_used(ended: EndedRun) -> Mapping[str, str]:
    """Return the section of a run's page that says what it used, where its runner could not.

    Args:
        ended: The run.

    Raises:
        StoreError: What it has stored cannot be read.
    """
    import base64

    hosts = stored_metrics(ended.platform.store, ended.run.run_id)
    parts = []
    for host in sorted(hosts, key=lambda each: each.host)[:MOST_PICTURES]:
        parts += [f"Host {host.host}, counted from 0:"] if len(hosts) > 1 else []
        parts += ["\n".join(f"- {each}" for each in host.words)]
        if host.picture:
            data = base64.b64encode(host.picture.encode()).decode()
            parts.append(f"![What the run used, over time](data:image/svg+xml;base64,{data})")
    return {WHAT_IT_USED: "\n\n".join(part for part in parts if part)} if parts else {}


MOST_PICTURES = 4
"""Of how many hosts a page says it; `kinetic runs top` has all."""
