"""How an exception is pickled that goes back to the client.

Python pickles an exception as its class and its `args`, which the class's own `__init__` need not
take. So those of people's classes are made without it: by `__new__`, with every attribute set
afterwards. What cannot go along is left out and said in a note; an exception that cannot go at
all is replaced by one that says what it was.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from typing import Any

from .result_pickler import pickler_class

_TEXT_CHARACTERS = 500
_OWN_REDUCTIONS = (
    *("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"),
    *("__getnewargs__", "__getnewargs_ex__"),
)
_SUPPRESSED = "__suppress_context__"


def pickle_exception(error: BaseException) -> bytes:
    """Pickle an exception with its causes, its group and its notes, as far as each can go.

    Returns:
        The pickle, which can be read; empty when the exception itself cannot go.
    """
    return _readable(error, careful=False) or _readable(error, careful=True) or b""


def _readable(error: BaseException, *, careful: bool) -> bytes | None:
    """Return a pickle that gives an exception of the same class when it is read; None for none."""
    try:
        data = _dumped(error, careful=careful)
        made = pickle.loads(data)  # noqa: S301 - made just now
    except Exception:  # noqa: BLE001 - pickling runs the classes' own code
        return None
    return data if isinstance(made, type(error)) else None


def _dumped(value: Any, *, careful: bool) -> bytes:
    """Pickle a value; `careful` tries every part of an exception by itself."""

    class Pickler(pickler_class()):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, BaseException):
                return _carefully_reduced(obj) if careful else _reduced(obj)
            return super().reducer_override(obj)

    buffer = io.BytesIO()
    Pickler(buffer).dump(value)
    return buffer.getvalue()


def _reduced(error: BaseException) -> Any:
    """Return how an exception is made again."""
    if _is_pickled_its_own_way(type(error)):
        return _with_state(error.__reduce_ex__(5), _surroundings(error))
    return copyreg.__newobj__, (type(error), *error.args), _state(error)  # type: ignore[attr-defined]


def _carefully_reduced(error: BaseException) -> Any:
    """Return the first way to make an exception again that works, without what cannot go."""
    lost: list[str] = []
    args = tuple(_kept(value, f"args[{index}]", lost) for index, value in enumerate(error.args))
    state = {name: _kept(value, f".{name}", lost) for name, value in _state(error).items()}
    if "args" in state:
        state["args"] = args
    if lost:
        notes = [note for note in state.get("__notes__", ()) if isinstance(note, str)]
        state["__notes__"] = [*notes, f"did not come along from the run: {'; '.join(lost)}"]
    kind = type(error)
    ways = [
        (copyreg.__newobj__, (kind, *args), state),  # type: ignore[attr-defined]
        # A class may have a `__new__` of its own, or attributes that cannot be set.
        (_builtin_base(kind).__new__, (kind, *args), state),
        (kind, args, _surroundings(error)),
        (kind, args),
    ]
    if _is_pickled_its_own_way(kind):
        ways.insert(0, _with_state(error.__reduce_ex__(5), _surroundings(error)))
    for way in ways:
        if _can_be_read(_Made(way)):
            return way
    text = _text(error)[:_TEXT_CHARACTERS]
    return RuntimeError, (f"{kind.__module__}.{kind.__qualname__}: {text}",)


class _Made:
    """Stands for an exception, and pickles as a way to make it."""

    def __init__(self, way: Any) -> None:
        self._way = way

    def __reduce__(self) -> Any:
        return self._way


def _kept(value: Any, name: str, lost: list[str]) -> Any:
    """Return a value if it can go, else its text; what is lost is noted."""
    try:
        pickle.loads(_dumped(value, careful=True))  # noqa: S301 - made just now
    except Exception as error:  # noqa: BLE001 - pickling runs the value's own code
        lost.append(f"{name} ({type(error).__name__}: {_text(error)[:_TEXT_CHARACTERS]})")
        return f"<{type(value).__qualname__}>"
    return value


def _can_be_read(value: Any) -> bool:
    try:
        return isinstance(pickle.loads(_dumped(value, careful=True)), BaseException)  # noqa: S301
    except Exception:  # noqa: BLE001 - as above
        return False


def _is_pickled_its_own_way(kind: type) -> bool:
    """Whether a class is built in, or says itself how its objects are pickled."""
    own = kind.__mro__[: kind.__mro__.index(_builtin_base(kind))]
    return not own or any(name in vars(item) for item in own for name in _OWN_REDUCTIONS)


def _builtin_base(kind: type) -> Any:
    return next(item for item in kind.__mro__ if item.__module__ == "builtins")


def _state(error: BaseException) -> dict[str, Any]:
    """Return every attribute of an exception: its own, and those built into its class."""
    state: dict[str, Any] = {}
    base = _builtin_base(type(error))
    if base is not Exception:
        # Such as `errno` and `filename`: the built-in `__init__` would set them.
        names = [name for kind in base.__mro__[:-2] for name in vars(kind)]
        found = {name: getattr(error, name, None) for name in names if not name.startswith("_")}
        state = {k: v for k, v in found.items() if v is not None and not callable(v)}
        if isinstance(error, BaseExceptionGroup):
            state = {}
        elif isinstance(error, OSError):
            state.pop("characters_written", None)
            state["args"] = error.args
    return {**state, **vars(error), **_surroundings(error)}


def _surroundings(error: BaseException) -> dict[str, Any]:
    """Return what led to an exception, as attributes."""
    found: dict[str, Any] = {}
    if error.__cause__ is not None:
        found["__cause__"] = error.__cause__
    if error.__context__ is not None and not error.__suppress_context__:
        found["__context__"] = error.__context__
    if error.__suppress_context__:
        found[_SUPPRESSED] = True
    return found


def _with_state(reduced: Any, extra: dict[str, Any]) -> Any:
    """Add to the state of a reduction whose state is a dictionary or none."""
    if not isinstance(reduced, tuple) or not extra:
        return reduced
    state = reduced[2] if len(reduced) > 2 else None
    if state is None or isinstance(state, dict):
        return (*reduced[:2], {**(state or {}), **extra}, *reduced[3:])
    return reduced


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a text that cannot be had must not hide the error
        return "<no text: its __str__ raised>"
