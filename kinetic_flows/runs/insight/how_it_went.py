"""How a run went, as its page says it where its client tells of its end."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.clients.prefect.timings import PHASES, timings_of
from kinetic_flows.core import markdown
from kinetic_flows.core.moments import elapsed
from kinetic_flows.core.run_page import HOW_IT_WENT
from kinetic_flows.runs.insight.ended_run import EndedRun

MESSAGE_CHARACTERS = 400
"""How much of a state's message is shown, as `runner_image/runner/course.py` has it."""


def how_it_went(ended: EndedRun) -> Mapping[str, str]:
    """Return the section that says how a run went, from its flow run.

    Args:
        ended: The run, whose final state is set.

    Raises:
        KineticError: Prefect cannot be asked.
    """
    record = ended.api.read_run(ended.run.run_id)
    restarts = ended.header.attempt if ended.header else 0
    rows = [
        ("ended", _ending(record, f"run {ended.run.run_id} of {ended.run.name} crashed: ")),
        ("took", markdown.text(_times(record))),
        ("began", _began(record)),
        ("restarts", str(restarts) if restarts else ""),
    ]
    return {HOW_IT_WENT: markdown.table(rows)}


def _ending(record: RunRecord, which: str) -> str:
    message = record.message.strip().partition("\n")[0].removeprefix(which)
    message = markdown.shortened(message, MESSAGE_CHARACTERS)
    return f"**{record.state_name}**" + (f": {markdown.text(message)}" if message else "")


def _times(record: RunRecord) -> str:
    timings = timings_of(record)
    return ", ".join(f"{PHASES[phase]} {elapsed(seconds)}" for phase, seconds in timings.items())


def _began(record: RunRecord) -> str:
    return f"{record.started:%Y-%m-%d %H:%M:%S} UTC" if record.started else ""
