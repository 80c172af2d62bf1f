"""Everything that a run depends on, asked all at once: what `kinetic doctor` shows.

Each check has a thread of its own, a deadline, and all together less than ten seconds, where
importing Prefect is not slow by itself. What could not be asked until then is unknown; nobody waits
for it any longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field

from kinetic_flows.clients.deadlines import DeadlineExceeded, call_with_deadline
from kinetic_flows.clients.prefect.access import import_whole
from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.errors import ConfigurationError, KineticError, PrefectServerError
from kinetic_flows.core.findings import CHECK_SECONDS, Check, Fact, Finding, NotAsked, finding_of
from kinetic_flows.core.other_loggers import hold_back
from kinetic_flows.core.settings.settings import Settings, load_settings, resolve_settings
from kinetic_flows.platforms.checking import Surroundings
from kinetic_flows.platforms.choose import platform_checks
from kinetic_flows.runs.client_checks import client_checks
from kinetic_flows.runs.ledger import ClientLedger
from kinetic_flows.runs.leftovers import Leftovers, leftover_checks
from kinetic_flows.runs.prefect_checks import (
    PrefectFacts,
    import_check,
    prefect_checks,
    prefect_facts,
)

SETTINGS_SECONDS = 3.5
"""How long a saved profile is waited for, without which nobody knows which cluster is meant, and
how long those have at least who are asked when it is known."""

CLOSE_SECONDS = 1.0
REMOVAL_SECONDS = 10.0
"""How long closing may take, and where a pod may have to be removed first."""

GROUPS = ("client", "credentials", "Google Cloud", "cluster", "namespace", "Prefect", "leftovers")
"""The headings, in the order in which they are shown."""

SETTINGS = "settings"


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A finding.

    Attributes:
        group: The heading that it stands under.
        finding: What was found.
        hangs: Whether its check goes on, and has not answered in time.
    """

    group: str
    finding: Finding
    hangs: bool = False


@dataclass(kw_only=True)
class _Asked:
    """A check that is being made in a thread of its own."""

    check: Check
    until: float
    is_over: threading.Event = field(default_factory=threading.Event)
    findings: list[Finding] = field(default_factory=list)

    def start(self) -> None:
        """Begin to ask."""
        # A daemon: what hangs is left behind, and ends with the process.
        run = copy_context().run
        name = f"kinetic-doctor-{self.check.subject}"
        threading.Thread(target=run, args=(self._look,), name=name, daemon=True).start()

    def result(self) -> list[Finding]:
        """Return what was found until its time was over."""
        if self.is_over.wait(max(self.until - time.monotonic(), 0.0)):
            return self.findings
        text = "no answer in time; what it asks may be slow, or out of reach from here"
        return [Finding(subject=self.check.subject, level="unknown", text=text)]

    def _look(self) -> None:
        subject = self.check.subject
        try:
            self.findings = list(self.check.look())
        except KineticError as error:
            self.findings = [finding_of(subject, error, "unknown")]
        except NotAsked as error:
            self.findings = [Finding(subject=subject, level="unknown", text=str(error))]
        except Exception as error:  # noqa: BLE001 - the other checks are told all the same
            text = f"it could not be looked at: {type(error).__name__}: {error}"
            self.findings = [Finding(subject=subject, level="unknown", text=text)]
        finally:
            self.is_over.set()


