"""A session that a handle keeps: what takes time to open is opened for its first question."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from kinetic_flows.clients.prefect.api import PrefectConnection
from kinetic_flows.core.errors import ConfigurationError, PrefectServerError, StoreError
from kinetic_flows.core.home import usable_home
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import Settings, load_settings, process_environment
from kinetic_flows.platforms.base import Platform
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.session import (
    Session,
    begin_session,
    configure,
    prefect_api_url,
    session_of,
)

PLATFORM_SECONDS = 60.0
"""How long a platform is kept: who may do what, and with which credentials, changes outside."""


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What is kept between two questions.

    Attributes:
        process_id: The process that opened it: another one's connections are no use after a fork.
        environ: The variables that it was opened with.
        settings: The settings in force then.
        platform: Where functions run.
        chosen_at: When that was chosen, in seconds of the monotonic clock.
        connection: The connection to Prefect.
    """

    process_id: int
    environ: Mapping[str, str]
    settings: Settings
    platform: Platform
    chosen_at: float
    connection: PrefectConnection


class KeptSession:
    """Opens sessions for a handle, which share a platform and a connection.

    Threads may use it at the same time. It opens anew in a process that was forked, and when the
    environment, the API or the credentials for it are others than before.

    Args:
        cloud: What the function's options say of Google Cloud.
    """

    def __init__(self, cloud: Mapping[str, str]) -> None:
        self._cloud = dict(cloud)
        self._kept: _Kept | None = None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session in this thread."""
        with usable_home():
            kept = self._current()
            try:
                with kept.connection.current() as api:
                    session = session_of(
                        kept.settings, kept.environ, NullProgress(), kept.platform, api
                    )
                    begin_session(session)
                    yield session
            except (ConfigurationError, PrefectServerError, StoreError):
                # Whoever does what the error says (logs in, say) asks again with what is new.
                self._kept = None
                raise

    def _current(self) -> _Kept:
        environ, kept = process_environment(), self._kept
        is_usable = kept and kept.process_id == os.getpid() and kept.environ == environ
        now = time.monotonic()
        if kept is None or not is_usable or now - kept.chosen_at > PLATFORM_SECONDS:
            settings = configure(load_settings(environ), environ, NullProgress(), self._cloud)
            platform, chosen_at = choose_platform(settings, environ), now
        else:
            settings, platform, chosen_at = kept.settings, kept.platform, kept.chosen_at
        # Asked each time: the background server is to prove itself, or to be started again.
        api_url = prefect_api_url(settings, environ, NullProgress())
        is_open = kept is not None and is_usable and kept.connection.is_to(api_url)
        connection = kept.connection if kept and is_open else PrefectConnection(api_url)
        kept = self._kept = _Kept(
            process_id=os.getpid(),
            environ=environ,
            settings=settings,
            platform=platform,
            chosen_at=chosen_at,
            connection=connection,
        )
        return kept
