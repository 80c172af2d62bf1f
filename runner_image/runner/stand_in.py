"""Stands in, in a run without kinetic-flows, for a module of it that only clients can use.

It is there under the module's own name. Whatever modules of a project take from it when they are
imported can be named there, and says that it cannot be used when it is.
"""

from __future__ import annotations

from typing import Any


def run(*args: Any, **_options: Any) -> Any:
    """Decorate a function, whether bare or with options: inside a run it is the plain function."""
    from kinetic_flows.core.inside_run import as_inside_run

    return as_inside_run(args[0]) if args and callable(args[0]) else as_inside_run


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = _class(name) if name[:1].isupper() else _function(name, name)
    # Kept, since a class is one class, and pickle finds it by its name.
    globals()[name] = made
    return made


class _StandInType(type):
    """Makes classes that can be named, annotated with and asked for, and that have no objects."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        return _function(f"{cls.__name__}.{name}", name)

    def __call__(cls, /, *_args: Any, **_kwargs: Any) -> Any:
        raise _refusal(cls.__name__)


def _class(name: str) -> type:
    def refuse(_cls: Any, /, *_args: Any, **_kwargs: Any) -> Any:
        raise _refusal(name)

    members = {
        "__module__": __name__,
        "__new__": refuse,
        "__class_getitem__": classmethod(lambda cls, _item: cls),
    }
    return _StandInType(name, (), members)


def _function(qualname: str, name: str) -> Any:
    def function(*_args: Any, **_kwargs: Any) -> Any:
        raise _refusal(qualname)

    function.__module__, function.__name__, function.__qualname__ = __name__, name, qualname
    return function


def _refusal(name: str) -> Exception:
    import kinetic_flows
    from kinetic_flows.core.errors import UsageError

    is_public = name.partition(".")[0] in kinetic_flows.__all__
    full_name = f"kinetic.{name}" if is_public else f"{__name__}.{name}"
    return UsageError(
        f"{full_name} cannot be used inside this run, which does not have kinetic-flows",
        value=name,
        hint="add kinetic-flows to the project's dependencies if the function needs it",
    )
