"""Which Prefect API a cluster that is set up has, and how what follows reaches it."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.cli.setup_place import Surroundings
from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.prefect.access import api_settings, credentials_for, known_api_url
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.platforms.gke.setup.cluster_access import cluster_of
from kinetic_flows.platforms.gke.setup.prefect_api import ByUrl, InTheCluster, OnThisMachine
from kinetic_flows.platforms.gke.setup.prefect_place import PrefectPlace
from kinetic_flows.platforms.gke.setup.request import SetupRequest


def prefect_place(around: Surroundings, request: SetupRequest, apis: GoogleApis) -> PrefectPlace:
    """Return the Prefect API that was chosen; nothing is asked or started.

    Args:
        around: What is known before.
        request: What is wanted.
        apis: Google's APIs.

    Raises:
        ConfigurationError: It is elsewhere, and nothing says where.
    """
    if request.prefect == "cluster":
        return InTheCluster(cluster_of(request, apis))
    if request.prefect == "machine":
        return OnThisMachine(server=BackgroundServer(around.settings.home, around.environ))
    url = known_api_url(around.environ)
    if url is None:
        raise ConfigurationError(
            "Prefect is to be elsewhere, and nothing says where",
            value=request.prefect,
            hint="log in with `prefect cloud login`, or set PREFECT_API_URL, and PREFECT_API_KEY "
            "where it asks for a key",
        )
    return ByUrl(url=url, credentials=credentials_for(url, around.environ))


def variables_for(place: PrefectPlace, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that uses that Prefect API.

    Args:
        place: The Prefect API.
        environ: Variables that it has anyway.
    """
    if not isinstance(place, InTheCluster):
        return dict(environ)
    settings = {name.name: str(value) for name, value in api_settings(place.open()).items()}
    return {**environ, **settings}
