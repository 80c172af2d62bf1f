"""`kinetic worker`: what starts the runs of deployments, here or in the cluster."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from kinetic_flows.cli.examples import add_examples
from kinetic_flows.cli.prefect_commands import API_URL, become_prefect, prefect_variables
from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.server import PREFERRED_PORT, BackgroundServer
from kinetic_flows.clients.prefect.work_pools import WorkPools, ensure_worker_pool
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.settings import Settings, load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.session import configure

if TYPE_CHECKING:
    from kinetic_flows.platforms.gke import worker_manifest
else:
    worker_manifest = LazyModule("kinetic_flows.platforms.gke.worker_manifest")

worker_app = App(name="worker", help_format="markdown", help_epilogue="")

CHOSEN_BY_US = ("--pool", "-p", "--type", "-t")


@worker_app.command(usage="Usage: kinetic worker start [POOL] [OPTIONS of prefect worker start]")
def start(
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
) -> None:
    """Start a Prefect worker here, which starts the runs of deployments until Ctrl-C.

    It is Prefect's own worker, of the type of the work pool, with the address and the password of
    the Prefect API that calls use. Runs that it has started on a cluster go on when it ends.

    Args:
        arguments: The work pool, by default the one that deployments of the configured platform
            use; then options of `prefect worker start`, such as --work-queue sweeps or --limit 2.
    """
    has_pool = bool(arguments) and not arguments[0].startswith("-")
    pool, options = (arguments[0], arguments[1:]) if has_pool else (None, arguments)
    _refuse_what_we_choose(options)
    environ = process_environment()
    variables = prefect_variables(environ)
    settings = _settings()
    name, kind = _pool(pool, settings, variables[API_URL])
    if kind == worker_manifest.WORK_POOL_TYPE:
        namespace = settings.cloud.namespace if settings.cloud else "default"
        chosen = worker_manifest.worker_settings(namespace)
        variables = {**{key: environ.get(key, text) for key, text in chosen.items()}, **variables}
    become_prefect(["worker", "start", "--pool", name, "--type", kind, *options], variables)


@worker_app.command
def manifest(
    pool: str | None = None,
    /,
    *,
    namespace: str | None = None,
    api_url: str | None = None,
) -> None:
    """Print the Kubernetes manifest of a worker in the cluster, for `kubectl apply -f -`.

    It has a service account with the rights that a worker needs in its namespace, and no more.

    Args:
        pool: The work pool; the configured one, or `kinetic-gke`, by default.
        namespace: Kubernetes namespace of the worker and its runs; the configured one, or
            `default`.
        api_url: The Prefect API as pods reach it; PREFECT_API_URL by default.
    """
    environ = process_environment()
    settings = _settings()
    cloud = settings.cloud
    made = worker_manifest.worker_manifest(
        pool=pool or (cloud.work_pool if cloud else None),
        namespace=namespace or (cloud.namespace if cloud else None),
        api_url=api_url or _api_url_for_pods(settings, environ),
        environ=environ,
    )
    for note in made.notes:
        print(f"kinetic: {note}", file=sys.stderr)
    print(made.text, end="")


def _api_url_for_pods(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return the configured API; the background server's where none is, running or not."""
    known = known_api_url(environ)
    if known:
        return known
    record = BackgroundServer(settings.home, environ).status()
    return record.api_url if record else f"http://127.0.0.1:{PREFERRED_PORT}/api"


def _settings() -> Settings:
    environ = process_environment()
    settings = load_settings(environ)
    return configure(settings, environ, terminal_progress(settings.progress, environ))


def _refuse_what_we_choose(options: Sequence[str]) -> None:
    """Refuse options that this command gives itself.

    Raises:
        UsageError: One is given.
    """
    for option in options:
        if option.partition("=")[0] in CHOSEN_BY_US:
            raise UsageError(
                f"{option.partition('=')[0]} is what this command chooses",
                value=option,
                hint="name the work pool alone: kinetic worker start POOL",
            )


def _pool(name: str | None, settings: Settings, api_url: str) -> tuple[str, str]:
    """Return a work pool and the type of its workers, made if it is the one of this machine.

    Raises:
        UsageError: There is no such work pool.
    """
    pools = WorkPools(api_url)
    own = choose_platform(settings, process_environment()).worker_pool
    wanted = name or own.name
    kind = pools.type_of(wanted)
    if kind is not None:
        return wanted, kind
    if wanted == own.name and own.type == "process":
        ensure_worker_pool(own, {}, api_url)
        return wanted, own.type
    names = ", ".join(pools.names()) or "none yet"
    remedy = (
        f"`kinetic worker start` alone makes {own.name}, for this machine"
        if own.type == "process"
        else f"`kinetic pool create --name {wanted}` makes it"
    )
    raise UsageError(
        f"there is no work pool {wanted!r}", value=wanted, hint=f"{remedy}; there are: {names}"
    )


add_examples(
    worker_app,
    {
        "start": (
            "kinetic worker start",
            "kinetic worker start kinetic-local --limit 1",
            "kinetic worker start kinetic-gke --work-queue sweeps",
        ),
        "manifest": (
            "kinetic worker manifest | kubectl apply -f -",
            "kinetic worker manifest --api-url http://prefect-server.prefect.svc/api",
        ),
    },
)
