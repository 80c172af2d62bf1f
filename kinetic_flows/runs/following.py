"""A run's lines as they come, read by a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import Full, Queue

from kinetic_flows.clients.prefect.api import short_retries
from kinetic_flows.core.interruption import interruptible
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.streams import PrintedLine
from kinetic_flows.runs.kept_session import KeptSession
from kinetic_flows.runs.leaving import run_goes_on, told_if_left
from kinetic_flows.runs.logs import LogReader

FOLLOWED_BATCHES = 100
"""How many batches of lines wait for whoever follows; further ones stay where they are kept."""


def followed_lines(
    ticket: RunTicket, sessions: KeptSession, tail: int | None
) -> Iterator[PrintedLine]:
    """Yield a run's lines; a thread reads them, so that no session stays open in the caller."""
    lines: Queue[list[PrintedLine] | BaseException | None] = Queue(maxsize=FOLLOWED_BATCHES)
    is_over = threading.Event()
    thread = threading.Thread(
        target=copy_context().run,
        args=(_read_on, ticket, sessions, tail, lines, is_over),
        daemon=True,
    )
    thread.start()
    try:
        while (batch := _next_batch(lines, ticket)) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield from batch
    finally:
        is_over.set()


def _next_batch(
    lines: Queue[list[PrintedLine] | BaseException | None], ticket: RunTicket
) -> list[PrintedLine] | BaseException | None:
    with told_if_left(run_goes_on(ticket.run_id, ticket.name)):
        return lines.get()


def _read_on(
    ticket: RunTicket,
    sessions: KeptSession,
    tail: int | None,
    lines: Queue[list[PrintedLine] | BaseException | None],
    is_over: threading.Event,
) -> None:
    """Put a run's lines, then None, into a queue whose reader may stop reading."""

    def put(item: list[PrintedLine] | BaseException | None) -> None:
        while not is_over.is_set():
            with suppress(Full):
                lines.put(item, timeout=1.0)
                return

    # Whoever stops following a run that prints nothing leaves no thread that waits for it.
    interruptible(is_over)
    try:
        with sessions.session() as session:
            reader = LogReader(ticket, session)
            put(last_lines(reader.available(), tail))
            with short_retries():
                for batch in reader.follow():
                    put(batch)
                    if is_over.is_set():
                        return
        put(None)
    except BaseException as error:  # noqa: BLE001 - the reader raises it
        put(error)


def last_lines(lines: list[PrintedLine], tail: int | None) -> list[PrintedLine]:
    """Return the last lines of some; None for all of them."""
    return lines if tail is None else lines[max(len(lines) - tail, 0) :]
