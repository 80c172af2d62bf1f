"""Checks of Prefect: whether its API answers here, as which version, and what its clock says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.condition import (
    ApiCondition,
    ask_condition,
    version_difference,
)
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.clocks import clock_finding
from kinetic_flows.core.errors import PrefectServerError
from kinetic_flows.core.findings import Check, Fact, Finding, NotAsked, finding_of
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.runs.session import prefect_api_url

GROUP = "Prefect"
SUBJECT = "Prefect API"


@dataclass(frozen=True, kw_only=True)
class PrefectFacts:
    """What is known of Prefect's API.

    Attributes:
        server: The background server of the home.
        url: Where the API is; None where it is the background server's, which does not run.
        api_url: The same, once it has answered, for what cannot be asked otherwise.
        condition: What the API answers.
    """

    server: BackgroundServer
    url: Fact[str | None]
    api_url: Fact[str]
    condition: Fact[ApiCondition | None]


def prefect_facts(settings: Settings, environ: Mapping[str, str]) -> PrefectFacts:
    """Return what is to be known of Prefect; nothing is asked yet, and nothing started.

    Args:
        settings: The settings, of which the home counts.
        environ: This process's variables.
    """
    server = BackgroundServer(settings.home, environ)

    def ask_url() -> str | None:
        if known_api_url(environ):
            return prefect_api_url(settings, environ, NullProgress())
        record = server.status()
        return record.api_url if record else None

    url = Fact("a Prefect API", ask_url)

    def ask() -> ApiCondition | None:
        found = url.get()
        return ask_condition(found) if found else None

    condition = Fact("an answer of Prefect's", ask)

    def answering_url() -> str:
        found = condition.need()
        if found is None:
            raise NotAsked("a Prefect server")
        return found.url

    return PrefectFacts(
        server=server,
        url=url,
        api_url=Fact("a Prefect server that answers", answering_url),
        condition=condition,
    )


def prefect_checks(facts: PrefectFacts) -> tuple[Check, ...]:
    """Return the checks of Prefect's API."""
    return (
        Check(group=GROUP, subject=SUBJECT, look=lambda: [_api_finding(facts)]),
        Check(group="client", subject="clock against Prefect", look=lambda: _clock(facts)),
    )


def import_check(error: Exception) -> Check:
    """Return the check that tells that Prefect cannot be imported, in place of all others of it.

    Args:
        error: What its import raised.
    """
    said = " ".join(f"{type(error).__name__}: {error}".split())
    text = f"Prefect cannot be imported: {said}; is a PREFECT_ variable or profile wrong?"
    finding = Finding(subject=SUBJECT, level="wrong", text=text)
    return Check(group=GROUP, subject=SUBJECT, look=lambda: [finding])


def _api_finding(facts: PrefectFacts) -> Finding:
    try:
        condition = facts.condition.get()
    except PrefectServerError as error:
        # A connection that is refused; one that hangs is not waited for until it is given up.
        return finding_of(SUBJECT, error)
    if condition is None:
        return _background_finding(facts.server)
    fits, text = version_difference(condition.version)
    if fits:
        return Finding(subject=SUBJECT, level="ok", text=f"{condition.url} answers: {text}")
    record = facts.server.status()
    if record and record.api_url == condition.url:
        text = f"the background server runs {text}; the next call starts it anew"
        return Finding(subject=SUBJECT, level="ok", text=text)
    return Finding(
        subject=SUBJECT,
        level="warning",
        text=f"{condition.url} runs {text}: a server is to be as new as its clients; install it "
        "where the server is, and restart that",
        command=f'pip install "prefect=={version("prefect")}"',
    )


def _background_finding(server: BackgroundServer) -> Finding:
    starting = server.starting()
    if starting:
        return Finding(
            subject=SUBJECT,
            level="ok",
            text=f"the background server is starting (process {starting.process.pid})",
        )
    return Finding(
        subject=SUBJECT,
        level="ok",
        text="the background server does not run; the next call starts it",
    )


def _clock(facts: PrefectFacts) -> Iterable[Finding]:
    condition = facts.condition.need()
    # The background server has this machine's clock.
    return [clock_finding(condition.time)] if condition else []
