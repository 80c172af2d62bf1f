"""What the worker leaves for the supervisor: how the call ended, and the pickled value.

Two files in the worker's directory: the body, and then, renamed into place when all is
written, a JSON object of header fields. An outcome that is there is complete.
"""

from __future__ import annotations

import json
import os
from typing import IO, Any

from .contract import EXIT_RESULT_NOT_WRITTEN, NO_ROOM, RESULT_TOO_LARGE
from .masks import Masks

TASK_FILE = "task.json"
"""What the worker finds in its directory: the supervisor has left it there."""

OUTCOME_FILE = "outcome.json"
BODY_FILE = "outcome.body"
REPR_CHARACTERS = 200
MESSAGE_CHARACTERS = 10_000


def read_outcome(directory: str) -> dict[str, Any] | None:
    """Return the outcome the worker left; None when it left none."""
    try:
        with open(os.path.join(directory, OUTCOME_FILE), encoding="utf-8") as file:
            outcome: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return outcome


def leave_value(directory: str, value: Any, masks: Masks) -> None:
    """Leave a returned value, or that it cannot be pickled.

    Args:
        directory: Where the outcome goes.
        value: The value.
        masks: Put in the place of what no description of the value may show.
    """
    from .result_pickler import dump_value

    try:
        buffers = dump_value(value, lambda: _body(directory))
    except Exception as error:  # noqa: BLE001 - pickling runs the value's own code
        with _body(directory):
            pass
        if _is_for_want_of_room(error):
            leave_fault(directory, EXIT_RESULT_NOT_WRITTEN, _no_room(value, error, directory))
            return
        why = f"{type(error).__name__}: {error}"
        message = f"{_short_repr(value, masks)} ({masks.text(why)[:MESSAGE_CHARACTERS]})"
        _leave(directory, status="unpicklable", type_name=type_name(value), message=message)
    else:
        message = _short_repr(value, masks)
        told = {"status": "returned", "type_name": type_name(value), "message": message}
        _leave(directory, **told, **({"buffers": buffers} if buffers else {}))


def leave_exception(
    directory: str, error: BaseException, traceback: str, masks: Masks, frames: bytes = b""
) -> None:
    """Leave what the function raised, pickled where that is possible.

    Args:
        directory: Where the outcome goes.
        error: The exception.
        traceback: Its traceback, as it was printed: masked.
        masks: Put in the place of what its message may not show.
        frames: What is told of its frames, behind the pickle.
    """
    from .device_memory import out_of_memory
    from .masked_exceptions import mask_exception
    from .raised import pickle_exception

    lacking = out_of_memory(error)
    mask_exception(error, masks)
    with _body(directory) as body:
        body.write(pickle_exception(error))
        body.write(frames)
    _leave(
        directory,
        status="raised",
        type_name=type_name(error),
        message=masks.text(safe_str(error))[:MESSAGE_CHARACTERS],
        traceback=traceback,
        **({"out_of_memory": masks.text(lacking)} if lacking else {}),
    )


def leave_fault(directory: str, exit_code: int, message: str, traceback: str = "") -> None:
    """Leave that the call never began, with the exit code of the phase that failed."""
    _leave(directory, status="fault", message=message, traceback=traceback, exit_code=exit_code)


def type_name(value: Any) -> str:
    """Return the qualified name of a value's type, without `builtins`."""
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def safe_str(value: BaseException) -> str:
    """Return an exception's text, whatever its own code does."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a text that cannot be had must not hide the error
        return "<no text: its __str__ raised>"


def _is_for_want_of_room(error: Exception) -> bool:
    is_full = isinstance(error, OSError) and error.errno in NO_ROOM
    return is_full or isinstance(error, MemoryError)


def _no_room(value: Any, error: Exception, directory: str) -> str:
    """Say that a value cannot be kept until it is stored."""
    import shutil

    from .data_work import in_words

    if isinstance(error, MemoryError):
        where = "in memory once more, to be pickled"
    else:
        free = in_words(shutil.disk_usage(directory).free)
        where = f"on the disk of the run, which has {free} left"
    return f"{RESULT_TOO_LARGE}: the {type_name(value)} finds no room {where}"


def _body(directory: str) -> IO[bytes]:
    return open(os.path.join(directory, BODY_FILE), "wb")


def _leave(directory: str, **fields: Any) -> None:
    path = os.path.join(directory, OUTCOME_FILE)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(fields, file)
    os.replace(path + ".new", path)


def _short_repr(value: Any, masks: Masks) -> str:
    """Describe a value, of which a large container is not spelled out."""
    from reprlib import Repr

    class ShortRepr(Repr):
        def repr_instance(self, x: Any, level: int) -> str:  # noqa: ARG002
            return repr(x)

        def repr_str(self, x: str, level: int) -> str:
            # Masked before it is cut: of half a value nobody would know that it is one.
            return super().repr_str(masks.text(x), level)

    short = ShortRepr()
    short.maxstring = short.maxlong = short.maxother = REPR_CHARACTERS
    try:
        text = short.repr(value)
    except Exception:  # noqa: BLE001 - as above
        return f"<{type_name(value)}>"
    text = masks.text(text)
    return text if len(text) <= REPR_CHARACTERS else text[:REPR_CHARACTERS] + "…"
