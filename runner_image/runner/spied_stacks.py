"""What py-spy tells of a process: as `faulthandler` does, and of native code besides.

It is used where the image or the project has it, and where the kernel lets it read another
process's memory (`ptrace(2)`; in a pod usually only as root). See its `dump --json`:
https://github.com/benfred/py-spy
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .dumped_stacks import Dumped, Frame

PROGRAM = "py-spy"


def find_spy(folders: str) -> str | None:
    """Return where py-spy is; None where it is not.

    Args:
        folders: Directories of programs besides those of this process, as `PATH` has them.
    """
    return shutil.which(PROGRAM, path=os.pathsep.join([folders, os.environ.get("PATH", "")]))


def spied(program: str, process: int, limit_seconds: float) -> list[Dumped] | None:
    """Return the threads of a process as py-spy sees them; None where it cannot look.

    Args:
        program: Where py-spy is.
        process: The process's id.
        limit_seconds: How long it may take; meanwhile the process stands still.
    """
    command = [program, "dump", "--json", "--native", "--pid", str(process)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_seconds, check=True)
        return parse_spied(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        # It was ended while it stopped the process, which may have been left so.
        with suppress(OSError):
            os.kill(process, signal.SIGCONT)
        return None
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        # Whatever it is, faulthandler tells enough.
        return None


def parse_spied(threads: list[Mapping[str, Any]]) -> list[Dumped]:
    """Return the threads of what py-spy has printed."""
    return [
        Dumped(
            ident=each["thread_id"],
            frames=tuple(_frame(told) for told in reversed(each["frames"]) if _has_name(told)),
            name=each.get("thread_name") or "",
            has_lock=bool(each.get("owns_gil")),
            native_id=each.get("os_thread_id"),
        )
        for each in threads
    ]


def _has_name(frame: Mapping[str, Any]) -> bool:
    """Whether a function has a name; in native code without symbols it has an address."""
    return not frame["name"].startswith("0x")


def _frame(told: Mapping[str, Any]) -> Frame:
    # In native code without debugging symbols lines are not known: then it says 0.
    file = told.get("filename") or told.get("module") or ""
    return Frame(told["name"], file, told.get("line") or None)
