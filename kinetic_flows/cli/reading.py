"""Which commands start no server: one that has never run knows nothing."""

from __future__ import annotations

from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.errors import PrefectServerError
from kinetic_flows.core.settings.settings import load_settings, process_environment

NOT_RUNNING = "the background Prefect server is not running"


def anything_to_read() -> bool:
    """Whether there is a Prefect API that may know something: False where none has ever run.

    Raises:
        PrefectServerError: What it knows is in the database of a background server that does not
            run.
    """
    environ = process_environment()
    if known_api_url(environ):
        return True
    server = BackgroundServer(load_settings(environ).home, environ)
    if server.status() or server.starting():
        return True
    if not server.has_run:
        return False
    raise PrefectServerError(
        f"{NOT_RUNNING}, and what is asked for is in its database",
        value=str(server.database),
        hint="`kinetic server start` starts it",
    )


def require_something_to_read() -> None:
    """See that a Prefect API can be asked.

    Raises:
        PrefectServerError: None is configured, and no background server runs.
    """
    if not anything_to_read():
        raise _never_ran()


def require_something_known() -> None:
    """See that a run or a deployment may be there before the server is started to act on it.

    Raises:
        PrefectServerError: No API is configured, and no background server has ever run.
    """
    environ = process_environment()
    if known_api_url(environ):
        return
    server = BackgroundServer(load_settings(environ).home, environ)
    if not (server.has_run or server.status() or server.starting()):
        raise _never_ran()


def _never_ran() -> PrefectServerError:
    return PrefectServerError(
        f"{NOT_RUNNING}, and has never run with this KINETIC_HOME",
        value=str(load_settings().home),
        hint="the first call starts it, as `kinetic server start` does; set KINETIC_HOME or "
        "PREFECT_API_URL where another one is meant",
    )
