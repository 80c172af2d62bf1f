"""What can be told of a pickled call without unpickling its arguments."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NoReturn


@dataclass(frozen=True, kw_only=True)
class PayloadFrame:
    """A pickled call from outside.

    Attributes:
        function: The name by which a run imports the function, such as `train.fit`; None where
            the function itself is part of the pickle, as a script's own are.
        call: What the call is pickled to: bytes, and digests of pieces.
    """

    function: str | None
    call: tuple[bytes | str, ...]


class _PlainValues(pickle.Unpickler):
    """Reads texts, bytes, lists and mappings, and nothing that would import or call something."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is no plain value")


def payload_frame(payload: bytes) -> PayloadFrame:
    """Return what stands around a pickled call; nothing of the call itself is unpickled.

    Args:
        payload: What `payload.pack_call` made.

    Raises:
        ValueError: It is none.
    """
    try:
        framed: dict[str, Any] = _PlainValues(BytesIO(payload)).load()
        reference, buffers = framed["function"], framed.get("buffers", ())
        return PayloadFrame(
            function=f"{reference['module']}.{reference['qualname']}" if reference else None,
            call=(*framed["call"], *(digest for pieces in buffers for digest in pieces)),
        )
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"it is no pickled call: {error}") from error
