"""Which Prefect API a cluster that is set up has, and how what follows reaches it."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.cli.setup_place import Surroundings
from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.prefect.logins import configured_login
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.platforms.gke.setup.prefect_api import InTheCluster, place_of
from kinetic_flows.platforms.gke.setup.prefect_place import PrefectPlace
from kinetic_flows.platforms.gke.setup.request import SetupRequest


def prefect_place(around: Surroundings, request: SetupRequest, apis: GoogleApis) -> PrefectPlace:
    """Return the Prefect API that was chosen; nothing is asked or started.

    Args:
        around: What is known before.
        request: What is wanted.
        apis: Google's APIs.

    Raises:
        ConfigurationError: It is elsewhere, and nothing says where; or a worker is wanted that
            could not reach it.
    """
    return place_of(
        request,
        apis=apis,
        server=BackgroundServer(around.settings.home, around.environ),
        login=configured_login(around.environ) if request.prefect == "cloud" else None,
    )


def variables_for(place: PrefectPlace, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that uses that Prefect API.

    Args:
        place: The Prefect API.
        environ: Variables that it has anyway, with which it finds any other API by itself.
    """
    found = place.variables() if isinstance(place, InTheCluster) else {}
    return {**environ, **found}
