"""`kinetic server` and `kinetic ui`: the background Prefect server of this machine."""

from __future__ import annotations

import shlex
import sys
import webbrowser

from cyclopts import App

from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.settings.settings import load_settings, process_environment

server_app = App(name="server")


@server_app.command
def start() -> None:
    """Start the server, unless it runs already, and print its addresses."""
    record = _server().ensure(print)
    print(f"API: {record.api_url}\nUI:  {record.ui_url}")


@server_app.command
def status() -> None:
    """Say whether the server runs, and where."""
    server = _server()
    starting = server.starting()
    if starting:
        print(f"starting: process {starting.process.pid}, which does not answer yet")
        return
    record = server.status()
    if record is None:
        print("not running (the next run starts it, unless PREFECT_API_URL is set)")
        return
    print(f"running: Prefect {record.prefect_version}, process {record.process.pid}")
    print(f"API: {record.api_url}\nUI:  {record.ui_url}")


@server_app.command
def stop(*, forget: bool = False) -> None:
    """Stop the server; its database and all runs in it stay.

    Args:
        forget: Take one that runs on a host or in a container that is gone for stopped.
    """
    print("stopped" if _server().stop(forget=forget) else "not running")


@server_app.command
def env() -> None:
    """Print the variables that Prefect's own commands need, its password among them.

    `eval "$(kinetic server env)"` lets `prefect worker start` and others use the server.
    """
    server = _server()
    for name, value in server.environment(server.ensure(_say)).items():
        print(f"export {name}={shlex.quote(value)}")


def ui(run_id: str = "", *, browser: bool = True, password: bool = False) -> None:
    """Open the UI of the background Prefect server, without typing its password.

    Args:
        run_id: Open the page of this run.
        browser: Whether to open a browser; else only the link is printed.
        password: Print the password too, for a page that asks for it.
    """
    server = _server()
    record = server.ensure(_say)
    link = server.sign_in_url(record, f"/runs/flow-run/{run_id}" if run_id else "/")
    print(f"UI:   {record.ui_url}\nlink: {link} (opens it once, within two minutes)")
    if password:
        print(f"password: {server.environment(record).get('PREFECT_API_AUTH_STRING', 'none')}")
    if browser:
        webbrowser.open(link)


def _say(text: str) -> None:
    print(f"kinetic: {text}", file=sys.stderr)


def _server() -> BackgroundServer:
    return BackgroundServer(load_settings().home, process_environment())
