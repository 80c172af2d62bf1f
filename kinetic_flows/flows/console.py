"""Keeping Prefect's own console lines about our flow off a terminal that already shows it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging.handlers import PrefectConsoleHandler

from kinetic_flows.naming import OUR_FLOWS


class _NotOurs(logging.Filter):
    """Drops what Prefect says of our flow and its tasks; the API still receives all of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "flow_name", None) not in OUR_FLOWS


@contextmanager
def quiet_console() -> Iterator[None]:
    """Silence Prefect's console about our flow while one of its runs is driven here."""
    ours = _NotOurs()
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, PrefectConsoleHandler)
    ]
    for handler in handlers:
        handler.addFilter(ours)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(ours)
