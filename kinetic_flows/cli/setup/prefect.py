"""Which Prefect API a cluster that is set up has, and how what follows reaches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from kinetic_flows.cli.setup.place import Surroundings
from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.connections import (
    Connection,
    forget_connection,
    port_of,
    save_connection,
    saved_connections,
)
from kinetic_flows.clients.prefect.logins import (
    AUTH_STRING,
    Login,
    configured_login,
    forget_login,
    save_login,
)
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.settings.remembered import remember_profile, remembered_profiles
from kinetic_flows.platforms.gke.setup.model import Stage, Wanted
from kinetic_flows.platforms.gke.setup.prefect.prefect_api import (
    InTheCluster,
    OnThisMachine,
    place_of,
)
from kinetic_flows.platforms.gke.setup.prefect.prefect_place import PrefectPlace
from kinetic_flows.platforms.gke.setup.prefect.work_pool import work_pools
from kinetic_flows.platforms.gke.setup.request import SetupRequest


def prefect_place(
    around: Surroundings, request: SetupRequest, apis: GoogleApis, login: Login | None = None
) -> PrefectPlace:
    """Return the Prefect API that was chosen; nothing is asked or started.

    Args:
        around: What is known before.
        request: What is wanted.
        apis: Google's APIs.
        login: The API elsewhere that was logged in to; None for the configured one.

    Raises:
        ConfigurationError: It is elsewhere, and nothing says where; or a worker is wanted that
            could not reach it.
    """
    return place_of(
        request,
        apis=apis,
        server=BackgroundServer(around.settings.home, around.environ),
        login=login or (configured_login(around.environ) if request.prefect == "cloud" else None),
    )


def connected_cluster(around: Surroundings) -> str | None:
    """Return the cluster in which the Prefect server is that is configured; None for another."""
    known = known_api_url(around.environ)
    connections = saved_connections(around.settings.home).values()
    return next((each.cluster for each in connections if each.api_url == known), None)


def elsewhere(around: Surroundings) -> str | None:
    """Return the Prefect API that is configured; None for none but the background server."""
    known = known_api_url(around.environ)
    server = BackgroundServer(around.settings.home, around.environ)
    return known if known and not server.recognize(known) else None


def with_prefect(around: Surroundings, wanted: Wanted) -> Wanted:
    """Return what there may be with the Prefect API that it has now.

    Args:
        around: What is known before.
        wanted: What there may be, where a server in the cluster is said to be one.
    """
    request = wanted.request
    if request.prefect == "machine" and elsewhere(around):
        is_inside = connected_cluster(around) == request.cluster
        request = replace(request, prefect="cluster" if is_inside else "cloud")
    # A worker that is there has an API that is not this machine's.
    place = prefect_place(around, replace(request, worker=False), wanted.apis)
    return replace(wanted, request=request, prefect=place)


def stages_with_work_pool(
    wanted: Wanted, stages: Callable[[Wanted], tuple[Stage, ...]]
) -> tuple[Stage, ...]:
    """Return the stages of what there may be, and the work pool of whatever Prefect API.

    What is in the cluster knows nothing of the background server of this machine.

    Args:
        wanted: What there may be, with its Prefect API.
        stages: Returns the stages.
    """
    if not isinstance(wanted.prefect, OnThisMachine):
        return stages(wanted)
    pools = Stage(title="work pool", resources=work_pools(wanted))
    return (*stages(replace(wanted, prefect=None)), pools)


def keep_access(
    place: PrefectPlace, request: SetupRequest, around: Surroundings
) -> tuple[str, ...]:
    """Save how a server in the cluster is used by later calls; return what to tell of it.

    Args:
        place: The Prefect API.
        request: What was made.
        around: What is known before.
    """
    if not isinstance(place, InTheCluster):
        return ()
    home = around.settings.home
    connection = Connection(
        project=request.project,
        zone=request.location,
        cluster=request.cluster,
        port=port_of(home, request.cluster),
    )
    save_connection(home, connection)
    auth_string = place.variables().get(AUTH_STRING)
    saved = save_login(Login(url=connection.api_url, auth_string=auth_string), connection.profile)
    instead = f" (before: {saved.before})" if saved.before else ""
    leads = f"Prefect's profile {saved.profile} leads to the server in the cluster"
    return (
        f"{leads}, and is in use{instead}",
        "its UI, and Prefect's own commands: keep `kinetic server connect` running",
    )


def forget_access(around: Surroundings, request: SetupRequest) -> bool:
    """Forget a server in the cluster that was removed, and what was kept in it.

    Returns:
        Whether there was one.
    """
    home = around.settings.home
    known = saved_connections(home).get(request.cluster)
    if known is None or (known.project, known.zone) != (request.project, request.location):
        return False
    name, profile = around.settings.profile, around.profile
    # Such a profile says how pods reach that server: it was kept in it. One that cannot be read
    # any more was kept in the server that is used.
    was_inside = (
        bool(profile.values.get("pods_api_url"))
        if profile
        else name is not None and connected_cluster(around) == request.cluster
    )
    forget_connection(home, request.cluster)
    forget_login(known.profile)
    for each in remembered_profiles(home).of(name) if name and was_inside else ():
        remember_profile(home, None, each.directory)
    return was_inside


def variables_for(place: PrefectPlace, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that uses that Prefect API.

    Args:
        place: The Prefect API.
        environ: Variables that it has anyway, with which it finds any other API by itself.
    """
    found = place.variables() if isinstance(place, InTheCluster) else {}
    return {**environ, **found}
