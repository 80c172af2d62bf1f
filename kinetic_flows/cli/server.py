"""`kinetic server` and `kinetic ui`: this machine's background Prefect server, and a cluster's."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.examples import add_examples
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.clients.prefect.server_record import ServerRecord
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.settings import load_settings, process_environment

if TYPE_CHECKING:
    from kinetic_flows.cli import server_connect, web
else:
    server_connect = LazyModule("kinetic_flows.cli.server_connect")
    # What does without Prefect is told at once.
    web = LazyModule("kinetic_flows.cli.web")

server_app = App(name="server", help_format="markdown", help_epilogue="")

Shell = Literal["sh", "fish", "csh", "powershell"]

SHELLS: Mapping[Shell, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={shlex.quote(value)}",
    "fish": lambda name, value: f"set -gx {name} {shlex.quote(value)}",
    "csh": lambda name, value: f"setenv {name} {shlex.quote(value)};",
    "powershell": lambda name, value: f"$Env:{name} = '{value.replace(chr(39), chr(39) * 2)}'",
}
"""How each shell exports a variable. Neither an address nor the password has a backslash, which
fish and csh would read in quotes."""


@server_app.command
def start(*, as_json: Json = False) -> None:
    """Start the server, unless it runs already, and print its addresses.

    Args:
        as_json: Print a JSON object.
    """
    record = _server().ensure(_say)
    if as_json:
        print_json(_described(record))
        return
    print(f"API: {record.api_url}\nUI:  {record.ui_url}")


@server_app.command
def status(*, as_json: Json = False) -> None:
    """Say whether the server runs, and where.

    Args:
        as_json: Print a JSON object.
    """
    server = _server()
    starting = server.starting()
    if as_json:
        record = None if starting else server.status()
        print_json({**_described(record), "starting": bool(starting)})
        return
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
def stop(*, forget: bool = False, as_json: Json = False) -> None:
    """Stop the server; its database and all runs in it stay.

    Args:
        forget: Take one that runs on a host or in a container that is gone for stopped.
        as_json: Print a JSON object.
    """
    if as_json:
        print_json({"stopped": _server().stop(forget=forget)})
        return
    print("stopped" if _server().stop(forget=forget) else "not running")


@server_app.command
def env(*, shell: Shell = "sh", as_json: Json = False) -> None:
    """Print the variables that Prefect's own commands need, its password among them.

    After `eval "$(kinetic server env)"` every `prefect` command in this shell uses the server;
    `kinetic prefect` runs a single one.

    Args:
        shell: The shell that is to read them: sh (bash and zsh, too), fish, csh or powershell.
        as_json: Print a JSON object.
    """
    server = _server()
    variables = server.environment(server.ensure(_say))
    if as_json:
        print_json(variables)
        return
    for name, value in variables.items():
        print(SHELLS[shell](name, value))


@server_app.command
def connect(
    cluster: str | None = None,
    /,
    *,
    project: str | None = None,
    zone: str | None = None,
    port: int | None = None,
    use: Annotated[bool, Parameter(negative="")] = False,
    password: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Connect to the Prefect server of a cluster, for as long as this command runs.

    A port of this machine leads to the server's pod, through the API server of Kubernetes; kubectl
    is not needed. Connections that break are made anew. What lets one in is kept in a profile of
    Prefect's own, kinetic-CLUSTER, which `export PREFECT_PROFILE=...` chooses in any terminal.

    Args:
        cluster: The cluster; the one that was connected to before, or the configured one, by
            default.
        project: Its project.
        zone: Its zone or region.
        port: The port on this machine; the one before, or the next from 4243 on, by default.
        use: Make that profile the active one, which is used where nothing names another.
        password: Print the password, too, for a page that asks for it.
        as_json: Print a JSON object, and stay.
    """
    server_connect.connect(
        server_connect.ConnectOptions(
            cluster=cluster,
            project=project,
            zone=zone,
            port=port,
            use=use,
            password=password,
            as_json=as_json,
        )
    )


def ui(run_id: str = "", *, browser: bool = True, password: bool = False) -> None:
    """Open the Prefect UI; the background server's without typing its password.

    With PREFECT_API_URL set it is that API's, else the background server's, which is started if
    need be.

    Args:
        run_id: Open the page of this run, of any Prefect API: its id, or the part of it that is
            shown.
        browser: Whether to open a browser; else only the link is printed.
        password: Print the password too, for a page that asks for it.
    """
    page, link = web.page_of(run_id) if run_id else web.start_page(_say)
    print(f"UI:   {page}")
    if link != page:
        print(f"link: {link} (opens it once, within two minutes)")
    if password:
        server = _server()
        record = server.status()
        known = server.environment(record) if record and link != page else {}
        print(f"password: {known.get('PREFECT_API_AUTH_STRING', 'none')}")
    if browser:
        web.open_page(link)


def _described(record: ServerRecord | None) -> dict[str, object]:
    """Return what there is to say of the server as plain JSON values."""
    if record is None:
        return {"running": False, "api_url": None, "ui_url": None}
    return {
        "running": True,
        "api_url": record.api_url,
        "ui_url": record.ui_url,
        "prefect_version": record.prefect_version,
        "process": record.process.pid,
    }


def _say(text: str) -> None:
    print(f"kinetic: {text}", file=sys.stderr)


def _server() -> BackgroundServer:
    return BackgroundServer(load_settings().home, process_environment())


add_examples(
    server_app,
    {
        "start": ("kinetic server start",),
        "status": ("kinetic server status --json",),
        "stop": ("kinetic server stop",),
        "connect": (
            "kinetic server connect",
            "kinetic server connect --password",
            "kinetic server connect team --project our-project --use",
        ),
        "env": (
            'eval "$(kinetic server env)"',
            "kinetic server env --shell fish | source",
        ),
    },
)
