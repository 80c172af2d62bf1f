"""Why a background Prefect server did not start, out of what it wrote to its log."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from kinetic_flows.core.errors import PrefectServerError

NEEDED_BYTES = 1_000_000
"""Free space without which a server cannot make its database."""

LINE_CHARACTERS = 300

_DAMAGED = re.compile("file is not a database|database disk image is malformed|file is encrypted")
_NEWER = re.compile(r"Can't locate revision identified by '\w+'")
_FULL = re.compile("No space left on device|database or disk is full")
_BROKEN = re.compile(r"^(?:ModuleNotFoundError|ImportError): .*", re.MULTILINE)
_ERROR = re.compile(r"^[\w.]+(?:Error|Exception|Interrupt|Exit)\b.*", re.MULTILINE)


def start_error(what: str, log_file: Path) -> PrefectServerError:
    """Return the error for a server that did not start.

    Args:
        what: What became of it, such as `exited with 3`.
        log_file: Its log, beside its database.
    """
    try:
        log = log_file.read_text(errors="replace")
    except OSError:
        log = ""
    cause, hint = _cause(log, log_file.parent)
    return PrefectServerError(
        f"the background Prefect server {what}{f': {cause}' if cause else ''}",
        value=str(log_file),
        hint=f"{hint}; its log is {log_file}",
    )


def _cause(log: str, directory: Path) -> tuple[str, str]:
    """Return what kept a server from starting, and what to do about it."""
    database = directory / "prefect.db"
    broken = _BROKEN.search(log)
    if shutil.disk_usage(directory).free < NEEDED_BYTES or _FULL.search(log):
        return f"there is no space left in {directory}", "free some, or set KINETIC_HOME"
    if _DAMAGED.search(log):
        return (
            f"its database {database} is damaged",
            f"mv {database} {database}.damaged, and the next call makes a new one, with no runs",
        )
    if _NEWER.search(log):
        return (
            f"its database {database} was made by a newer Prefect",
            "upgrade prefect here, or set KINETIC_HOME to another directory",
        )
    if broken:
        return _cut(broken.group()), "install kinetic-flows anew: a package of it is missing"
    errors = _ERROR.findall(log) or [line for line in log.splitlines() if line.strip()]
    last = _cut(errors[-1]) if errors else ""
    return last, "to use a server of your own, set PREFECT_API_URL"


def _cut(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + "…"
