"""A session: the platform to run on and the Prefect API to report to, opened together."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.api import PrefectApi, connect
from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.clients.prefect.server_access import remember_access
from kinetic_flows.clients.prefect.work_pools import WorkPools, no_work_pool
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.home import usable_home
from kinetic_flows.core.progress import Progress, ProgressMode
from kinetic_flows.core.settings.settings import (
    Settings,
    load_settings,
    process_environment,
    resolve_settings,
    unknown_settings,
)
from kinetic_flows.core.settings.variables import tell_once
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.plans.outputs import outputs_root
from kinetic_flows.platforms.base import Platform
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.cluster_server import open_way
from kinetic_flows.runs.ledger import ClientLedger
from kinetic_flows.runs.reconcile import reconcile

STEP_SERVER = "start-server"

_reconciled: set[tuple[str, str]] = set()
_reconciled_lock = threading.Lock()
_told_without_pool: set[tuple[str, str]] = set()


class ApiAvailability:
    """Whether the Prefect API of a session answers; runs go on while it does not.

    Args:
        progress: Told when the API is away for the first time.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._has_told = False
        self.is_away = False

    def failed(self, error: KineticError) -> None:
        """Take note that the API could not be told or asked something."""
        self.is_away = True
        if not self._has_told:
            self._has_told = True
            self._progress.warning(
                f"{error.message}; runs go on without it, their results are kept in the store, and "
                "their states are set when somebody looks again (`kinetic runs ls`)"
            )

    def answered(self) -> None:
        """Take note that the API has answered."""
        self.is_away = False


@dataclass(frozen=True, kw_only=True)
class Session:
    """What every operation on runs needs: settings, platform and Prefect API.

    Attributes:
        settings: The settings it was opened with.
        environ: This process's variables.
        platform: Where functions run.
        api: The Prefect API, current in this thread while the session is open.
        ledger: Which clients drive which parent flow runs.
        progress: Told what happens.
    """

    settings: Settings
    environ: Mapping[str, str]
    platform: Platform
    api: PrefectApi
    ledger: ClientLedger
    progress: Progress

    @cached_property
    def api_availability(self) -> ApiAvailability:
        """Whether the Prefect API answers."""
        return ApiAvailability(self.progress)

    def api_retries(self, retries: int) -> int:
        """Return how often to ask the Prefect API again: never where its server has died.

        Args:
            retries: How often to ask a server again that may come back.
        """
        return 0 if BackgroundServer(self.settings.home, {}).has_died(self.api.url) else retries

    @cached_property
    def runs_report(self) -> bool | None:
        """Whether the processes of runs can reach the Prefect API themselves; None: perhaps."""
        return self.platform.launcher.reaches(self.platform.api_for_runs(self.api.url))

    @property
    def outputs_root(self) -> str:
        """Where each run has a directory for its outputs: a path where the store is a directory.

        Raises:
            ConfigurationError: The outputs of runs on this machine were to go to a URI.
        """
        return outputs_root(self.settings, self.platform)

    @property
    def work_pool(self) -> str | None:
        """The work pool that runs are shown on; None where there is none."""
        pool = self.platform.launch_pool
        return pool.name if pool and self.base_job_template is not None else None

    @cached_property
    def base_job_template(self) -> Mapping[str, Any] | None:
        """The work pool's base job template, read once; None for the one that ships.

        Raises:
            PrefectServerError: The work pool is of another type, or Prefect does not answer.
        """
        pool = self.platform.launch_pool
        if pool is None:
            return None
        template = WorkPools(self.api.url).read_template(pool.name, pool.type)
        where = (self.api.url, pool.name)
        # A run that a worker starts makes the work pool.
        is_needed = self.platform.has_preflight and where not in _told_without_pool
        if template is None and is_needed:
            _told_without_pool.add(where)
            self.progress.notice(no_work_pool(pool.name))
        return template


