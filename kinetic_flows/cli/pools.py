"""`kinetic pool`: the work pool that runs go to, and what it needs in the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from kinetic_flows.cli.clusters import open_cluster
from kinetic_flows.cli.questions import confirmed
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.settings.cloud import check_value
from kinetic_flows.core.settings.settings import Settings, load_settings, process_environment
from kinetic_flows.platforms.gke.names import HEADLESS_SERVICE

if TYPE_CHECKING:
    from kinetic_flows.clients.prefect.work_pools import WorkPools
    from kinetic_flows.platforms.gke.work_pool import PoolChange

DEFAULT_POOL = "kinetic-gke"

pool_app = App(name="pool", help="The Prefect work pool that runs on GKE go to.")


@pool_app.command
def create(
    *,
    name: str | None = None,
    namespace: str | None = None,
    cluster: bool = True,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
) -> None:
    """Create the work pool, or bring it up to date, and say what changed.

    Also makes the Service by which the hosts of a slice find one another. Doing it again is
    harmless. What somebody else changed in the work pool's template is not undone unasked.

    Args:
        name: The work pool; the configured one, or `kinetic-gke`, by default.
        namespace: Kubernetes namespace of the runs; the configured one, or `default`.
        cluster: Whether to make the Service in the cluster, too.
        yes: Do not ask before changes to the template are undone that somebody made.
    """
    from kinetic_flows.platforms.gke.work_pool import (
        ensure_headless_service,
        install,
        plan_installation,
    )

    settings = _settings()
    pool, place = _named(name, namespace, settings)
    pools = _work_pools(settings)
    change = plan_installation(pools, pool)
    if change.is_edited:
        _print_changes(f"work pool {pool} differs from the template of this version", change)
        _confirm(pool, yes=yes)
    install(pools, pool, change)
    print(f"work pool {pool}: {change.action}")
    if not change.is_edited:
        _print_changes(None, change)
    if cluster:
        with open_cluster(settings) as client:
            made = ensure_headless_service(client, place)
        print(f"service {place}/{HEADLESS_SERVICE}: {'created' if made else 'unchanged'}")


@pool_app.command
def show(*, name: str | None = None, namespace: str | None = None, cluster: bool = True) -> None:
    """Say whether the work pool and the Service are there, and up to date.

    Args:
        name: The work pool; the configured one, or `kinetic-gke`, by default.
        namespace: Kubernetes namespace of the runs; the configured one, or `default`.
        cluster: Whether to look into the cluster, too.
    """
    from kinetic_flows.platforms.gke.work_pool import has_headless_service, plan_installation

    settings = _settings()
    pool, place = _named(name, namespace, settings)
    change = plan_installation(_work_pools(settings), pool)
    if change.action == "created":
        print(f"work pool {pool}: missing (`kinetic pool create` makes it)")
    elif change.changes:
        edited = ", some of it by somebody's own changes" if change.is_edited else ""
        heading = f"work pool {pool}: differs from the template of this version{edited}"
        _print_changes(heading, change)
    else:
        print(f"work pool {pool}: up to date")
    if cluster:
        with open_cluster(settings) as client:
            there = has_headless_service(client, place)
        print(f"service {place}/{HEADLESS_SERVICE}: {'there' if there else 'missing'}")


def _print_changes(heading: str | None, change: PoolChange) -> None:
    if heading:
        print(heading)
    for line in change.changes:
        print(f"  {line}")


def _confirm(pool: str, *, yes: bool) -> None:
    """Have it confirmed that somebody's changes are lost.

    Raises:
        UsageError: They are to stay, or nobody can be asked.
    """
    undone = f"work pool {pool} was left as it is"
    if not yes and not confirmed("Undo these differences?", undone=undone):
        raise UsageError(undone, value=pool, hint="say --yes to bring it up to date all the same")


def _settings() -> Settings:
    from kinetic_flows.core.terminal import terminal_progress
    from kinetic_flows.runs.session import configure

    environ = process_environment()
    return configure(environ, terminal_progress(quiet=load_settings(environ).quiet))


def _named(name: str | None, namespace: str | None, settings: Settings) -> tuple[str, str]:
    """Return the work pool and the namespace that are meant.

    Raises:
        ConfigurationError: One of them cannot be.
    """
    pool = _pool(settings) if name is None else check_value("work_pool", name)
    place = _namespace(settings) if namespace is None else check_value("namespace", namespace)
    return pool, place


def _pool(settings: Settings) -> str:
    return settings.cloud.work_pool if settings.cloud else DEFAULT_POOL


def _namespace(settings: Settings) -> str:
    return settings.cloud.namespace if settings.cloud else "default"


def _work_pools(settings: Settings) -> WorkPools:
    from kinetic_flows.clients.prefect.work_pools import WorkPools
    from kinetic_flows.core.terminal import terminal_progress
    from kinetic_flows.runs.session import prefect_api_url

    progress = terminal_progress(quiet=settings.quiet)
    return WorkPools(prefect_api_url(settings, process_environment(), progress))
