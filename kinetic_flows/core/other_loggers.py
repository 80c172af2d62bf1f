"""What other libraries log while they work for us: not the person's business, nor their handlers'.

Handlers of the root logger get what every library says, and some say everything: at `DEBUG` the
requests with which Prefect's client logs in. So those handlers have a filter from the first call
on. It drops what was said for us; what a person's own code, flows and libraries say passes as they
have set it up. Our own loggers, `kinetic_flows`, always pass.

Importing Prefect sets up logging for the whole program. Where a call of ours imports it, the root
logger is as it was afterwards.
"""

from __future__ import annotations

import logging
import sys
import threading

from kinetic_flows.core import api_boundary
from kinetic_flows.core.internals import give_handlers_back, take_handlers
from kinetic_flows.core.settings.settings import is_debugging

OTHERS = frozenset(
    {
        *("prefect", "prefect_gcp", "prefect_kubernetes", "graphviz", "docket", "fsspec", "gcsfs"),
        *("httpx", "httpcore", "h2", "hpack", "websockets", "anyio", "asyncio", "concurrent"),
        *("google", "grpc", "urllib3", "requests", "googleapiclient", "google_auth_httplib2"),
        *("kubernetes", "kubernetes_asyncio", "kubernetes_client", "aiohttp", "kopf"),
        *("uvicorn", "fastapi", "sqlalchemy", "aiosqlite", "alembic", "opentelemetry"),
        *("APILogWorker", "EventsWorker"),  # Prefect's threads that send logs and events
        *("docker", "filelock", "rich", "markdown_it", "pydantic"),
    }
)
"""First parts of the names of loggers of what we are made of."""

OWN_FLOW_PREFIX = "kinetic-"
"""How the names of our flows begin."""

_LOOP_THREADS = "EventLoopThread"
"""How the names of Prefect's threads end in which event loops start, without a context."""


class _HeldBack(logging.Filter):
    """Drops what other libraries say for us.

    Threads that they start for us, such as Prefect's that sends logs, are told by their context:
    it is the one in which they were started.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        flow = getattr(record, "flow_name", None)
        if flow is not None:
            is_ours = str(flow).startswith(OWN_FLOW_PREFIX)
        else:
            is_ours = record.name.partition(".")[0] in OTHERS and (
                api_boundary.is_at_work() or str(record.threadName).endswith(_LOOP_THREADS)
            )
        # Below INFO they show headers and bodies, credentials among them: to nobody.
        return not is_ours or (record.levelno >= logging.INFO and is_debugging())


class _WhereNobodyElseListens(logging.Filter):
    """Drops what handlers of the root logger get, too."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - whatever it is
        return not logging.getLogger().handlers


class _BeforePrefect:
    """Logging as a person has set it up, before Prefect is imported for us."""

    def __init__(self) -> None:
        root = logging.getLogger()
        self._handlers, self._level = list(root.handlers), root.level
        self._known = take_handlers()

    def restore(self) -> None:
        """Have logging set up like that again.

        Prefect's console listens to Prefect alone from then on: a person's own flows show there
        what they do, unless the person has given the root logger handlers.
        """
        give_handlers_back(self._known)
        if not _is_prefect_set_up():
            return
        root = logging.getLogger()
        root.setLevel(self._level)
        for handler in root.handlers[:]:
            if handler not in self._handlers and _is_of_prefect(handler):
                root.removeHandler(handler)
                handler.addFilter(_held_back)
                handler.addFilter(_WhereNobodyElseListens())
                logging.getLogger("prefect").addHandler(handler)
        for handler in self._handlers:
            root.addHandler(handler)


_held_back = _HeldBack()
_lock = threading.Lock()
_before_prefect: _BeforePrefect | None = None
_working = 0


def begin_work() -> None:
    """Hold back what is said for us, at the beginning of a call."""
    global _before_prefect, _working
    with _lock:
        _working += 1
        if _before_prefect is None and not _is_prefect_set_up():
            _before_prefect = _BeforePrefect()
    hold_back()


def end_work() -> None:
    """Leave logging as a person has set it up, at the end of a call."""
    global _working
    with _lock:
        _working -= 1
    hold_back()


def hold_back() -> None:
    """Have the handlers of the root logger drop what is said for us."""
    global _before_prefect
    with _lock:
        if _before_prefect is not None and (_is_prefect_set_up() or not _working):
            _before_prefect.restore()
            _before_prefect = None
    for handler in (*logging.getLogger().handlers, logging.lastResort):
        if handler is not None:
            # Adds it once.
            handler.addFilter(_held_back)


def _is_prefect_set_up() -> bool:
    """Whether Prefect has set up logging, which its import does."""
    configuration = sys.modules.get("prefect.logging.configuration")
    return bool(getattr(configuration, "PROCESS_LOGGING_CONFIG", None))


def _is_of_prefect(handler: logging.Handler) -> bool:
    return type(handler).__module__.partition(".")[0] == "prefect"
