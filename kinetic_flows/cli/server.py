"""`kinetic server`: the background Prefect server of this machine."""

from __future__ import annotations

from cyclopts import App

from kinetic_flows.server import BackgroundServer
from kinetic_flows.settings import load_settings, process_environment

server_app = App(name="server", help="The background Prefect server of this machine.")


@server_app.command
def start() -> None:
    """Start the server, unless it runs already, and print its addresses."""
    record = _server().ensure(print)
    print(f"API: {record.api_url}\nUI:  {record.ui_url}")


@server_app.command
def status() -> None:
    """Say whether the server runs, and where."""
    record = _server().status()
    if record is None:
        print("not running (the next run starts it, unless PREFECT_API_URL is set)")
        return
    print(f"running: Prefect {record.prefect_version}, process {record.process.pid}")
    print(f"API: {record.api_url}\nUI:  {record.ui_url}")


@server_app.command
def stop() -> None:
    """Stop the server; its database and all runs in it stay."""
    print("stopped" if _server().stop() else "not running")


def _server() -> BackgroundServer:
    return BackgroundServer(load_settings().home, process_environment())
