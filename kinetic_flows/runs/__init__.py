"""A run's life, from its launch to its result."""

from __future__ import annotations

from importlib import import_module


def __getattr__(name: str) -> object:
    # What version 0.1 pickled and documented under this module's name.
    if name in {"Run", "attach", "list_runs"}:
        return getattr(import_module("kinetic_flows.api.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
