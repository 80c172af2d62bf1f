"""Creating a run's flow run, and having its process started."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from kinetic_flows.clients.prefect.api import NewRun
from kinetic_flows.clients.prefect.labels import DISPATCH_LABEL
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.job import RUN_KEY_VARIABLE, RunTicket
from kinetic_flows.runs.cancel import CANCEL_GRACE_SECONDS
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import crash

OnCreated = Callable[[RunTicket], None]


def untold(_: RunTicket) -> None:
    """Tell nobody of a run."""


def create_and_start(
    new: NewRun,
    start: Callable[[RunTicket], None],
    session: Session,
    on_created: OnCreated = untold,
) -> RunTicket:
    """Create a flow run with a key of its own and start what it stands for.

    Args:
        new: The flow run.
        start: Starts the process; when it raises, the flow run has crashed.
        session: Where it runs and reports.
        on_created: Told of the run before it is started.
    """
    run_key = secrets.token_hex(32)
    env = {**(new.job_variables.get("env") or {}), RUN_KEY_VARIABLE: run_key}
    new = replace(new, job_variables={**new.job_variables, "env": env})
    run_id = session.api.create_run(new)
    ticket = RunTicket(
        run_id=run_id,
        name=new.name or new.flow,
        run_key=run_key,
        dispatch="worker" if new.labels.get(DISPATCH_LABEL) == "worker" else "client",
    )
    on_created(ticket)
    try:
        start(ticket)
    except BaseException as error:
        reason = error.message if isinstance(error, KineticError) else repr(error)
        # What interrupted us may have come just after the process had started.
        if ticket.dispatch == "client":
            with suppress(KineticError):
                session.platform.launcher.stop(run_id, CANCEL_GRACE_SECONDS)
        crash(session.api, run_id, f"not launched: {reason}")
        raise
    return ticket
