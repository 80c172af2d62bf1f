"""Settings and options of our own flows and tasks, whatever Prefect's defaults are.

Prefect has defaults that people set for flows of their own: retries, persistence, caching,
prints as log lines. A flow or task that left one of them open would follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy
from prefect.context import TaskRunContext
from prefect.settings import temporary_settings

P = ParamSpec("P")
R = TypeVar("R")

OWN_SETTINGS: Mapping[str, Any] = {
    # A flow shorter than a second waits for its heartbeat's thread (Prefect 3.8.8). The
    # ledger of clients and the reconciler find flow runs whose client has died.
    "flows.heartbeat_frequency": None,
    "flows.default_retries": 0,
    "flows.default_retry_delay_seconds": 0,
    "tasks.default_retries": 0,
    "tasks.default_retry_delay_seconds": 0,
    "tasks.default_persist_result": None,
    "tasks.default_no_cache": False,
    "tasks.disable_caching": False,
    "tasks.refresh_cache": False,
    # Images are built while code is uploaded.
    "tasks.runner.thread_pool_max_workers": None,
    "results.persist_by_default": False,
    "results.default_serializer": "pickle",
    "results.default_storage_block": None,
    "logging.log_prints": False,
    "logging.to_api.when_missing_flow": "ignore",
}
"""Every setting that is a default for flows and tasks, by its path in Prefect's settings."""


@contextmanager
def own_settings(**others: Any) -> Iterator[None]:
    """Keep Prefect's defaults for people's flows from our own, in this block.

    Args:
        **others: Further settings, by their paths; to change settings takes some milliseconds.
    """
    with temporary_settings({**OWN_SETTINGS, **others}):
        yield


def own_task(
    name: str,
    *,
    run_name: str | None = None,
    cached_by: Callable[[TaskRunContext, dict[str, Any]], str] | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of a function.

    Args:
        name: The task's name.
        run_name: What its runs are called, parameters in braces; None for the task's name.
        cached_by: Returns the cache key of a task run, whose result has to be JSON and is
            persisted; None for a task that is not cached and whose result is not persisted.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        policy = CacheKeyFnPolicy(cache_key_fn=cached_by) if cached_by else NO_CACHE
        made: Task[P, R] = Task(
            function,
            name=name,
            task_run_name=run_name or name,
            cache_policy=policy,
            persist_result=cached_by is not None,
            result_serializer="json" if cached_by else None,
            refresh_cache=False,
            retries=0,
            retry_delay_seconds=0,
            log_prints=False,
        )
        # PREFECT_TASKS_DISABLE_CACHING replaces the policy that was given (3.8.8).
        made.cache_policy = policy  # type: ignore[assignment]
        return made

    return decorate
