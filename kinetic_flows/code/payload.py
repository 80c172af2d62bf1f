"""The payload: one call, pickled for the run.

A payload is a pickle of `{"function": {"module", "qualname"} or None, "sources": {file name: text},
"call": [bytes or digest, ...]}`. The pieces of `call`, joined, are a pickle of `(function or None,
args, kwargs)` and any number of pickles of `{name: value}` for the run's `__main__`; they are
nested so that the runner can settle in before it imports anything of the project. A piece may be
an object of its own, named by its digest, which calls that have it in common share. `sources` has
the lines of code that has no file in the run.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kinetic_flows.code.data_places import with_data_defaults
from kinetic_flows.code.main_module import MAIN_NAMES
from kinetic_flows.code.named_objects import PROTOCOL
from kinetic_flows.code.pickling import (
    found_by_name,
    is_importable_in_run,
    is_reachable_by_name,
    pickle_into,
)
from kinetic_flows.code.reprs import argument_reprs
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.code.unpicklable import largest_part, unpicklable_error
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import Sha256

__all__ = ["PIECE_BYTES", "Payload", "Piece", "argument_reprs", "pack_call", "require_same_python"]

LARGE_BYTES = 50_000_000

PIECE_BYTES = 32_768
"""Size from which on calls that have a part in common share it."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A large part of a pickled call.

    Attributes:
        sha256: Its digest.
        size_bytes: Its size.
        data: Its bytes; empty once the store has them.
    """

    sha256: Sha256
    size_bytes: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Payload:
    """A pickled call.

    Attributes:
        content: The bytes to store.
        sha256: Their digest.
        warnings: What the person should know, a sentence each.
        pieces: Large parts of the call that are objects of their own.
        modules: Modules that the run imports to restore it.
        data: The `kinetic.Data` in it, equal ones once; the pickle names them by their places.
    """

    content: bytes
    sha256: Sha256
    warnings: tuple[str, ...]
    pieces: tuple[Piece, ...] = ()
    modules: frozenset[str] = frozenset()
    data: tuple[Data, ...] = ()


def pack_call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    root: PackageRoot,
    piece_bytes: int | None = None,
) -> Payload:
    """Pickle a call.

    Args:
        function: The plain function.
        args: Its positional arguments, `self` included.
        kwargs: Its keyword arguments.
        root: The package root, which decides what a run can import.
        piece_bytes: From which size on a part becomes a piece of its own; None for no pieces.

    Raises:
        UnpicklableError: An argument, or something the function uses, cannot be pickled.
    """
    reference = function_reference(function, root)
    if reference:
        kwargs = with_data_defaults(function, args, kwargs)
    call = (None if reference else function, args, kwargs)
    try:
        pickled = pickle_into(partial(_PickledCall, piece_bytes), call, root)
    except Exception as error:  # pickling runs other people's code
        raise unpicklable_error(function, call, error, root) from error
    parts, pieces = pickled.file.split()
    framed = {
        "function": reference,
        "sources": dict(pickled.sources),
        "call": parts,
    }
    payload = pickle.dumps(framed, protocol=PROTOCOL)
    return Payload(
        content=payload,
        sha256=sha256_hex(payload),
        warnings=(
            *_by_value_warnings(pickled.by_value),
            *_size_warnings(call, pickled.file.size_bytes, root),
        ),
        pieces=pieces,
        modules=pickled.modules,
        data=pickled.data,
    )


class _PickledCall:
    """A file for a pickler, which writes what is large in one go and the rest in frames.

    Equal objects at equal places of two calls are therefore equal writes.

    Args:
        piece_bytes: From which size on a write becomes a piece; None for no pieces.
    """

    def __init__(self, piece_bytes: int | None) -> None:
        self._piece_bytes = piece_bytes
        self._parts: list[bytearray | Piece] = []
        self.size_bytes = 0

    def write(self, data: Any, /) -> int:
        """Take what the pickler writes: bytes, or a view of an object's memory."""
        size = memoryview(data).nbytes
        self.size_bytes += size
        if self._piece_bytes is not None and size >= self._piece_bytes:
            content = bytes(data)
            piece = Piece(sha256=sha256_hex(content), size_bytes=size, data=content)
            self._parts.append(piece)
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += data
        else:
            self._parts.append(bytearray(data))
        return size

    def split(self) -> tuple[list[bytes | str], tuple[Piece, ...]]:
        """Return the parts as they stand in the payload, and each piece once."""
        pieces = {part.sha256: part for part in self._parts if isinstance(part, Piece)}
        parts = [
            str(part.sha256) if isinstance(part, Piece) else bytes(part) for part in self._parts
        ]
        return parts, tuple(pieces.values())


def function_reference(function: Callable[..., Any], root: PackageRoot) -> dict[str, str] | None:
    """Return the name by which a run imports a function; None when it has to be pickled."""
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not module or not qualname or module in MAIN_NAMES:
        return None
    if not is_reachable_by_name(function, found_by_name(function)):
        return None
    if not is_importable_in_run(module, root):
        return None
    return {"module": module, "qualname": qualname}


def require_same_python(client: str, runner: str) -> None:
    """Refuse a run whose Python would misread this one's pickles.

    Args:
        client: Python minor version here, such as `3.11`.
        runner: Python minor version in the run.

    Raises:
        ConfigurationError: They differ.
    """
    if client != runner:
        raise ConfigurationError(
            f"this is Python {client}, and the run would be Python {runner}",
            value=runner,
            hint=f"run this with Python {runner} (uv run --python {runner} ...), or use an image "
            f"with Python {client}",
        )


def _by_value_warnings(modules: frozenset[str]) -> tuple[str, ...]:
    if not modules:
        return ()
    names = ", ".join(sorted(modules))
    warning = (
        f"what {names} defines travels by value, because it is neither installed nor under the "
        "package root; move it there, or set KINETIC_PACKAGE_ROOT to a directory that holds both"
    )
    return (warning,)


def _size_warnings(
    call: tuple[Any, tuple[Any, ...], dict[str, Any]], size_bytes: int, root: PackageRoot
) -> tuple[str, ...]:
    if size_bytes <= LARGE_BYTES:
        return ()
    name, part_bytes = largest_part(call, root)
    warning = (
        f"the call is {size_in_units(size_bytes)} pickled, of which {name} is "
        f"{size_in_units(part_bytes)}; pass large data as a path or a URI that the run can read"
    )
    return (warning,)
