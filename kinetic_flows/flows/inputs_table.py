"""The table of a group's inputs, states and durations, as Prefect shows it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_table_artifact

from kinetic_flows.clients.prefect.flow_names import INPUTS_ARTIFACT
from kinetic_flows.core.display import for_markdown
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.runs.group import MapItem
from kinetic_flows.runs.session import Session

MAX_ROWS = 1000


def publish_inputs(items: Sequence[MapItem], session: Session) -> None:
    """Show a group's inputs on the flow run that is being driven, those that failed first."""
    if not items:
        return
    ordered = sorted(items, key=lambda item: (not item.has_failed, item.index))
    left_out = len(ordered) - MAX_ROWS
    create_table_artifact(
        key=INPUTS_ARTIFACT,
        table=[_row(item, session) for item in ordered[:MAX_ROWS]],
        description=f"{len(items)} inputs"
        + (f", of which {left_out} are left out here" if left_out > 0 else ""),
    )


def _row(item: MapItem, session: Session) -> dict[str, str | int]:
    run_id = item.ticket.run_id if item.ticket else ""
    seconds = "" if item.seconds is None else f"{item.seconds:.1f}"
    return {
        "input": item.index,
        # Prefect shows cells as Markdown, and these texts are whatever somebody passed or raised.
        "arguments": for_markdown(item.arguments),
        "state": item.state,
        "seconds": seconds,
        "runs": item.tries,
        "run": f"[{short_id(run_id)}]({session.api.run_url(run_id)})"
        if run_id
        else for_markdown(str(item.error)),
    }
