"""A session that a handle keeps: what takes time to open is opened for its first question."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from kinetic_flows.clients.prefect.api import PrefectConnection
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


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What is kept between two questions.

    Attributes:
        process_id: The process that opened it: another one's connections are no use after a fork.
        environ: The variables that it was opened with.
        settings: The settings in force then.
        platform: Where functions run.
        connection: The connection to Prefect.
    """

    process_id: int
    environ: Mapping[str, str]
    settings: Settings
    platform: Platform
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
            with kept.connection.current() as api:
                session = session_of(
                    kept.settings, kept.environ, NullProgress(), kept.platform, api
                )
                begin_session(session)
                yield session

    def _current(self) -> _Kept:
        environ, kept = process_environment(), self._kept
        is_usable = kept and kept.process_id == os.getpid() and kept.environ == environ
        if kept is None or not is_usable:
            settings = configure(load_settings(environ), environ, NullProgress(), self._cloud)
            platform = choose_platform(settings, environ)
        else:
            settings, platform = kept.settings, kept.platform
        # Asked each time: the background server is to prove itself, or to be started again.
        api_url = prefect_api_url(settings, environ, NullProgress())
        if kept is not None and is_usable and kept.connection.is_to(api_url):
            return kept
        kept = _Kept(
            process_id=os.getpid(),
            environ=environ,
            settings=settings,
            platform=platform,
            connection=PrefectConnection(api_url),
        )
        self._kept = kept
        return kept
