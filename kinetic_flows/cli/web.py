"""Opening the pages of runs in a browser."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from uuid import UUID

from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.runs.find import full_id
from kinetic_flows.runs.session import own_session


def page_of(run_id: str) -> tuple[str, str]:
    """Return the page of a run, and the link that opens it without a password.

    Args:
        run_id: Its id, the beginning or end of it, or its URL.

    Raises:
        RunNotFoundError: No run fits, or several do.
    """
    environ = process_environment()
    server = BackgroundServer(load_settings(environ).home, environ)
    record = server.status()
    if record and not known_api_url(environ) and _is_whole(run_id):
        path = f"/runs/flow-run/{run_id}"
        return f"{record.ui_url}{path}", server.sign_in_url(record, path)
    with own_session(NullProgress()) as session:
        found = full_id(run_id, session.api)
        page, api_url = session.api.run_url(found), session.api.url
    if record is None or record.api_url != api_url:
        return page, page
    return page, server.sign_in_url(record, f"/runs/flow-run/{found}")


def start_page(on_start: Callable[[str], None]) -> tuple[str, str]:
    """Return the first page of the UI, and the link that opens it without a password.

    Args:
        on_start: Told that the background server is started, where no API is configured.
    """
    environ = process_environment()
    server = BackgroundServer(load_settings(environ).home, environ)
    known = known_api_url(environ)
    if known and not server.recognize(known):
        with connect(known) as api:
            page = api.ui_url or known
        return page, page
    record = server.ensure(on_start)
    return record.ui_url, server.sign_in_url(record, "/")


def _is_whole(run_id: str) -> bool:
    try:
        return str(UUID(run_id)) == run_id
    except ValueError:
        return False


def open_page(link: str) -> None:
    """Open a page in the person's browser."""
    webbrowser.open(link)
