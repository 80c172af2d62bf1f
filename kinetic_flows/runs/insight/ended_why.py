"""Why a run ended, on its page in Prefect and in the error that tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core import markdown
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.run_page import WHY_IT_ENDED
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.insight.ended_run import EndedRun
from kinetic_flows.runs.insight.why import UNEVENTFUL, Explanation, evidence_of, explanation

SHOWN = 8
"""How many lines of evidence a page shows."""

TOLD_BY_ITSELF = frozenset(
    {
        "out_of_memory",
        "host_lost",
        "exited",
        "killed",
        "not_called",
        "never_started",
        "raised",
        "unknown",
    }
    | {"timed_out", "over_budget", "deadline", "out_of_disk", "chips_idle", *UNEVENTFUL}
)
"""Causes that a run's message says already, or that add nothing to it."""

_BEGIN_WITH_MESSAGE = ("too_slow", "waiting")
"""Causes whose sentence repeats the message, before what was seen."""


def why_it_ended(ended: EndedRun) -> Mapping[str, str]:
    """Return the section of a run's page that says why it ended; none where nothing went wrong.

    Args:
        ended: The run, whose final state is set.

    Raises:
        KineticError: Prefect or the store cannot be asked.
    """
    if ended.header is not None and ended.header.status in ("returned", "cancelled"):
        return {}
    return {WHY_IT_ENDED: shown_on_page(_explained(ended.platform, ended.api, ended.run))}


def told_in_error(platform: Platform, api: PrefectApi, run: RunTicket) -> str:
    """Return the likely cause of a run's end where it is more than its message says; else empty.

    Args:
        platform: Where the run was.
        api: Where its state is kept.
        run: The run.
    """
    with suppress(KineticError):
        found = _explained(platform, api, run)
        if found.cause in TOLD_BY_ITSELF:
            return ""
        sentence = found.sentence.rstrip(".")
        if found.cause in _BEGIN_WITH_MESSAGE:
            sentence = sentence.partition("; ")[2] or sentence
        return f"{sentence[:1].upper()}{sentence[1:]}"
    return ""


def _explained(platform: Platform, api: PrefectApi, run: RunTicket) -> Explanation:
    return explanation(evidence_of(platform, run, api.read_run(run.run_id)))


def shown_on_page(found: Explanation) -> str:
    """Return why a run ended, as Markdown."""
    likely = "" if found.is_certain or found.cause == "unknown" else " That is likely, not certain."
    hint = f"\n\n{markdown.text(found.hint)}" if found.hint else ""
    lines = [f"- {markdown.code(each[:300])}" for each in found.evidence[:SHOWN]]
    lines += [f"- unknown: {markdown.text(each)}" for each in found.unknown]
    listed = "\n\n" + "\n".join(lines) if lines else ""
    command = markdown.code(f"kinetic runs why {found.run_id}")
    return f"{markdown.text(found.sentence)}{likely}{hint}{listed}\n\n{command} tells more."
