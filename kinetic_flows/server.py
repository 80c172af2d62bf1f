"""The background Prefect server of a `KINETIC_HOME`: started once, then reused by everyone.

Prefect's own ephemeral server takes many seconds per process and dies with it, which would
break detached runs, attaching and the UI. Nothing here imports prefect.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from pathlib import Path

from kinetic_flows.errors import PrefectServerError
from kinetic_flows.processes import ProcessIdentity, exit_code, start_detached

START_TIMEOUT_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 15.0
BUSY_TIMEOUT_SECONDS = 60.0
HEALTH_TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.1
PREFERRED_PORT = 4242
LOG_TAIL_LINES = 15
NEEDED_BYTES = 1_000_000
"""Free space without which a server cannot make its database."""


@dataclass(frozen=True, kw_only=True)
class ServerRecord:
    """What is remembered of a running server.

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

    def is_healthy(self) -> bool:
        """Whether the process lives and answers."""
        return self.process.is_alive() and _answers(self.port)


class BackgroundServer:
    """One Prefect server per home directory, with a SQLite database inside it.

    Args:
        home: `KINETIC_HOME`.
        environ: Variables the server inherits, less Prefect's own.
    """

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self.directory = home / "prefect"
        self.log_file = self.directory / "server.log"
        self._record_file = self.directory / "server.json"
        self._environ = environ

    def status(self) -> ServerRecord | None:
        """Return the running, healthy server, or None."""
        record = self._read_record()
        return record if record and record.is_healthy() else None

    def has_died(self, api_url: str) -> bool:
        """Whether an API is this home's, and the process that answered there has ended."""
        record = self._read_record()
        return bool(record and record.api_url == api_url and not record.process.is_alive())

    def ensure(self, on_start: Callable[[str], None] = lambda _: None) -> ServerRecord:
        """Return the running server, starting it if need be; safe under concurrent callers.

        Args:
            on_start: Told, once, that a server is being started and what takes the time.

        Raises:
            PrefectServerError: It does not start; the message ends with its last log lines.
        """
        installed = version("prefect")
        record = self.status()
        if record and record.prefect_version == installed:
            return record
        with self._locked():
            record = self._read_record()
            if record and record.prefect_version != installed:
                self._end(record)
            elif record and _answers_while_it_lives(record):
                return record
            elif record:
                self._end(record)
            on_start(f"starting a background Prefect {installed} server (first time: ~20 s)")
            return self._start(preferred=record.port if record else PREFERRED_PORT)

    def stop(self) -> bool:
        """Stop the server; return whether one was running."""
        with self._locked():
            record = self._read_record()
            if record is None:
                return False
            was_alive = record.process.is_alive()
            self._end(record)
            self._record_file.unlink(missing_ok=True)
            return was_alive

    def _read_record(self) -> ServerRecord | None:
        try:
            fields = json.loads(self._record_file.read_text())
            return ServerRecord(**{**fields, "process": ProcessIdentity(**fields["process"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "server.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _start(self, preferred: int) -> ServerRecord:
        record = self._launch(preferred if _is_free(preferred) else _free_port())
        if not self._comes_up(record):
            # Another home's server was faster to take the port.
            record = self._launch(_free_port())
            if not self._comes_up(record):
                raise self._start_error("found its port taken, twice")
        temporary = self._record_file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(record)))
        temporary.replace(self._record_file)
        return record

    def _launch(self, port: int) -> ServerRecord:
        process = start_detached(
            [sys.executable, "-m", "kinetic_flows.server_process", "127.0.0.1", str(port)],
            environment=self._server_environment(port),
            log_file=self.log_file,
        )
        return ServerRecord(process=process, port=port, prefect_version=version("prefect"))

    def _server_environment(self, port: int) -> dict[str, str]:
        inherited = {k: v for k, v in self._environ.items() if not k.startswith("PREFECT_")}
        database = self.directory / "prefect.db"
        return {
            **inherited,
            "PREFECT_HOME": str(self.directory),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
            "DO_NOT_TRACK": "1",
        }

    def _comes_up(self, record: ServerRecord) -> bool:
        """Wait for a server that was launched; False when another one has its port."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._serves(record.port):
            if not record.process.is_alive():
                code = exit_code(record.process)
                if not _is_free(record.port):
                    return False
                raise self._start_error(f"exited with code {code}")
            if time.monotonic() > deadline:
                self._end(record)
                raise self._start_error(f"did not answer within {START_TIMEOUT_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        return True

    def _serves(self, port: int) -> bool:
        """Whether the server at a port is this home's."""
        answer = _ask(port, "/api/admin/settings")
        with suppress(ValueError, TypeError, KeyError):
            return Path(json.loads(answer or b"")["home"]) == self.directory
        return False

    def _start_error(self, what: str) -> PrefectServerError:
        free_bytes = shutil.disk_usage(self.directory).free
        if free_bytes < NEEDED_BYTES:
            what += f"; {self.directory} has {free_bytes} bytes of free space left"
        tail = self.log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return PrefectServerError(
            "\n".join([f"the background Prefect server {what}", *(f"    {line}" for line in tail)]),
            value=str(self.log_file),
            hint=f"the whole log is in {self.log_file}; to use a server of your own, "
            "set PREFECT_API_URL",
        )

    def _end(self, record: ServerRecord) -> None:
        """Stop a server's whole process group, kindly at first."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            if not record.process.is_alive():
                break
            with suppress(ProcessLookupError):
                os.killpg(record.process.pid, signal_number)
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            while record.process.is_alive() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        exit_code(record.process)


def _answers_while_it_lives(record: ServerRecord) -> bool:
    """Whether a server answers at last: a busy one carries others' runs and is not replaced."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while record.process.is_alive() and time.monotonic() < deadline:
        if _answers(record.port):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _answers(port: int) -> bool:
    return _ask(port, "/api/health") is not None


def _ask(port: int, path: str) -> bytes | None:
    """Return what a server on this machine answers; None when it is no good answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=HEALTH_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
