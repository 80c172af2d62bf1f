"""Keeping Prefect's own lines about our flow off a terminal that already shows it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.logging.handlers import PrefectConsoleHandler

from kinetic_flows.clients.prefect.flow_names import OUR_FLOWS
from kinetic_flows.clients.prefect.internals import SENDING_LOGGERS


class _NotOurs(logging.Filter):
    """Drops what Prefect says of our flow and its tasks; the API still receives all of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "flow_name", None) not in OUR_FLOWS


class _Hushed(logging.Filter):
    """Drops what Prefect's sending threads say while our flows are driven, or an API is away.

    That an API is away is said once, by us.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._driven = 0
        self._is_kept = False
        self._raises = True

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - whatever it is
        return not (self._driven or self._is_kept)

    def begin(self) -> None:
        with self._lock:
            if not self._driven and not self._is_kept:
                # By this Prefect decides whether to write to standard error (3.8.8).
                self._raises, logging.raiseExceptions = logging.raiseExceptions, False
                for name in SENDING_LOGGERS:
                    logging.getLogger(name).addFilter(self)
            self._driven += 1

    def end(self, *, keep: bool) -> None:
        with self._lock:
            self._driven -= 1
            self._is_kept = self._is_kept or keep
            if not self._driven and not self._is_kept:
                logging.raiseExceptions = self._raises


_hushed = _Hushed()


@contextmanager
def quiet_console(outage: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Silence Prefect's console about our flow while one of its runs is driven here.

    Args:
        outage: Whether the API is away, so that Prefect's threads will not stop complaining.
    """
    ours = _NotOurs()
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, PrefectConsoleHandler)
    ]
    for handler in handlers:
        handler.addFilter(ours)
    _hushed.begin()
    try:
        yield
    finally:
        _hushed.end(keep=outage())
        for handler in handlers:
            handler.removeFilter(ours)
