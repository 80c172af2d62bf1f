"""Why a run ended: a table of rules, of which the first that knows the cause tells it.

Nothing here asks anybody: evidence in, finding out. What outside of a run ended it comes before
what its processes met, since hosts that are left alone fail in many ways; and what somebody has
said comes before what is only likely.
"""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.runs.insight.evidence import Evidence
from kinetic_flows.runs.insight.finding import UNKNOWN, Finding, Rule
from kinetic_flows.runs.insight.outside_causes import (
    disturbed,
    ended_by_cluster,
    lost_host,
    never_launched,
    never_started,
)
from kinetic_flows.runs.insight.process_causes import (
    before_function,
    exited,
    fatal_signal,
    gpu_fault,
    killed,
    out_of_memory,
    raised,
    told_by_output,
)
from kinetic_flows.runs.insight.stack_names import in_words
from kinetic_flows.runs.insight.stuck_causes import (
    deadlock,
    native_hang,
    over_budget,
    stuck_host,
    timed_out,
)

RULES: tuple[Rule, ...] = (
    never_launched,
    disturbed,
    ended_by_cluster,
    never_started,
    gpu_fault,
    out_of_memory,
    over_budget,
    fatal_signal,
    told_by_output,
    lost_host,
    before_function,
    stuck_host,
    native_hang,
    deadlock,
    timed_out,
    killed,
    raised,
    exited,
)
"""In the order in which they are asked."""


def explain(evidence: Evidence) -> Finding:
    """Return why a run ended; what is unknown is called unknown.

    Args:
        evidence: All that is known of its end.
    """
    found = _uneventful(evidence)
    found = found or next((each for rule in RULES if (each := rule(evidence))), None)
    return found or _unknown(evidence)


def _uneventful(evidence: Evidence) -> Finding | None:
    """Say of a run that returned, was cancelled, or is not over, that nothing has gone wrong."""
    if evidence.state_type == "COMPLETED":
        return Finding(cause="returned", sentence="Nothing went wrong: the function returned.")
    if evidence.state_type in ("CANCELLED", "CANCELLING"):
        message = evidence.message.strip().rstrip(".")
        why = f": {message}" if message and message != "cancelled" else ""
        return Finding(cause="cancelled", sentence=f"Somebody cancelled it{why}.")
    if evidence.state_type in ("PENDING", "SCHEDULED", "RUNNING", "PAUSED"):
        return Finding(
            cause="not_over",
            sentence=f"It has not ended: it is {evidence.state}.",
            hint=f"`kinetic runs stacks {evidence.run_id}` shows what it is doing"
            if evidence.state_type == "RUNNING"
            else f"`kinetic runs show {evidence.run_id}` shows what it waits for",
        )
    return None


def _unknown(evidence: Evidence) -> Finding:
    """Say that nobody knows, with what is known."""
    message = evidence.message.strip().rstrip(".")
    missing = [host for host in range(evidence.hosts) if evidence.box(host) is None]
    who = "it" if evidence.hosts == 1 else in_words(missing)
    silent = f"{who} left no black box, as one that is killed does not" if missing else ""
    ends = tuple(
        f"{f'host {end.host}' if evidence.hosts > 1 else end.place}: {end.message}"
        for end in evidence.last_ends.values()
        if end.message
    )
    finding = Finding(
        cause=UNKNOWN,
        sentence="Why it ended is unknown"
        + (f"; all that was said of it is: {message}." if message else "."),
        evidence=(*([silent] if silent else []), *ends),
        hint=f"the last lines of its log are the best lead: `kinetic runs logs {evidence.run_id}`",
        is_certain=False,
    )
    return replace(finding, host=missing[0]) if len(missing) == 1 < evidence.hosts else finding
