"""What is used of Prefect 3.8.8 and prefect-kubernetes 0.8 without being promised by them.

Everything of the kind stands here, so that one test can tell when a release takes it away
(tests/unit/test_internals.py); docs/upstream.md says what each is for and what would replace it.
"""

from __future__ import annotations

import random
import sys
import threading
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from kinetic_flows.core.waits import try_failed

if TYPE_CHECKING:
    import httpx
    from prefect import Flow
    from prefect.results import ResultStore
    from prefect.workers.base import BaseJobConfiguration

SENDING_LOGGERS = ("prefect.events.clients", "prefect._internal.concurrency")
"""Loggers of Prefect's threads that send logs and events, which complain for each one."""

WORKERS_VIEW = "aggregate-worker-metadata"
"""What Prefect's server calls its list of types of workers."""

HTTP_UNAVAILABLE = 503
BUSY_RETRY_SECONDS = (0.05, 0.3, 1.0, 3.0, 8.0)
"""Pauses before each further try of a request that the server was too busy for."""

_first_import = threading.Lock()


def server_application() -> Any:
    """Return the application of Prefect's server as its own program runs it.

    Which types of workers there are it knows from the list that ships with it; it would ask GitHub
    for a newer one whenever a worker starts or a page asks (3.8.8).
    """
    from prefect.server.api import collections
    from prefect.server.api.server import create_app

    collections.KNOWN_VIEWS = {**collections.KNOWN_VIEWS, WORKERS_VIEW: ""}
    # Final: the only one of this process, of which Prefect then keeps less in memory.
    return create_app(final=True)


def result_store_of(flow: Flow[..., Any]) -> ResultStore:
    """Return where the results of a flow's tasks are kept, whether or not an event loop runs."""
    from prefect.results import get_result_store

    found: Any = get_result_store()
    return cast("ResultStore", found.update_for_flow(flow, _sync=True))


def send_events_to(api_url: str) -> None:
    """Have no events of this process, and so no task runs, go to another server than this one.

    Prefect keeps one sender for all the servers of its own kind: the server at which a process sent
    its first event would get all that come later, and one that is gone would keep them (3.8.8).

    Args:
        api_url: The API that is current from now on.
    """
    worker: Any = sys.modules.get("prefect.events.worker")
    for sender in list(worker.EventsWorker._instances.values()) if worker else ():
        # Nobody knows yet where one sends that is just being started.
        known = getattr(getattr(sender, "_client", None), "_api_url", api_url)
        if isinstance(sender, worker.EventsWorker) and known != api_url:
            # It sends what it has, and is not given anything more.
            sender._stop()


def early_retries() -> dict[str, Any]:
    """Return the settings of httpx by which Prefect's client retries a busy server soon."""
    return {"event_hooks": {"request": [_note_retry], "response": [_retry_soon]}}


def _note_retry(request: httpx.Request) -> None:
    """Note that a request is sent once more: the try before has failed."""
    if request.extensions.get("kinetic_sent"):
        try_failed()
    request.extensions["kinetic_sent"] = True


def _retry_soon(response: httpx.Response) -> None:
    """Ask Prefect's client for an early retry when the server was merely busy.

    A server on SQLite answers 503 when two transactions collide, which is over in
    milliseconds; the client would wait two seconds and more.
    """
    if response.status_code == HTTP_UNAVAILABLE and "Retry-After" not in response.headers:
        tries = response.request.extensions.setdefault("kinetic_tries", 0)
        response.request.extensions["kinetic_tries"] = tries + 1
        pause = BUSY_RETRY_SECONDS[min(tries, len(BUSY_RETRY_SECONDS) - 1)]
        # Callers that collided once would collide again if they all waited equally long.
        response.headers["Retry-After"] = str(pause * random.uniform(0.5, 1.5))  # noqa: S311


@lru_cache(maxsize=1)
def explicit_job_configuration() -> type[BaseJobConfiguration]:
    """Return the Kubernetes worker's job configuration, minus what it takes from this process."""
    with _first_import:
        # The package is not typed.
        worker: Any = import_module("prefect_kubernetes.worker")
    base: Any = worker.KubernetesWorkerJobConfiguration

    class ExplicitJobConfiguration(base):  # type: ignore[misc]
        """A job configuration whose pods get the variables they are given, and no others.

        Prefect's own hands every setting of this process to the pod: the database's URL and
        the API key too.
        """

        @classmethod
        def _base_environment(cls) -> dict[str, str]:
            return {}

        @staticmethod
        def _base_flow_run_environment(flow_run: Any) -> dict[str, str]:  # noqa: ARG004
            return {}

        @staticmethod
        def _base_attribution_environment(**ignored: Any) -> dict[str, str]:  # noqa: ARG004
            return {}

        def _configure_eviction_handling(self) -> None:
            """Leave SIGTERM to the runner, which knows no Prefect settings."""

    return cast("type[BaseJobConfiguration]", ExplicitJobConfiguration)
