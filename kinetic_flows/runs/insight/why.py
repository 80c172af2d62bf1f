"""Why a run ended as it did: what its hosts saw last and what its cluster says, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kinetic_flows.clients.prefect.labels import STORE_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import ObjectRefusedError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.process_facts import ProcessFacts, merged
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.insight.black_boxes import (
    ask_for_facts,
    hosts_of,
    read_boxes,
    read_facts,
)
from kinetic_flows.runs.insight.causes import explain
from kinetic_flows.runs.insight.evidence import BlackBox, Evidence
from kinetic_flows.runs.insight.finding import Finding
from kinetic_flows.runs.insight.outside_causes import predicate
from kinetic_flows.runs.insight.stack_names import in_words
from kinetic_flows.runs.results import read_result
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import ticket_of

SAID_LATER = timedelta(hours=1)
"""How long after a run's end its cluster may say more of its nodes; it keeps events as long."""

SHOWN_LINES = 8
SHOWN_NODES = 6
_RUNNER_FRAME = re.compile(r'\s*File "(?:[^"]*/runner\.pyz/[^"]*|<frozen runpy>)", line \d+ in ')
_NOT_BEGUN = ("never_launched", "never_started", "unknown")
UNEVENTFUL = ("returned", "cancelled", "not_over")


@dataclass(frozen=True, kw_only=True, repr=False)
class Explanation:
    """Why a run ended, with what says so.

    As text it is what `kinetic runs why` prints.

    Attributes:
        run_id: The run.
        state: The name of its state.
        cause: The likely cause in one word, for programs; `unknown` where nothing says it.
        sentence: The likely cause and its host, in one sentence.
        host: The host that it befell; None where it is none in particular, or not known.
        is_certain: Whether somebody has said so, else it is only likely.
        evidence: What says so, line by line.
        hint: What to do about it; empty when there is nothing to do.
        unknown: What could not be found out, and why.
    """

    run_id: str
    state: str
    cause: str
    sentence: str
    host: int | None
    is_certain: bool
    evidence: tuple[str, ...]
    hint: str
    unknown: tuple[str, ...]
    _known: Evidence

    def document(self) -> dict[str, Any]:
        """Return it as JSON values, with all that is known."""
        known = self._known
        fields = {
            name: value for name, value in vars(self).items() if name not in ("run_id", "_known")
        }
        return {
            "id": self.run_id,
            **fields,
            "message": known.message,
            "hosts": [_host(known, host) for host in range(known.hosts)],
            "nodes": [asdict(word) for word in known.facts.nodes],
        }

    def __str__(self) -> str:
        # Messages and lines of output may have what a terminal obeys.
        return for_terminal("\n".join(_lines(self, self._known)))

    def __repr__(self) -> str:
        return for_terminal(f"<Explanation {self.cause}: {self.sentence}>")


def why(session: Session, record: RunRecord) -> Explanation:
    """Say why a run ended.

    Args:
        session: Where it ran.
        record: Its flow run.

    Raises:
        StoreError: What it left cannot be read.
    """
    known = evidence_of(session.platform, ticket_of(record), record)
    ended = record.ended
    if known.boxes or known.facts.ends:
        is_fresh = ended is not None and datetime.now(UTC) - ended < SAID_LATER
        later = ask_for_facts(session.platform, ticket_of(record)) if is_fresh else ProcessFacts()
        known = replace(known, facts=merged(known.facts, later))
    return explanation(known)


def explanation(known: Evidence) -> Explanation:
    """Say why a run ended, from all that is known of its end."""
    found = explain(known)
    # Of what the function raised, its traceback tells all.
    is_plain = found.cause in (*UNEVENTFUL, "raised")
    return Explanation(
        run_id=known.run_id,
        state=known.state,
        cause=found.cause,
        sentence=found.sentence,
        host=found.host,
        is_certain=found.is_certain,
        evidence=tuple(each for each in dict.fromkeys(found.evidence) if each),
        hint=found.hint,
        unknown=() if is_plain else (*known.facts.unknown, *_silent(known, found)),
        _known=known,
    )


