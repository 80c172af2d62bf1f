"""Opening the pages of runs in a browser."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from uuid import UUID

from kinetic_flows.cli.reading import require_something_to_read
from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.runs.find import run_or_group_id


def page_of(run_id: str) -> tuple[str, str]:
    """Return the page of a run, and the link that opens it without a password.

    Args:
        run_id: Its id, the beginning or end of it, or its URL.

    Raises:
        RunNotFoundError: No run fits, or several do.
        PrefectServerError: No API is configured, and the background server does not run.
    """
    server, other = _api()
    if other:
        with connect(other) as api:
            page = api.run_url(run_or_group_id(run_id, api))
        return page, page
    record = server.status()
    if record is None:
        require_something_to_read()
        record = server.ensure()
    if not _is_whole(run_id):
        with connect(record.api_url) as api:
            run_id = run_or_group_id(run_id, api)
    path = f"/runs/flow-run/{run_id}"
    return f"{record.ui_url}{path}", server.sign_in_url(record, path)


def start_page(on_start: Callable[[str], None]) -> tuple[str, str]:
    """Return the first page of the UI, and the link that opens it without a password.

    Args:
        on_start: Told that the background server is started, where no API is configured.
    """
    server, other = _api()
    if other:
        with connect(other) as api:
            page = api.ui_url or other
        return page, page
    record = server.ensure(on_start)
    return record.ui_url, server.sign_in_url(record, "/")


def _api() -> tuple[BackgroundServer, str | None]:
    """Return the background server, and the API that is configured in its place, if one is."""
    environ = process_environment()
    server = BackgroundServer(load_settings(environ).home, environ)
    known = known_api_url(environ)
    return server, known if known and not server.recognize(known) else None


def _is_whole(run_id: str) -> bool:
    try:
        return str(UUID(run_id)) == run_id
    except ValueError:
        return False


def open_page(link: str) -> None:
    """Open a page in the person's browser."""
    webbrowser.open(link)
