"""`kinetic server connect`: a way from this machine to the Prefect server of a cluster."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kinetic_flows.cli.documents import print_json
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.clients.prefect.connections import (
    Connection,
    port_of,
    save_connection,
    saved_connection,
)
from kinetic_flows.clients.prefect.logins import Login, log_in, save_login
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.errors import ConfigurationError, PrefectServerError
from kinetic_flows.core.settings.cloud import CloudSettings, resolve_cloud
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.platforms.gke.setup.prefect.prefect_connection import open_server
from kinetic_flows.runs.cluster_server import access_to


@dataclass(frozen=True, kw_only=True)
class ConnectOptions:
    """What the command line says.

    Attributes:
        cluster: The cluster; None for the remembered or configured one.
        project: Its project; None likewise.
        zone: Its zone or region; None likewise.
        port: The port on this machine; None for the remembered one.
        use: Whether Prefect and this library use the server from now on.
        password: Whether to print the password.
        as_json: Whether to print a JSON object.
    """

    cluster: str | None
    project: str | None
    zone: str | None
    port: int | None
    use: bool
    password: bool
    as_json: bool


def connect(options: ConnectOptions) -> None:
    """Keep the way open until Ctrl-C.

    Raises:
        ConfigurationError: Nothing says which cluster, or the port is taken.
        KineticError: The cluster cannot be reached, or has no Prefect server.
    """
    environ = process_environment()
    home = local_settings(environ).home
    place = _place(options, home, environ)
    client = KubernetesClient(access_to(place, environ))
    try:
        server = open_server(client, place.cluster, port=place.port, tell=_say)
        place = replace(place, port=server.port)
        login = _checked(Login(url=place.api_url, auth_string=server.auth_string))
        saved = save_login(login, place.profile, is_active=options.use)
        save_connection(home, place)
        _tell(options, place, login, before=saved.before)
        _wait()
        server.close()
    finally:
        client.close()


def _place(options: ConnectOptions, home: Path, environ: Mapping[str, str]) -> Connection:
    """Return which server is meant."""
    known = saved_connection(home, options.cluster)
    said = {
        "project": options.project or (known.project if known else None),
        "zone": options.zone or (known.zone if known else None),
        "cluster": options.cluster or (known.cluster if known else None),
    }
    cloud = _cloud({name: value for name, value in said.items() if value}, environ)
    name = cloud.cluster if cloud else said["cluster"] or "cluster"
    return Connection(
        project=cloud.project if cloud else "",
        zone=cloud.zone if cloud else "",
        cluster=name,
        port=port_of(home, name) if options.port is None else options.port,
    )


def _cloud(said: Mapping[str, str], environ: Mapping[str, str]) -> CloudSettings | None:
    """Return the settings; None where no project is known, and so no cluster of Google's.

    An active profile is not asked for: it may be in the very server that is to be reached.
    """
    project_file = local_settings(environ).project_file
    try:
        return resolve_cloud(
            arguments=said, environ=environ, profile=None, project_file=project_file
        )
    except ConfigurationError:
        if said.get("project"):
            raise
        return None


def _checked(login: Login) -> Login:
    """See that the server answers and lets one in; a server that is starting does not yet."""
    try:
        return log_in(login.url, login.auth_string)
    except PrefectServerError as error:
        _say(f"{error.message}; the way to it stays open")
        return login


def _tell(options: ConnectOptions, place: Connection, login: Login, *, before: str | None) -> None:
    if options.as_json:
        secret = {"password": login.auth_string} if options.password else {}
        print_json(
            {
                "api_url": place.api_url,
                "ui_url": place.api_url.removesuffix("/api"),
                "prefect_version": login.version,
                "prefect_profile": place.profile,
                **secret,
            }
        )
        sys.stdout.flush()
        return
    print(f"API: {place.api_url}\nUI:  {place.api_url.removesuffix('/api')}")
    if options.password:
        print(f"password: {login.auth_string}")
    if options.use:
        instead = f"; before: {before}" if before else ""
        print(f"Prefect uses it from now on (profile {place.profile}{instead})")
    else:
        print(f"to use it in another terminal: export PREFECT_PROFILE={place.profile}")
    print("open until Ctrl-C", flush=True)


def _wait() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        _say("closed")


def _say(text: str) -> None:
    print(f"kinetic: {text}", file=sys.stderr, flush=True)
