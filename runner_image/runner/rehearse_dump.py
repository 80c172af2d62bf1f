"""Compiling a step so that XLA says what is in memory when most of it is taken.

The compilers for GPUs and CPUs write that down where they are told to
(https://openxla.org/xla/hlo_dumps); the one for GPUs gives it in no other way.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

_AT_PEAK = re.compile(r"^  Live ranges at \d+ \(peak\):\n(?P<lines>(?:    .*\n)*)", re.MULTILINE)
_LINE = re.compile(r"^    (?P<name>\S+)\{(?P<part>[\d,]*)\}: (?P<size>\d+) bytes", re.MULTILINE)


class Live(NamedTuple):
    """Something that is in memory when most of it is taken.

    Attributes:
        name: The instruction that made it.
        part: Which part of the instruction's tuple it is; empty where it is the whole.
        size_bytes: Its size.
    """

    name: str
    part: str
    size_bytes: int


class Compiled(NamedTuple):
    """A step that was compiled.

    Attributes:
        program: jax's compiled step.
        text: The program as XLA prints it.
        live: What is in memory when most of it is taken, largest first.
    """

    program: Any
    text: str
    live: list[Live]


def compile_and_note(lowered: Any, options: Mapping[str, Any] | None = None) -> Compiled:
    """Return a step that was lowered, compiled.

    Args:
        lowered: What `.lower()` returned.
        options: Options of XLA besides those that say where it writes.
    """
    with tempfile.TemporaryDirectory(prefix="kinetic-dump-") as directory:
        dump = {"xla_dump_to": directory, "xla_dump_hlo_as_text": True}
        try:
            program = lowered.compile(compiler_options={**dump, **(options or {})})
        except TypeError:
            # What others than jax make of a step may know no options.
            program = lowered.compile()
        # Until jax 0.8 what is compiled for no device that is there has no text.
        text = program.as_text() or _largest(directory, "*after_optimizations.txt")
        return Compiled(program, text, read_live(directory))


def read_live(directory: str) -> list[Live]:
    """Return what XLA has written down of a program's memory, largest first.

    Args:
        directory: Where it dumps.

    Returns:
        Empty where it has written nothing, as another version of it may.
    """
    peak = _AT_PEAK.search(_largest(directory, "*-live-range.txt"))
    if peak is None:
        return []
    found = [
        Live(each["name"], each["part"], int(each["size"]))
        for each in _LINE.finditer(peak["lines"])
    ]
    return sorted(found, key=lambda each: -each.size_bytes)


def _largest(directory: str, pattern: str) -> str:
    """Return the largest of the files that match: small programs are compiled on the way."""
    files = glob.glob(os.path.join(glob.escape(directory), pattern))
    if not files:
        return ""
    with open(max(files, key=os.path.getsize), encoding="utf-8", errors="replace") as file:
        return file.read()
