"""A traceback as the person who called has it: the function's own part, and its own files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .masks import Masks
from .missing_modules import explain_missing
from .shown_paths import ShownPaths

if TYPE_CHECKING:
    from types import FrameType, TracebackType

LONGEST_TEXT = 10_000
"""How many characters of a message are shown."""


def traceback_text(error: BaseException, task: Mapping[str, Any], masks: Masks) -> str:
    """Return an exception's traceback, masked, from the function on."""
    import traceback

    explain_missing(error)
    paths = ShownPaths(task["workspace"], task["root"])
    lines = traceback.format_exception(type(error), error, own_part(error))
    # Masked before they are cut: half a value would not be known.
    return paths.text("".join(_cut(masks.text(line)) for line in lines))


def _cut(text: str) -> str:
    """Return what is shown of a part of a traceback, such as a message of many megabytes."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}… ({len(text)} characters)\n"


def own_part(error: BaseException) -> TracebackType | None:
    """Return an exception's traceback from the function on."""
    here = os.path.dirname(__file__)
    trace = error.__traceback__
    while trace and _is_frame_of_runner(trace.tb_frame, here):
        trace = trace.tb_next
    return trace


def _is_frame_of_runner(frame: FrameType, here: str) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return frame.f_code.co_filename.startswith(here) or module.startswith("asyncio.")
