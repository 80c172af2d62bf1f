"""The way of an editor's debugger to a run that waits for one, opened while a client waits.

What the runner prints tells that it waits, and on which port (`runner_image/runner/debugging.py`);
the port is on the loopback address of the run's host, where only who may reach its pod gets to.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

from kinetic_flows.core.errors import (
    ConfigurationError,
    KineticError,
    LaunchError,
    in_a_sentence,
)
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.job_reading import read_job
from kinetic_flows.core.object_names import job_object
from kinetic_flows.core.progress import Progress
from kinetic_flows.runs.insight.beside import ask_all, live_run
from kinetic_flows.runs.insight.debugger_words import Attachable, editor_words
from kinetic_flows.runs.session import Session

ANSWER_SECONDS = 30.0


def lead_debugger(run: RunTicket, session: Session, progress: Progress, leaving: ExitStack) -> None:
    """Open the way to a run's hosts, and say where it begins; say it, too, where that fails.

    Args:
        run: The run.
        session: Where it is.
        progress: Told where an editor is to go.
        leaving: Closes the way.
    """
    try:
        hosts = _opened(run, session, progress, leaving)
    except KineticError as error:
        progress.notice(f"the way to the debugger is not opened: {in_a_sentence(error)}")
        return
    if hosts:
        root = _root(run, session)
        progress.notice(editor_words(run.function or run.name, hosts, root))


def _opened(
    run: RunTicket, session: Session, progress: Progress, leaving: ExitStack
) -> list[Attachable]:
    record = session.api.read_run(run.run_id)
    live = live_run(session, record)
    told = ask_all(session, record, "debugger", limit_seconds=ANSWER_SECONDS)
    ports = _expected([int(each.told.get("port") or 0) for each in told])

    def forward(host: int, port: int) -> int:
        """Lead the same port of this machine there, else one that is free."""
        for local_port in (port, 0):
            with suppress(ConfigurationError):
                way = live.access.forward(live.key, host, port, local_port, progress.notice)
                return leaving.enter_context(way)
        raise LaunchError(f"no port of this machine can be led to port {port}", value=port)

    return [
        Attachable(host=each.host, port=forward(each.host, port))
        for each, port in zip(told, ports, strict=True)
        if port
    ]


def _root(run: RunTicket, session: Session) -> str:
    """Return the directory of this machine that shipped; empty where that is not known."""
    # One of a list of accelerators has its job elsewhere, and an editor knows its own folder.
    with suppress(KineticError, ValueError):
        job = read_job(session.platform.store.get(job_object(run.run_id)).data)
        return job.template.code.root if job.template.code else ""
    return ""


def _expected(ports: Sequence[int]) -> list[int]:
    """Return the ports of all hosts: one that is not so far yet has that of its place."""
    first = next((port - host for host, port in enumerate(ports) if port), 0)
    return [port or (first and first + host) for host, port in enumerate(ports)]
