"""Checks of what interrupted and old runs have left, which `kinetic doctor --fix` clears away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from kinetic_flows.clients.prefect.api import connect, short_retries
from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.findings import Check, Fact, Finding, NotAsked
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.cleanup import Expired, find_expired, remove
from kinetic_flows.runs.ledger import ClientLedger
from kinetic_flows.runs.prefect_checks import PrefectFacts
from kinetic_flows.runs.session import Session, session_of

GROUP = "leftovers"
CLEANUP = "kinetic runs cleanup"
RUNS = "runs of long ago"
CLIENTS = "runs of dead clients"
UPDATES = "states for Prefect"


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """Where something may be left.

    Attributes:
        settings: The settings in force.
        environ: This process's variables.
        prefect: What is known of Prefect.
        ledger: Which clients of this machine drive which flow runs.
    """

    settings: Fact[Settings]
    environ: Mapping[str, str]
    prefect: PrefectFacts
    ledger: ClientLedger

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session that sets no states, with an API that is asked once."""
        settings, url = self.settings.need(), self.prefect.api_url.need()
        try:
            platform = choose_platform(settings, self.environ)
        except KineticError as error:
            raise NotAsked("a platform that can be used") from error
        with short_retries(0), connect(url) as api:
            yield session_of(settings, self.environ, NullProgress(), platform, api)


def leftover_checks(place: Leftovers) -> tuple[Check, ...]:
    """Return the checks of what runs have left, wherever they were."""
    return (
        Check(group=GROUP, subject=CLIENTS, look=lambda: [_orphans(place)]),
        Check(group=GROUP, subject=UPDATES, look=lambda: [_updates(place)]),
        Check(group=GROUP, subject=RUNS, look=lambda: [_expired(place)]),
    )


def _orphans(place: Leftovers) -> Finding:
    found = place.ledger.orphans()
    if not found:
        return Finding(subject=CLIENTS, level="ok", text="none")

    def fix() -> str:
        with connect(place.prefect.api_url.need()) as api:
            return f"ended {counted(place.ledger.crash_orphans(api), 'run')} as Crashed"

    return Finding(
        subject=CLIENTS,
        level="warning",
        text=f"{counted(len(found), 'run')} that nobody drives any more; the next call ends them",
        command="kinetic runs ls",
        fix=fix,
    )


def _updates(place: Leftovers) -> Finding:
    waiting = place.ledger.pending_updates()
    if not waiting:
        return Finding(subject=UPDATES, level="ok", text="none waits to be told")

    def fix() -> str:
        with connect(place.prefect.api_url.need()) as api:
            place.ledger.send_pending_updates(api)
        told = len(waiting) - len(place.ledger.pending_updates())
        return f"told Prefect of {told} of {counted(len(waiting), 'state')}"

    return Finding(
        subject=UPDATES,
        level="warning",
        text=f"{counted(len(waiting), 'final state')} could not be told to Prefect; the next call "
        "to the same API tells it",
        command="kinetic runs ls",
        fix=fix,
    )


def _expired(place: Leftovers) -> Finding:
    if place.prefect.url.need() is None and not place.prefect.server.has_run:
        return Finding(subject=RUNS, level="ok", text="nothing has run yet")
    with place.session() as session:
        days = session.settings.retention_days
        expired = find_expired(session, older_than=timedelta(days=days))
    if not expired:
        return Finding(subject=RUNS, level="ok", text=f"nothing is older than {days} days")
    size = sum(each.size_bytes for each in expired)
    return Finding(
        subject=RUNS,
        level="warning",
        text=f"what {counted(len(expired), 'run')} left more than {days} days ago takes "
        f"{size_in_units(size)}",
        command=CLEANUP,
        # In a bucket, runs of others are among them.
        fix=(lambda: _removed(expired, place)) if session.settings.platform == "local" else None,
    )


def _removed(expired: list[Expired], place: Leftovers) -> str:
    with place.session() as session:
        done = list(remove(expired, session))
    freed = sum(each.size_bytes for each in done)
    return f"removed what {counted(len(done), 'run')} left, {size_in_units(freed)}"
