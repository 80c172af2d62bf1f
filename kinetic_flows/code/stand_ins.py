"""What stands in a pickle for things that a run makes or finds itself.

Each pickles as a call of the standard library, so a run needs nothing of this package.
"""

from __future__ import annotations

import importlib
import os
import pathlib
from collections.abc import Callable
from types import CodeType
from typing import Any


class ModuleInRun:
    """A module as the run imports it.

    Args:
        name: Its full name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self._name,)


class AttributeInRun:
    """What a module of the run has under a name.

    Args:
        module: The module's full name.
        name: The name.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (ModuleInRun(self._module), self._name)


class GlobalsInRun(dict[str, Any]):
    """The global variables of a module of the run; cloudpickle takes it for a function's own.

    Args:
        module: The module's full name.
    """

    def __init__(self, module: str) -> None:
        # cloudpickle fills in what is empty.
        super().__init__(__name__=module)

    def __reduce__(self) -> tuple[Any, ...]:
        return vars, (ModuleInRun(self["__name__"]),)


class PathInRun:
    """Where a shipped file lies in the run, as text or as a path object.

    Args:
        relative: Where it lies, seen from the working directory, in which runs unpickle.
        kind: What to make of it: a class of `pathlib`, or None for text.
    """

    def __init__(self, relative: str, kind: type[pathlib.PurePath] | None = None) -> None:
        self._relative = relative
        self._kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        if self._kind is not None:
            return self._kind, (PathInRun(self._relative),)
        return os.path.abspath, (self._relative,)


class MadeInRun:
    """What a run makes for itself.

    Args:
        make: What makes it, without arguments.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __reduce__(self) -> tuple[Any, ...]:
        return self._make, ()


class FrozenSetInRun:
    """A frozen set as a run makes it; its parts pickle in an order that is the same each time.

    Args:
        parts: What is in it.
    """

    def __init__(self, parts: frozenset[Any]) -> None:
        self._parts = sorted(parts, key=repr)

    def __reduce__(self) -> tuple[Any, ...]:
        return frozenset, (self._parts,)


def with_ordered_sets(code: CodeType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a code object's reduction with its constant sets in an order of their own.

    That of strings is another one in each process, and with it the digest of a script's call.

    Args:
        code: The code object.
        reduced: What cloudpickle makes of it.
    """
    if not any(isinstance(each, frozenset) for each in code.co_consts):
        return reduced
    make, arguments, *rest = reduced
    ordered = tuple(
        FrozenSetInRun(each) if isinstance(each, frozenset) else each for each in code.co_consts
    )
    return make, tuple(ordered if each is code.co_consts else each for each in arguments), *rest
