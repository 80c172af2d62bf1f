"""`prefect.get_run_logger()` in a function that is no flow but has Prefect.

Prefect is never imported here. When the function imports it, its `get_run_logger` gets an answer
where it would raise: a logger of this run, whose records are kept as all others are. It is not
connected to Prefect's own sending of logs, which would need credentials that the function has not,
and would keep each record twice.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

_MODULE = "prefect.logging.loggers"
_LOGGER = "prefect.flow_runs"


def offer_run_logger(flow_run_id: str, name: str) -> None:
    """Have `get_run_logger()` work, should the function import Prefect.

    Args:
        flow_run_id: The run's id.
        name: The function's name.
    """
    extra = {"flow_run_id": flow_run_id, "flow_run_name": name, "flow_name": name}
    sys.meta_path.insert(0, _Finder(extra))


class _Finder(MetaPathFinder):
    """Finds one module as the others do, and has its loader go on to `_answer`."""

    def __init__(self, extra: dict[str, str]) -> None:
        self._extra = extra

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> Any:
        """Return where a module is; None for all but one, which others find."""
        if fullname != _MODULE:
            return None
        found: ModuleSpec | None = None
        for finder in sys.meta_path:
            if finder is not self and found is None:
                found = finder.find_spec(fullname, path, target)
        if found is not None and found.loader is not None:
            found.loader = _Loader(found.loader, self._extra)
        return found


class _Loader(Loader):
    """Loads a module as another loader does, and completes it."""

    def __init__(self, loader: Any, extra: dict[str, str]) -> None:
        self._loader = loader
        self._extra = extra

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> Any:
        """Make the module."""
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Run the module's code."""
        self._loader.exec_module(module)
        _answer(module, self._extra)


def _answer(module: Any, extra: dict[str, str]) -> None:
    """Replace a module's `get_run_logger` by one that knows of this run."""
    original: Callable[..., Any] | None = getattr(module, "get_run_logger", None)
    adapter: Any = getattr(module, "PrefectLogAdapter", logging.LoggerAdapter)
    if original is None:
        return

    def get_run_logger(context: Any = None, **kwargs: Any) -> Any:
        try:
            return original(context, **kwargs)
        except RuntimeError:  # such as MissingContextError: this is no flow
            if context is not None:
                raise
        return adapter(_run_logger(), extra={**extra, **kwargs})

    get_run_logger.__doc__ = original.__doc__
    module.get_run_logger = get_run_logger


def _run_logger() -> logging.Logger:
    """Return a logger with the name that Prefect's have, and its console but not its sending."""
    logger = logging.Logger(_LOGGER, logging.INFO)
    logger.parent = logging.getLogger("prefect")
    return logger
