"""The run's `__main__`: the script that was `__main__` where the call was made.

It is not executed: a script may do anything when it is. What of it the call needs is put into it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


def install_main(file: str | None, name: str | None) -> ModuleType:
    """Make the module `__main__` of this process, and return it.

    Processes that multiprocessing starts find in it what to execute: the script by its file,
    or a module by its name.

    Args:
        file: The script that shipped; None for a notebook or an interactive session.
        name: The module that was started with `python -m`; None for a script.
    """
    module = ModuleType("__main__")
    # Set by the interpreter in what it starts, and read by multiprocessing and inspect.
    module.__dict__.update(__spec__=None, __builtins__=sys.modules["builtins"])
    if file and os.path.isfile(file):
        from importlib.machinery import ModuleSpec, SourceFileLoader

        loader = SourceFileLoader("__main__", file)
        module.__dict__.update(__file__=file, __loader__=loader, __cached__=None)
        if name:
            module.__dict__.update(__spec__=ModuleSpec(name, loader, origin=file))
    if name:
        module.__dict__.update(__package__=name.rpartition(".")[0])
    # Both names, as in a process that has imported multiprocessing.
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    return module


def fill_main(names: Mapping[str, Any]) -> None:
    """Put what the call brought along into `__main__`, where it is looked up by name."""
    variables = vars(sys.modules["__main__"])
    variables.update(names)
    # cloudpickle puts the dictionary there, and a main module has the module.
    variables["__builtins__"] = sys.modules["builtins"]


def add_sources(sources: Mapping[str, str]) -> None:
    """Let tracebacks and inspect find lines of code that has no file here."""
    import linecache

    for name, text in sources.items():
        # Without a time of modification an entry is never looked for on disk.
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
