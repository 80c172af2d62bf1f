"""The payload: one call, pickled for the run.

A payload is a pickle of `{"function": {"module", "qualname"} or None, "sources": {file name: text},
"call": [bytes or digest, ...], "buffers": [[digest, ...], ...]}`. The parts of `call`, joined, are
a pickle of `(function or None, args, kwargs)` and any number of pickles of `{name: value}` for the
run's `__main__`; they are nested so that the runner can settle in before it imports anything of
the project. A large part of it is one or several objects of their own, named by their digests,
which calls that have them in common share. `buffers` are the memory of arrays and the like, out of
band as pickle protocol 5 has it (https://peps.python.org/pep-0574/): the pieces of each, joined.
`sources` has the lines of code that has no file in the run.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from kinetic_flows.code.data_places import with_data_defaults
from kinetic_flows.code.main_module import MAIN_NAMES
from kinetic_flows.code.named_objects import EARLIER_PROTOCOL, PROTOCOL
from kinetic_flows.code.pickled import Pickled, pickle_into
from kinetic_flows.code.pickling import (
    found_by_name,
    is_importable_in_run,
    is_reachable_by_name,
)
from kinetic_flows.code.pieces import Piece, cut
from kinetic_flows.code.reprs import argument_reprs
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.code.unpicklable import largest_part, unpicklable_error
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import Sha256

__all__ = [
    "SHARED_PIECE_BYTES",
    "Payload",
    "Piece",
    "argument_reprs",
    "pack_call",
    "require_same_python",
]

LARGE_BYTES = 100_000_000
"""What is larger, and is sent anew with every call, is worth a word."""

PIECE_BYTES = 1 << 20
"""Size from which on a part of a call is not copied, but sent from where it is."""

SHARED_PIECE_BYTES = 32_768
"""Size from which on calls that have a part in common share it."""


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
    piece_bytes: int = PIECE_BYTES,
) -> Payload:
    """Pickle a call.

    Args:
        function: The plain function.
        args: Its positional arguments, `self` included.
        kwargs: Its keyword arguments.
        root: The package root, which decides what a run can import.
        piece_bytes: From which size on a part becomes pieces of its own.

    Raises:
        UnpicklableError: An argument, or something the function uses, cannot be pickled.
    """
    reference = function_reference(function, root)
    if reference:
        kwargs = with_data_defaults(function, args, kwargs)
    call = (None if reference else function, args, kwargs)
    pickled = _pickled(function, call, root, piece_bytes)
    split = pickled.file.split()
    framed = {
        "function": reference,
        "sources": dict(pickled.sources),
        "call": split.parts,
        "buffers": split.buffers,
    }
    payload = pickle.dumps(framed, protocol=PROTOCOL)
    return Payload(
        content=payload,
        sha256=sha256_hex(payload),
        warnings=(
            *_by_value_warnings(pickled.by_value),
            *_size_warnings(call, pickled.file.size_bytes, root),
        ),
        pieces=split.pieces,
        modules=pickled.modules,
        data=pickled.data,
    )


@dataclass(frozen=True, kw_only=True)
class _Split:
    """A pickled call as it stands in the payload.

    Attributes:
        parts: The pickle: bytes, and digests of pieces.
        buffers: What is out of band: each buffer as the digests of its pieces.
        pieces: Each piece once.
    """

    parts: list[bytes | str]
    buffers: list[list[str]]
    pieces: tuple[Piece, ...]


class _PickledCall:
    """A file for a pickler, which writes what is large in one go and the rest in frames.

    Equal objects at equal places of two calls are therefore equal writes. What is large is not
    copied, and is hashed when all is written: it may have to be pickled once more.

    Args:
        piece_bytes: From which size on a write, or a buffer, becomes pieces.
    """

    def __init__(self, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self._parts: list[bytearray | memoryview] = []
        self._buffers: list[memoryview] = []
        self.size_bytes = 0

    def write(self, data: Any, /) -> int:
        """Take what the pickler writes: bytes, or a view of an object's memory."""
        view = memoryview(data)
        self.size_bytes += view.nbytes
        if view.nbytes >= self._piece_bytes:
            self._parts.append(view)
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += data
        else:
            self._parts.append(bytearray(data))
        return view.nbytes

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Take an object's memory out of band; return whether it stays in the pickle instead."""
        try:
            view = buffer.raw()
        except BufferError:  # it is not one block
            return True
        if view.nbytes < self._piece_bytes:
            return True
        self.size_bytes += view.nbytes
        self._buffers.append(view)
        return False

    def split(self) -> _Split:
        """Cut and hash what is large."""
        parts: list[bytes | str] = []
        pieces: dict[str, Piece] = {}

        def digests(view: memoryview) -> list[str]:
            found = cut(view)
            pieces.update((piece.sha256, piece) for piece in found)
            return [piece.sha256 for piece in found]

        for part in self._parts:
            parts += [bytes(part)] if isinstance(part, bytearray) else digests(part)
        buffers = [digests(buffer) for buffer in self._buffers]
        return _Split(parts=parts, buffers=buffers, pieces=tuple(pieces.values()))


def _pickled(
    function: Callable[..., Any],
    call: tuple[Any, tuple[Any, ...], dict[str, Any]],
    root: PackageRoot,
    piece_bytes: int,
) -> Pickled[_PickledCall]:
    """Pickle a call, by an earlier protocol where something in it does not know the latest.

    Raises:
        UnpicklableError: It cannot be pickled.
    """
    new_file = partial(_PickledCall, piece_bytes)
    try:
        return pickle_into(new_file, call, root)
    except Exception as error:  # pickling runs other people's code
        with suppress(Exception):
            return pickle_into(new_file, call, root, protocol=EARLIER_PROTOCOL)
        raise unpicklable_error(function, call, error, root) from error


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
        f"{size_in_units(part_bytes)}, and is sent with every call; what stays the same is sent "
        "once, and kept where the run is, as a file: kinetic.Data(path)"
    )
    return (warning,)
