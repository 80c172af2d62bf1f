"""What `kinetic runs show` prints: everything there is to know about one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from kinetic_flows.clients.prefect.labels import PLATFORM_LABEL, STORE_LABEL, retry_tag
from kinetic_flows.clients.prefect.records import RunQuery, RunRecord
from kinetic_flows.clients.prefect.state_history import FlowRunHistory, StateRecord
from kinetic_flows.clients.prefect.timings import PHASES
from kinetic_flows.core.display import for_line, for_terminal, labelled
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.moments import ago, local, took
from kinetic_flows.core.run_metrics import is_in_numbers
from kinetic_flows.runs.description import described, outputs_of, outputs_page
from kinetic_flows.runs.group import is_group
from kinetic_flows.runs.insight.metrics import run_metrics
from kinetic_flows.runs.origin_labels import origin_facts
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import store_label, ticket_of
from kinetic_flows.runs.usage_report import usage_document

Row = tuple[str, str]

MAX_HOSTS = 8
"""Of how many hosts it is shown what they have used."""

ENDED_BADLY = ("Crashed", "Failed", "TimedOut")
"""States of runs of which there is something to explain."""

MAX_RUNS = 200
"""How many runs of a group are shown, the newest first."""


def run_document(record: RunRecord, session: Session) -> dict[str, Any]:
    """Return everything about a run as plain JSON values.

    Args:
        record: Its flow run.
        session: Who knows more.
    """
    states = FlowRunHistory(session.api).states(record.id)
    repeats = session.api.find_runs(RunQuery(tag=retry_tag(record.id)))
    is_here = record.labels.get(PLATFORM_LABEL) == session.platform.name
    pages = session.platform.run_pages(ticket_of(record)) if is_here else {}
    page = outputs_page(outputs_of(record))
    below = session.api.find_runs(RunQuery(parent=record.id)) if is_group(record) else []
    of_group = _of_group(record, below, session) if is_group(record) else {}
    counted = below if is_group(record) else [record]
    return {
        **described(record, session.api.run_url(record.id)),
        **of_group,
        "usage": usage_document(counted, session.settings.own_prices),
        "states": [_state(each) for each in states],
        "retried_as": [each.id for each in repeats],
        "metrics": [] if of_group else _metrics(record, session),
        "pages": {**pages, **({"outputs page": page} if page else {})},
        "facts": dict(origin_facts(record.labels)),
    }


def _metrics(record: RunRecord, session: Session) -> list[dict[str, Any]]:
    """Return what each host has used; nothing where that is kept elsewhere, or cannot be read."""
    if record.labels.get(STORE_LABEL) != store_label(session.platform):
        return []
    with suppress(KineticError):
        return [each.summary() for each in run_metrics(session, record).hosts]
    return []


def _of_group(record: RunRecord, runs: Sequence[RunRecord], session: Session) -> dict[str, Any]:
    """Return what there is to say of a group's flow run besides what is said of a run's."""
    told = dict(record.parameters)
    return {
        "function": told.pop("function"),
        "accelerator": told.pop("accelerator", None),
        "arguments": told,
        "runs": [described(each, session.api.run_url(each.id)) for each in runs[:MAX_RUNS]],
    }


def shown(document: Mapping[str, Any], now: datetime | None = None) -> str:
    """Return a run as text.

    Args:
        document: What `run_document` has returned.
        now: What times count from; None for this moment.
    """
    now = now or datetime.now(UTC)
    rows = (
        *_call(document),
        *_times(document, now),
        *_used(document),
        *document["usage"]["words"].items(),
        *_history(document["states"]),
        *((name, str(text)) for name, text in document["facts"].items()),
        *_relations(document),
        *_places(document),
    )
    return labelled((label, for_terminal(text)) for label, text in rows if text)


def _call(document: Mapping[str, Any]) -> Iterator[Row]:
    yield "run", str(document["name"])
    yield "id", str(document["id"])
    message = str(document["message"]).strip()
    state = str(document["state"])
    first, _, more = message.partition("\n")
    yield "state", f"{state}: {first}" if first else state
    yield from (("", line) for line in more.splitlines())
    yield "function", str(document["function"])
    of_group = "runs" in document
    yield from (
        (_words(name), str(value)) if of_group else ("argument", f"{name} = {for_line(str(value))}")
        for name, value in document["arguments"].items()
    )
    yield "runs on", str(document["accelerator"] or "")
    yield "image", str(document["image"] or "")
    if document.get("packages_image"):
        yield "mounted", str(document["packages_image"])
    yield "secrets", str(document["secrets"] or "")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _times(document: Mapping[str, Any], now: datetime) -> Iterator[Row]:
    for name in ("created", "started", "ended"):
        if document[name]:
            moment = datetime.fromisoformat(document[name])
            yield name, f"{local(moment)} ({ago(moment, now)})"
    yield "took", took(document["seconds"])
    parts = [f"{PHASES[phase]} {took(each)}" for phase, each in document["timings"].items()]
    yield "times", ", ".join(parts)


def _used(document: Mapping[str, Any]) -> Iterator[Row]:
    hosts = document["metrics"]
    for number, host in enumerate(hosts[:MAX_HOSTS]):
        which = f"host {host['host']}: " if len(hosts) > 1 else ""
        yield "" if number else "used", f"{which}{host['used']}"
        yield from (("", f"{which}{words}") for words in host["words"] if not is_in_numbers(words))
    if len(hosts) > MAX_HOSTS:
        yield "", f"and {len(hosts) - MAX_HOSTS} more: kinetic runs top {document['id']}"


def _history(states: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for number, state in enumerate(states):
        message = for_line(str(state["message"]).partition("\n")[0])
        text = f"{local(datetime.fromisoformat(state['since']))}  {state['name']}"
        yield "" if number else "history", f"{text}: {message}" if message else text


def _relations(document: Mapping[str, Any]) -> Iterator[Row]:
    if document["group"]:
        yield "group", f"{document['group']} (input {document['input']})"
    yield "retry of", str(document["retry_of"] or "")
    yield "retried as", ", ".join(document["retried_as"])
    yield "value of", str(document["cached_from"] or "")
    yield "deployment", str(document["deployment"] or "")
    yield "tags", ", ".join(document["tags"])


def _places(document: Mapping[str, Any]) -> Iterator[Row]:
    yield "outputs", str(document["outputs"] or "")
    yield "page", str(document["url"])
    yield from document["pages"].items()
    if "runs" in document:
        yield "its runs", f"kinetic runs ls --group {document['id']}"
    else:
        if document["outputs"]:
            yield "its files", f"kinetic runs outputs {document['id']}"
        yield "its output", f"kinetic runs logs {document['id']}"
        if document["state"] in ENDED_BADLY:
            yield "its end", f"kinetic runs why {document['id']}"
        if document["started"] and not document["ended"]:
            yield "what it does", f"kinetic runs stacks {document['id']}"
            yield "a way in", f"kinetic runs shell {document['id']}"


def _state(record: StateRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "type": record.type,
        "message": record.message,
        "since": record.since.isoformat(),
    }