def configure(
    settings: Settings,
    environ: Mapping[str, str],
    progress: Progress,
    arguments: Mapping[str, str] | None = None,
    *,
    may_start: bool = True,
    directory: Path | None = None,
) -> Settings:
    """Return the settings in force.

    Prefect is asked only when a profile is named, or may be: by `KINETIC_PROFILE` or `cluster`.
    What is misspelt is told on the terminal, also by what shows no progress.

    Args:
        settings: What the environment alone decides.
        environ: This process's variables.
        progress: Told when a background Prefect server has to be started.
        arguments: What the decorator says of Google Cloud, by option.
        may_start: Whether a background server may be started to ask it for profiles that it
            cannot have, because none has ever run.
        directory: Where the function's file is, whose project's `pyproject.toml` counts; None
            for the last function's, or else the working directory.

    Raises:
        ConfigurationError: A value cannot be, a profile does not exist, or no project is known.
        PrefectServerError: A profile is named and Prefect cannot be asked for it.
    """
    if not settings.inside_run:
        _tell_of_unknown(environ, settings.progress)
    settings = local_settings(environ, directory)

    def ask() -> str | None:
        server = BackgroundServer(settings.home, environ)
        is_needed = may_start or server.has_run or known_api_url(environ)
        return prefect_api_url(settings, environ, progress) if is_needed else None

    profiles = SavedProfiles(ask)
    return resolve_settings(settings, profiles, environ=environ, arguments=arguments)


@contextmanager
def own_session(progress: Progress) -> Iterator[Session]:
    """Open a session with this process's settings.

    Args:
        progress: Told when a background server has to be started.
    """
    environ = process_environment()
    with usable_home():
        settings = configure(load_settings(environ), environ, progress)
        with open_session(settings, environ, progress) as session:
            yield session


@contextmanager
def open_session(
    settings: Settings,
    environ: Mapping[str, str],
    progress: Progress,
    platform: Platform | None = None,
) -> Iterator[Session]:
    """Open a session, starting the background Prefect server when no API is configured.

    The first session of a process also sets the states that dead clients and runs left behind.
    """
    platform = platform or choose_platform(settings, environ)
    with connect_session(settings, environ, progress, platform) as session:
        begin_session(session)
        yield session


def begin_session(session: Session) -> None:
    """Bring up to date what could not be told before, and once what others left behind."""
    session.ledger.send_pending_updates(session.api)
    if _is_first(session.platform.store.uri, session.api.url):
        session.ledger.crash_orphans(session.api)
        reconcile(session.platform, session.api)


@contextmanager
def connect_session(
    settings: Settings, environ: Mapping[str, str], progress: Progress, platform: Platform
) -> Iterator[Session]:
    """Open a session and set no states."""
    with connect(prefect_api_url(settings, environ, progress)) as api:
        yield session_of(settings, environ, progress, platform, api)


def session_of(
    settings: Settings,
    environ: Mapping[str, str],
    progress: Progress,
    platform: Platform,
    api: PrefectApi,
) -> Session:
    """Return a session with an API that is current in this thread."""
    ledger = ClientLedger(settings.home / "clients")
    return Session(
        settings=settings,
        environ=environ,
        platform=platform,
        api=api,
        ledger=ledger,
        progress=progress,
    )


def prefect_api_url(settings: Settings, environ: Mapping[str, str], progress: Progress) -> str:
    """Return the API to use: the one around us, the configured one, or the background server."""
    known = known_api_url(environ)
    server = BackgroundServer(settings.home, environ)
    if not known:
        return _background_api_url(server, progress)
    auth_string = environ.get("PREFECT_API_AUTH_STRING")
    if auth_string and known == environ.get("PREFECT_API_URL"):
        remember_access(known, auth_string)
    else:
        # Its address alone is enough for its own user.
        server.recognize(known)
    open_way(known, settings.home, environ, progress)
    return known


def _tell_of_unknown(environ: Mapping[str, str], mode: ProgressMode) -> None:
    texts = unknown_settings(environ)
    if texts:
        tell_once(texts, terminal_progress(mode, environ).warning)


def _background_api_url(server: BackgroundServer, progress: Progress) -> str:
    told = []

    def tell(text: str) -> None:
        told.append(text)
        progress.step(STEP_SERVER, "started")
        progress.notice(text)

    try:
        return server.ensure(tell).api_url
    finally:
        if told:
            progress.step(STEP_SERVER, "passed")


def _is_first(store_uri: str, api_url: str) -> bool:
    with _reconciled_lock:
        known = (store_uri, api_url) in _reconciled
        _reconciled.add((store_uri, api_url))
        return not known
