"""The runs that are compared, by what people call them."""

from __future__ import annotations

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.errors import RunNotFoundError
from kinetic_flows.runs.find import group_for_run, run_id_of
from kinetic_flows.runs.group import is_group
from kinetic_flows.runs.session import Session


def named_run(text: str, session: Session) -> RunRecord:
    """Return the flow run that an id names, which may be short, or a URL.

    Args:
        text: The id or the URL.
        session: Who is asked.

    Raises:
        RunNotFoundError: No run fits, several do, or it is no run of a function.
    """
    record = session.api.read_run(run_id_of(text, session.api))
    if is_group(record):
        raise group_for_run(record.id)
    if not record.function:
        raise RunNotFoundError(
            f"flow run {record.id} is not a run of a remote function",
            value=record.id,
            hint="`kinetic runs ls` lists the runs there are",
        )
    return record
