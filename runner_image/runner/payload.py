"""The payload: one call, pickled by the client; `kinetic_flows/code/payload.py` writes it.

A pickle of plain data: `function`, the module and name to import, or None; `sources`, lines of
code without a file; `buffers`, memory of arrays, each as the digests of its pieces; `call`, bytes
and digests of pieces which, joined, are pickles: first the
function or None, its arguments and keyword arguments, then names for `__main__`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from .main_module import fill_main

if TYPE_CHECKING:
    from pathlib import Path


DATA_IN_RUN = ("kinetic_flows.code.data_places", "data_in_run")
"""What stands in a call for the path of data."""


class PayloadRefused(Exception):
    """The payload is not made of plain data."""


class PlainUnpickler(pickle.Unpickler):
    """Reads builtin values and refuses everything else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Refuse what is no plain data."""
        raise PayloadRefused(f"the payload names {module_name}.{global_name}")


def read_payload(path: str) -> dict[str, Any]:
    """Read the frame around the call."""
    with open(path, "rb") as file:
        payload: dict[str, Any] = PlainUnpickler(file).load()
    return payload


class CallUnpickler(pickle.Unpickler):
    """Reads a call, and has paths where its client wrote `kinetic.Data`.

    Args:
        file: The pickle.
        data: The path of each, in the order in which the pickle counts them.
        buffers: The memory of objects that is out of band.
    """

    def __init__(self, file: IO[bytes], data: Sequence[str], buffers: Sequence[Any] = ()) -> None:
        super().__init__(file, buffers=buffers)
        self._data = data

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Find what a name stands for."""
        if (module_name, global_name) == DATA_IN_RUN:
            return self._path
        return super().find_class(module_name, global_name)

    def _path(self, place: int) -> Path:
        from pathlib import Path

        return Path(self._data[place])


def load_call(payload: Mapping[str, Any], pieces: str, data: Sequence[str]) -> tuple[Any, Any, Any]:
    """Return the function, its arguments and its keyword arguments.

    Args:
        payload: The frame.
        pieces: Where parts of the call are that came as objects of their own.
        data: Where each of its data is.
    """
    function = _find_function(payload["function"]) if payload["function"] else None
    file, buffers = _call(payload, pieces)
    # One unpickler, because what comes later may refer to what came before.
    unpickler = CallUnpickler(file, data, buffers)  # all of it checked against digests
    sent, args, kwargs = unpickler.load()
    while file.peek(1):
        fill_main(unpickler.load())
    return function or sent, args, kwargs


def _call(payload: Mapping[str, Any], pieces: str) -> tuple[Any, list[Any]]:
    """Return the pickled call, and the memory that is out of band."""
    parts, buffers = payload["call"], payload["buffers"]
    if not buffers and all(isinstance(part, bytes) for part in parts):
        return io.BufferedReader(io.BytesIO(b"".join(parts))), []
    from .pieces import Parts, open_buffer

    file = io.BufferedReader(Parts(parts, pieces))
    return file, [open_buffer(digests, pieces) for digests in buffers]


def _find_function(reference: Mapping[str, str]) -> Any:
    from importlib import import_module

    found: Any = import_module(reference["module"])
    for part in reference["qualname"].split("."):
        found = getattr(found, part)
    return found
