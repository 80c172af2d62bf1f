"""The Prefect settings that our own flows run under, whatever people set for theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect.settings import temporary_settings

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