def evidence_of(platform: Platform, run: RunTicket, record: RunRecord) -> Evidence:
    """Return all that is known of how a run ended.

    Args:
        platform: Where it ran.
        run: The run.
        record: Its flow run.

    Raises:
        StoreError: What it left cannot be read.
    """
    status, exit_code, message = "", None, record.message
    boxes: tuple[BlackBox, ...] = ()
    facts, hosts = ProcessFacts(), 1
    is_launched = STORE_LABEL in record.labels or bool(record.deployment_id)
    if is_launched and record.is_final and record.state_type not in ("COMPLETED", "CANCELLED"):
        try:
            envelope = read_result(platform.store, run)
        except ObjectRefusedError as refusal:
            envelope, message = None, refusal.message
        if envelope is not None:
            header = envelope.header
            status, exit_code = header.status, header.exit_code
            message = header.message or message
        boxes = read_boxes(platform.store, run.run_id)
        kept = read_facts(platform.store, run.run_id)
        facts = ask_for_facts(platform, run) if kept is None else kept
        hosts = max(
            hosts_of(platform.store, run.run_id),
            *(box.host + 1 for box in boxes),
            *(end.host + 1 for end in facts.ends),
            1,
        )
    return Evidence(
        run_id=run.run_id,
        name=run.name,
        hosts=hosts,
        state=record.state_name,
        state_type=record.state_type,
        message=message,
        is_launched=is_launched or not record.is_final,
        status=status,
        exit_code=exit_code,
        boxes=boxes,
        facts=facts,
    )


def _silent(known: Evidence, found: Finding) -> Iterator[str]:
    """Say which hosts left nothing."""
    if not known.boxes and not known.facts.ends and found.cause in _NOT_BEGUN:
        return
    missing = [host for host in range(known.hosts) if known.box(host) is None]
    if missing and (known.boxes or known.hosts == 1):
        who = "the run" if known.hosts == 1 else in_words(missing)
        yield f"what {who} saw last: nothing was left, as nothing is by what is killed at once"


def _host(known: Evidence, host: int) -> dict[str, Any]:
    """Return what is known of one host, as JSON values."""
    box, end = known.box(host), known.last_ends.get(host)
    told = asdict(box) if box else {}
    if box and box.stacks:
        told["stacks"] = box.stacks.document()
    return {
        "host": host,
        "end": asdict(end) if end else None,
        "black_box": told or None,
    }


def _lines(found: Explanation, known: Evidence) -> Iterator[str]:
    yield found.sentence
    if found.hint:
        yield f"  {found.hint}"
    if found.cause in UNEVENTFUL:
        return
    if not found.is_certain and found.cause != "unknown":
        yield "  That is likely, and not certain."
    yield from _section("what says so", found.evidence)
    yield from _section("hosts", tuple(_hosts(known)) if known.hosts > 1 else ())
    nodes = [
        f"{_when(word.at)}{word.node}: {word.text}"
        for word in known.facts.nodes
        if not any(word.text in line for line in found.evidence)
    ]
    yield from _section("nodes", tuple(nodes[-SHOWN_NODES:]))
    box = known.box(found.host or 0) or next(iter(known.boxes), None)
    if box is not None:
        of_host = f" of host {box.host}" if known.hosts > 1 else ""
        yield from _section(f"last lines{of_host}", _own_lines(box.lines)[-SHOWN_LINES:])
    yield from _section("unknown", found.unknown)


def _own_lines(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the frames below the function's own in what Python says of a fatal error."""
    return tuple(line for line in lines if not _RUNNER_FRAME.match(line))


def _section(title: str, lines: tuple[str, ...]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)


def _hosts(known: Evidence) -> Iterator[str]:
    """Say how each host ended; those that ended alike at once."""
    alike: dict[str, list[int]] = {}
    for host in range(known.hosts):
        box, end = known.box(host), known.last_ends.get(host)
        ended = f"its pod {predicate(end.message)}" if end and end.message and end.node else ""
        ended = ended or (end.message if end else "")
        own = f"{box.status.replace('_', ' ')}: {box.message}" if box and box.message else ""
        text = "; ".join(filter(None, (own, ended))) or "nothing is known"
        alike.setdefault(text, []).append(host)
    return (f"{in_words(hosts)}: {text}" for text, hosts in alike.items())


def _when(at: str) -> str:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return ""
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC, "
