"""The door to heavy modules, which are imported when one of their names is first used.

A module behind the door imports all that it needs at its top; those in front of it, which
`import kinetic` and the command load, hold it as a `LazyModule`, and import it for type checkers
alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LazyModule:
    """A module whose names can be used as if it had been imported.

    Args:
        name: The module's full name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)
