"""The table of a group's inputs, states and durations, as Prefect shows it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_table_artifact

from kinetic_flows.core.display import for_markdown
from kinetic_flows.core.naming import INPUTS_ARTIFACT
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.runs.group import Member
from kinetic_flows.runs.session import Session

MAX_ROWS = 1000


def publish_inputs(members: Sequence[Member], session: Session) -> None:
    """Show a group's inputs on the flow run that is being driven, those that failed first."""
    if not members:
        return
    ordered = sorted(members, key=lambda member: (not member.has_failed, member.index))
    left_out = len(ordered) - MAX_ROWS
    create_table_artifact(
        key=INPUTS_ARTIFACT,
        table=[_row(member, session) for member in ordered[:MAX_ROWS]],
        description=f"{len(members)} inputs"
        + (f", of which {left_out} are left out here" if left_out > 0 else ""),
    )


def _row(member: Member, session: Session) -> dict[str, str | int]:
    run_id = member.ticket.run_id if member.ticket else ""
    seconds = "" if member.seconds is None else f"{member.seconds:.1f}"
    return {
        "input": member.index,
        # Prefect shows cells as Markdown, and these texts are whatever somebody passed or raised.
        "arguments": for_markdown(member.arguments),
        "state": member.state,
        "seconds": seconds,
        "runs": member.tries,
        "run": f"[{short_id(run_id)}]({session.api.run_url(run_id)})"
        if run_id
        else for_markdown(str(member.error)),
    }
