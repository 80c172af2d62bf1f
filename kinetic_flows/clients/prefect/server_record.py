"""The record of a home's background Prefect server: which process it is, and where it listens.

It is written as soon as the process is launched, which is long before the server answers: who
comes next waits for that very process, and whoever gives up waiting leaves none that nobody knows.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.processes import ProcessIdentity


@dataclass(frozen=True, kw_only=True)
class ServerRecord:
    """The record of a server that runs, or is about to.

    Attributes:
        process: The server's process.
        port: The loopback port it listens on.
        prefect_version: The Prefect it runs.
    """

    process: ProcessIdentity
    port: int
    prefect_version: str

    @property
    def api_url(self) -> str:
        """What `PREFECT_API_URL` is to be."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def ui_url(self) -> str:
        """Where a browser finds the UI."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether it was started by an earlier version, which asks for no password."""
        return not self.process.host


class RecordFile:
    """Where the record is kept.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> ServerRecord | None:
        """Return the record; None when there is none that can be read."""
        try:
            fields = json.loads(self._path.read_text())
            return ServerRecord(**{**fields, "process": ProcessIdentity.read(fields["process"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, record: ServerRecord) -> None:
        """Keep a record in place of the last one."""
        write_atomically(self._path, json.dumps(asdict(record)).encode())

    def forget(self) -> None:
        """Keep none."""
        self._path.unlink(missing_ok=True)

    def age_seconds(self) -> float:
        """Return how long ago the record was written; a very long time when there is none."""
        try:
            return max(0.0, time.time() - self._path.stat().st_mtime)
        except OSError:
            return float("inf")
