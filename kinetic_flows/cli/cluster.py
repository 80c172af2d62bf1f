"""`kinetic pool`: what runs need in a cluster, and in Prefect."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.examples import add_examples
from kinetic_flows.cli.questions import confirmed
from kinetic_flows.cli.reading import require_something_to_read
from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.cloud import check_value
from kinetic_flows.core.settings.cloud_names import WORK_POOL
from kinetic_flows.core.settings.settings import Settings, load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.platforms.gke.names import HEADLESS_SERVICE

if TYPE_CHECKING:
    from kinetic_flows.clients.google import login
    from kinetic_flows.clients.kubernetes import access
    from kinetic_flows.clients.kubernetes import client as kubernetes
    from kinetic_flows.platforms.gke import platform, work_pool
    from kinetic_flows.runs import session
else:
    # Neither the list of accelerators nor `--help` needs them.
    access = LazyModule("kinetic_flows.clients.kubernetes.access")
    login = LazyModule("kinetic_flows.clients.google.login")
    kubernetes = LazyModule("kinetic_flows.clients.kubernetes.client")
    platform = LazyModule("kinetic_flows.platforms.gke.platform")
    work_pool = LazyModule("kinetic_flows.platforms.gke.work_pool")
    session = LazyModule("kinetic_flows.runs.session")

pool_app = App(name="pool", help_format="markdown", help_epilogue="")


@contextmanager
def open_cluster(settings: Settings) -> Iterator[kubernetes.KubernetesClient]:
    """Open the cluster of the settings, or the one that kubectl would use.

    Raises:
        ConfigurationError: Nothing says which cluster, or its credentials cannot be used.
    """
    cloud, gke = settings.cloud, None
    if cloud:
        gke = platform.gke_cluster(cloud, cloud.credentials.load() if cloud.credentials else None)
    found = access.find_access(process_environment(), gke)
    if isinstance(found, access.GkeCluster) and found.credentials is None:
        # Said at once, and not after the seconds for which a cluster is waited for.
        login.require_login(found.project)
    client = kubernetes.KubernetesClient(found)
    try:
        yield client
    finally:
        client.close()


@pool_app.command
def create(
    *,
    name: str | None = None,
    namespace: str | None = None,
    cluster: bool = True,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
    as_json: Json = False,
) -> None:
    """Create the work pool, or bring it up to date, and say what changed.

    Also makes the Service by which the hosts of a slice find one another. Doing it again is
    harmless. What somebody else changed in the work pool's template is not undone unasked.

    Args:
        name: The work pool; the configured one, or `kinetic-gke`, by default.
        namespace: Kubernetes namespace of the runs; the configured one, or `default`.
        cluster: Whether to make the Service in the cluster, too.
        yes: Do not ask before changes to the template are undone that somebody made.
        as_json: Print a JSON object.
    """
    settings = _settings()
    pool, place = _named(name, namespace, settings)
    pools = _work_pools(settings)
    change = work_pool.plan_installation(pools, pool)
    if change.is_edited and not yes:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            _print_changes(f"work pool {pool} differs from the template of this version", change)
        _confirm(pool)
    work_pool.install(pools, pool, change)
    if not as_json:
        print(f"work pool {pool}: {change.action}")
        if not change.is_edited or yes:
            _print_changes(None, change)
    service = None
    if cluster:
        with open_cluster(settings) as client:
            made = work_pool.ensure_headless_service(client, place)
        service = "created" if made else "unchanged"
    _tell_of_service(place, service, change, pool, as_json=as_json)


@pool_app.command
def show(
    *,
    name: str | None = None,
    namespace: str | None = None,
    cluster: bool = True,
    as_json: Json = False,
) -> None:
    """Say whether the work pool and the Service are there, and up to date.

    Args:
        name: The work pool; the configured one, or `kinetic-gke`, by default.
        namespace: Kubernetes namespace of the runs; the configured one, or `default`.
        cluster: Whether to look into the cluster, too.
        as_json: Print a JSON object.
    """
    require_something_to_read()
    settings = _settings()
    pool, place = _named(name, namespace, settings)
    change = work_pool.plan_installation(_work_pools(settings), pool)
    if as_json:
        pass
    elif change.action == "created":
        print(f"work pool {pool}: missing (`kinetic pool create` makes it)")
    elif change.changes:
        edited = ", some of it by somebody's own changes" if change.is_edited else ""
        heading = f"work pool {pool}: differs from the template of this version{edited}"
        _print_changes(heading, change)
    else:
        print(f"work pool {pool}: up to date")
    service = None
    if cluster:
        with open_cluster(settings) as client:
            there = work_pool.has_headless_service(client, place)
        service = "there" if there else "missing"
    _tell_of_service(place, service, change, pool, as_json=as_json)


def _tell_of_service(
    namespace: str,
    service: str | None,
    change: work_pool.PoolChange,
    pool: str,
    *,
    as_json: bool,
) -> None:
    """Print what became of the Service, at the end: for machines, all that there is to say."""
    full_name = f"{namespace}/{HEADLESS_SERVICE}"
    if as_json:
        print_json(
            {
                "work_pool": pool,
                "action": change.action,
                "changes": list(change.changes),
                "is_edited": change.is_edited,
                "service": {"name": full_name, "state": service},
            }
        )
    elif service:
        print(f"service {full_name}: {service}")


def _print_changes(heading: str | None, change: work_pool.PoolChange) -> None:
    if heading:
        print(heading)
    for line in change.changes:
        print(f"  {line}")


def _confirm(pool: str) -> None:
    """Have it confirmed that changes to the template are lost.

    Raises:
        UsageError: They are to stay, or there is no terminal to ask at.
    """
    undone = f"work pool {pool} was left as it is"
    if not confirmed("Undo these differences?", undone=undone):
        raise UsageError(undone, value=pool, hint="say --yes to bring it up to date all the same")


def _settings() -> Settings:
    environ = process_environment()
    local = load_settings(environ)
    return session.configure(local, environ, terminal_progress(local.progress, environ))


def _named(name: str | None, namespace: str | None, settings: Settings) -> tuple[str, str]:
    """Return the work pool and the namespace that are meant.

    Raises:
        ConfigurationError: One of them cannot be.
    """
    pool = _pool(settings) if name is None else check_value("work_pool", name)
    place = _namespace(settings) if namespace is None else check_value("namespace", namespace)
    return pool, place


def _pool(settings: Settings) -> str:
    return settings.cloud.work_pool if settings.cloud else WORK_POOL


def _namespace(settings: Settings) -> str:
    return settings.cloud.namespace if settings.cloud else "default"


def _work_pools(settings: Settings) -> WorkPools:
    environ = process_environment()
    progress = terminal_progress(settings.progress, environ)
    return WorkPools(session.prefect_api_url(settings, environ, progress))


add_examples(
    pool_app,
    {
        "create": ("kinetic pool create", "kinetic pool create --namespace research --yes"),
        "show": ("kinetic pool show",),
    },
)
