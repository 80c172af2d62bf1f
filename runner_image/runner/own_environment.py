"""Tells the environment of the function's process to who enters beside it; see `inside.py`."""

from __future__ import annotations

import _thread
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


def answer(arguments: Mapping[str, Any]) -> dict[str, int]:
    """Write this process's variables to a named pipe, which somebody reads already.

    Args:
        arguments: `pipe`, the path of the pipe.
    """
    written = json.dumps(dict(os.environ)).encode()
    descriptor = os.open(arguments["pipe"], os.O_WRONLY)
    # A pipe may hold less than there is, and is read when this has been answered.
    _thread.start_new_thread(_write, (descriptor, written))
    return {"bytes": len(written)}


def _write(descriptor: int, written: bytes) -> None:
    with suppress(OSError), open(descriptor, "wb") as file:
        file.write(written)