def examine(
    environ: Mapping[str, str], *, probe: bool = False, seconds: float = CHECK_SECONDS
) -> Generator[Examined]:
    """Ask everything at once, and yield what is found, in an order that is always the same.

    Nothing is changed, and no Prefect server is started. Closing it before its end removes what a
    probe has started.

    Args:
        environ: This process's variables.
        probe: Whether a pod is started in the cluster that asks for Prefect from there, and is
            removed afterwards.
        seconds: How long checks may take that do not say so themselves.
    """
    local, mistake = _local_settings(environ)
    prefect = prefect_facts(local, environ)
    settings = Fact("settings", lambda: _settings(local, mistake, environ, prefect))
    leftovers = Leftovers(
        settings=settings,
        environ=environ,
        prefect=prefect,
        ledger=ClientLedger(local.home / "clients"),
    )
    own = Check(group="client", subject=SETTINGS, look=lambda: [_settings_finding(settings)])
    asked = _start(client_checks(local.home, environ), time.monotonic() + seconds)
    of_prefect = prefect_checks(prefect)
    try:
        import_whole()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong
        of_prefect = (import_check(error),)
    # Its import sets up logging, which shows everything until it is told not to.
    hold_back()
    # What that took on a busy machine is not taken from the time of those who are asked.
    until = time.monotonic() + seconds
    asked += _start((own, *of_prefect, *leftover_checks(leftovers)), until)
    patience = min(SETTINGS_SECONDS, until - time.monotonic())
    surroundings = _surroundings(settings, environ, prefect, probes=probe, patience=patience)
    try:
        if surroundings is not None:
            until = max(until, time.monotonic() + min(seconds, SETTINGS_SECONDS))
            asked += _start(platform_checks(surroundings), until)
        for each in sorted(asked, key=lambda each: GROUPS.index(each.check.group)):
            for finding in each.result():
                hangs = not each.is_over.is_set()
                yield Examined(group=each.check.group, finding=finding, hangs=hangs)
    finally:
        if surroundings is not None:
            _close(surroundings)


def _start(checks: Iterable[Check], until: float) -> list[_Asked]:
    asked = []
    for check in checks:
        own = time.monotonic() + check.seconds if check.seconds else until
        each = _Asked(check=check, until=own)
        each.start()
        asked.append(each)
    return asked


def _surroundings(
    settings: Fact[Settings],
    environ: Mapping[str, str],
    prefect: PrefectFacts,
    *,
    probes: bool,
    patience: float,
) -> Surroundings | None:
    """Return what is known for the platform's checks; None where no platform is known."""
    try:
        found = call_with_deadline(settings.get, patience)
    except Exception:  # noqa: BLE001 - the check of the settings tells of it
        return None
    return Surroundings(settings=found, environ=environ, api_url=prefect.api_url, probes=probes)


def _close(surroundings: Surroundings) -> None:
    """Close connections, those too that hang; what cannot be closed ends with the process."""
    with suppress(DeadlineExceeded, TimeoutError):
        seconds = REMOVAL_SECONDS if surroundings.probes else CLOSE_SECONDS
        call_with_deadline(surroundings.at_end.close, seconds)


def _local_settings(environ: Mapping[str, str]) -> tuple[Settings, KineticError | None]:
    """Return the settings without a profile's, and what is wrong with them; then but the home's."""
    try:
        return local_settings(environ), None
    except KineticError as error:
        mistake = error
    home = {name: value for name, value in environ.items() if name == "KINETIC_HOME"}
    try:
        return load_settings(home), mistake
    except KineticError:
        return load_settings({}), mistake


def _settings(
    local: Settings,
    mistake: KineticError | None,
    environ: Mapping[str, str],
    prefect: PrefectFacts,
) -> Settings:
    if mistake is not None:
        raise mistake

    def ask() -> str | None:
        url = prefect.url.get()
        if url is None and prefect.server.has_run:
            raise PrefectServerError(
                "the background Prefect server, which keeps the profiles, does not run",
                value=local.profile,
                hint="`kinetic server start` starts it",
            )
        return url

    return resolve_settings(local, SavedProfiles(ask), environ=environ)


def _settings_finding(settings: Fact[Settings]) -> Finding:
    try:
        found = settings.get()
    except ConfigurationError as error:
        return finding_of(SETTINGS, error)
    if found.cloud is None:
        return Finding(subject=SETTINGS, level="ok", text="functions run on this machine")
    where = f"cluster {found.cloud.cluster} in {found.cloud.zone}, project {found.cloud.project}"
    by = f", by profile {found.profile}" if found.profile else ""
    return Finding(subject=SETTINGS, level="ok", text=f"{where}{by}")
