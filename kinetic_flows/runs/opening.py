"""Opening a session with what this process's environment says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kinetic_flows.core.home import usable_home
from kinetic_flows.core.progress import Progress
from kinetic_flows.core.settings.settings import process_environment

if TYPE_CHECKING:
    from kinetic_flows.runs.session import Session


@contextmanager
def own_session(progress: Progress, cloud: Mapping[str, str] | None = None) -> Iterator[Session]:
    """Open a session with this process's settings; imported late, as Prefect is heavy.

    Args:
        progress: Told when a background server has to be started.
        cloud: What a function's options say of Google Cloud; None for nothing.
    """
    from kinetic_flows.runs.configuration import configure
    from kinetic_flows.runs.session import open_session

    environ = process_environment()
    with (
        usable_home(),
        open_session(configure(environ, progress, cloud), environ, progress) as session,
    ):
        yield session
