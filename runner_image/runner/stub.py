"""Stands in for `kinetic` where it is not installed, so that shipped modules can be imported.

Inside a run a decorated function is its plain function; nothing else can be used there.
"""

from __future__ import annotations

from typing import Any


class KineticError(Exception):
    """Stands in for every error of kinetic."""


def run(*args: Any, **_options: Any) -> Any:
    """Return the function as it is, whether the decorator is used bare or with options."""
    return _as_it_is(args[0]) if args and callable(args[0]) else _as_it_is


def _as_it_is(function: Any) -> Any:
    """Return a function that answers what modules ask of a decorated one when they are imported."""
    try:
        if not hasattr(function, "fn"):
            # A Prefect flow calls what its own `fn` names.
            function.fn = function
        function.with_options = lambda **_options: function
        function.as_flow = lambda: function
    except (AttributeError, TypeError):
        # Not every callable takes attributes.
        pass
    return function


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if name[:1].isupper():
        return _class(name)
    return _Unavailable(name)


def _class(name: str) -> type[KineticError]:
    def refuse(_class: Any, *_args: Any, **_kwargs: Any) -> Any:
        raise _refusal(name)

    members = {"__new__": refuse, "__class_getitem__": classmethod(lambda cls, _item: cls)}
    return type(name, (KineticError,), members)


class _Unavailable:
    """Something of kinetic that can be named inside a run, and no more."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise _refusal(self._name)

    def __getattr__(self, name: str) -> Any:
        raise _refusal(self._name)


def _refusal(name: str) -> RuntimeError:
    return RuntimeError(
        f"kinetic.{name} cannot be used inside a run: kinetic is not installed there; "
        "add kinetic-flows to the project's dependencies if the function needs it"
    )
