"""The background Prefect server of a `KINETIC_HOME`: started once, then reused by everyone.

Prefect's own ephemeral server takes many seconds per process and dies with it, which would
break detached runs, attaching and the UI. Nothing here imports prefect.

The server is its user's own: it listens on loopback, asks for a password, and its files can be
read by nobody else. Its database takes one server, also where a home is seen by several hosts.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit

from kinetic_flows.clients.prefect.server_access import (
    AUTH_STRING_VARIABLE,
    SIGN_IN_PATH,
    make_auth_string,
    make_link_token,
    read_auth_string,
    remember_access,
)
from kinetic_flows.clients.prefect.server_answers import is_healthy, proves_itself, taken_port
from kinetic_flows.clients.prefect.server_failures import start_error
from kinetic_flows.clients.prefect.server_record import RecordFile, ServerRecord
from kinetic_flows.core.errors import PrefectServerError
from kinetic_flows.core.files import (
    exclusive_lock,
    private_directory,
    tighten_home,
)
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.processes import (
    describe_exit,
    exit_code,
    liveness,
    start_detached,
)
from kinetic_flows.core.signals import deferred_signals, interruption_in

START_TIMEOUT_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 15.0
BUSY_TIMEOUT_SECONDS = 60.0
ANSWER_SECONDS = 5.0
FIRST_LOOK_SECONDS = 1.0
"""How long a first question may take: one that is starting takes it and answers much later."""

POLL_SECONDS = 0.1
PREFERRED_PORT = 4242

GOES_ON = (
    "the background Prefect server goes on starting, for the next call; `kinetic server stop` "
    "ends it"
)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_told_open: set[int] = set()

_PROGRAM = "kinetic_flows.clients.prefect.server_process"


class BackgroundServer:
    """One Prefect server per home directory, with a SQLite database inside it.

    Args:
        home: `KINETIC_HOME`.
        environ: Variables the server inherits, less Prefect's own.
    """

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self.home = home
        self.directory = home / "prefect"
        self.database = self.directory / "prefect.db"
        self.log_file = self.directory / "server.log"
        self._record = RecordFile(self.directory / "server.json")
        self._life_file = self.directory / "server.alive"
        self._environ = environ

    @property
    def has_run(self) -> bool:
        """Whether one has ever run in this home, and may have kept something."""
        return self.database.exists()

    def status(self) -> ServerRecord | None:
        """Return the running server, if it answers here and now, or None."""
        record = self._record.read()
        return record if record and self._is_usable(record) else None

    def starting(self) -> ServerRecord | None:
        """Return the server whose process lives here and does not answer yet, or None."""
        record = self._record.read()
        if record is None or not record.process.is_alive() or not self._may_be_starting():
            return None
        return None if self._is_usable(record, FIRST_LOOK_SECONDS) else record

    def has_died(self, api_url: str) -> bool:
        """Whether an API is this home's, and the process that answered there has ended."""
        record = self._record.read()
        if record is None or record.api_url != api_url:
            return False
        return liveness(record.process, self._life_file) == "dead"

    def ensure(self, on_start: Callable[[str], None] = lambda _: None) -> ServerRecord:
        """Return the running server, starting it if need be; safe under concurrent callers.

        Args:
            on_start: Told what takes the time: that a server is being started, here or by another
                caller; and that it goes on, when the wait is interrupted.

        Raises:
            PrefectServerError: It does not start (the message ends with its last log lines), or
                it runs where it cannot be reached from here.
        """
        installed, record = version("prefect"), self._record.read()
        if record and not self._is_usable(record, FIRST_LOOK_SECONDS):
            record = None
        if record and record.prefect_version == installed:
            _warn_of_open(record, on_start)
            return record
        unanswered = None
        while True:
            with self._locked():
                record, is_ours = self._found_or_launched(installed, unanswered, on_start)
            # Not under the lock: `stop` and other callers are not to wait for this one.
            if self._answers_at_last(record, on_start, is_ours=is_ours):
                return record
            unanswered = record

    def stop(self, *, forget: bool = False) -> bool:
        """Stop the server; return whether one was running.

        Args:
            forget: Whether one of a host that is gone for good is taken for stopped.

        Raises:
            PrefectServerError: It is one of another host or container.
        """
        with self._locked():
            record = self._record.read()
            if record is None:
                return False
            was_alive = record.process.is_alive()
            if not forget:
                self._give_up(record)
            self._record.forget()
            return was_alive

    def recognize(self, api_url: str) -> bool:
        """Return whether an API is this server's; its password is known then."""
        record, parts = self._record.read(), urlsplit(api_url)
        if record is None or parts.port != record.port or parts.hostname not in _LOOPBACK:
            return False
        if record.is_open or not self._is_usable(record):
            return False
        remember_access(api_url, self._auth_string())
        return True

    def environment(self, record: ServerRecord) -> dict[str, str]:
        """Return the variables by which Prefect's own commands use a running server."""
        auth = {} if record.is_open else {"PREFECT_API_AUTH_STRING": self._auth_string()}
        return {"PREFECT_API_URL": record.api_url, **auth}

    def sign_in_url(self, record: ServerRecord, page: str = "/") -> str:
        """Return an address that opens the UI in one browser, once and soon.

        Args:
            record: The server, which runs.
            page: The path of the page to open.
        """
        if record.is_open:
            return f"{record.ui_url}{page}"
        token = make_link_token(self._auth_string(), time.time())
        return f"{record.ui_url}{SIGN_IN_PATH}?token={token}&page={quote(page)}"

    def _auth_string(self) -> str:
        return read_auth_string(self.directory) or ""

    def _may_be_starting(self) -> bool:
        return self._record.age_seconds() < START_TIMEOUT_SECONDS

    def _is_usable(self, record: ServerRecord, patience_seconds: float = ANSWER_SECONDS) -> bool:
        """Whether a server answers here, and is this home's; its password is known then."""
        if record.process.is_of_here and not record.process.is_alive():
            return False
        if record.is_open:
            return is_healthy(record.port, patience_seconds)
        if not proves_itself(record.port, self._auth_string(), patience_seconds):
            return False
        remember_access(record.api_url, self._auth_string())
        return True

    def _found_or_launched(
        self, installed: str, unanswered: ServerRecord | None, on_start: Callable[[str], None]
    ) -> tuple[ServerRecord, bool]:
        """Return the server to wait for, and whether it was launched here.

        Args:
            installed: The version of Prefect that it is to run.
            unanswered: One that was waited for in vain.
            on_start: Told that a server is being started.
        """
        record = self._record.read()
        if record and record.prefect_version == installed and record != unanswered:
            if record.process.is_alive():
                if self._may_be_starting():
                    on_start("waiting for the background Prefect server, which is being started")
                return record, False
            if not record.process.is_of_here and self._is_usable(record):
                return record, False
        if record:
            self._give_up(record)
        on_start(
            f"starting a background Prefect {installed} server (first time: ~20 s); "
            "`kinetic ui` opens its pages"
        )
        return self._launched(preferred=record.port if record else PREFERRED_PORT), True

    def _answers_at_last(
        self, record: ServerRecord, tell: Callable[[str], None], *, is_ours: bool
    ) -> bool:
        """Whether a server answers at last: one that is starting, or busy with others' runs.

        Args:
            record: The server.
            tell: Told that it goes on, should the wait be interrupted.
            is_ours: Whether it was launched here.

        Raises:
            PrefectServerError: It was launched here, and it ended, or takes too long.
        """
        still_starting = START_TIMEOUT_SECONDS - self._record.age_seconds()
        patience = max(BUSY_TIMEOUT_SECONDS, still_starting)
        deadline = time.monotonic() + patience
        try:
            while not self._is_usable(record):
                if not record.process.is_alive():
                    return self._ended_at_start(record) if is_ours else False
                if time.monotonic() > deadline:
                    return self._takes_too_long(record) if is_ours else False
                pause(POLL_SECONDS)
        except BaseException as error:
            if interruption_in(error) is not None and still_starting > 0:
                tell(GOES_ON)
            raise
        return True

    def _give_up(self, record: ServerRecord) -> None:
        """Stop a server before another one may open its database.

        Raises:
            PrefectServerError: It is one of another host or container, and may live there.
        """
        if record.process.is_of_here:
            self._end(record)
        elif liveness(record.process, self._life_file) != "dead":
            where = record.process.where
            raise PrefectServerError(
                f"the background Prefect server of {self.home} runs on {where}, out of reach of "
                "this host or container, and its database takes one server",
                value=where,
                hint="set KINETIC_HOME to a directory that only this host uses, or PREFECT_API_URL "
                f"to a server that both reach; if {where} is gone for good, run `kinetic server "
                "stop --forget`",
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        private_directory(self.directory)
        tighten_home(self.home)
        with exclusive_lock(self.directory / "server.lock"):
            yield

    def _launched(self, preferred: int) -> ServerRecord:
        # Taken before the server starts, which takes seconds: nobody gets its port meanwhile.
        # No signal comes between the launch and the record: nobody would know the process.
        with taken_port(preferred) as listener, deferred_signals():
            record = self._launch(listener)
            self._record.write(record)
        return record

    def _launch(self, listener: socket.socket) -> ServerRecord:
        port = listener.getsockname()[1]
        try:
            process = start_detached(
                [sys.executable, "-m", _PROGRAM],
                environment=self._server_environment(port),
                log_file=self.log_file,
                life_file=self._life_file,
                listener=listener,
            )
        except BlockingIOError as error:
            raise PrefectServerError(
                f"another Prefect server has the database in {self.directory} open",
                value=str(self.directory),
                hint="it was started in another host or container: stop it there, or set "
                "KINETIC_HOME to a directory that only this one uses",
            ) from error
        return ServerRecord(process=process, port=port, prefect_version=version("prefect"))

    def _server_environment(self, port: int) -> dict[str, str]:
        inherited = {k: v for k, v in self._environ.items() if not k.startswith("PREFECT_")}
        return {
            **inherited,
            "PREFECT_HOME": str(self.directory),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.database}",
            AUTH_STRING_VARIABLE: make_auth_string(self.directory),
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
            # What notifications link to: by itself the server knows no address of its pages.
            "PREFECT_UI_URL": f"http://127.0.0.1:{port}",
            "DO_NOT_TRACK": "1",
        }

    def _ended_at_start(self, record: ServerRecord) -> NoReturn:
        """Say why a server that was launched here has ended."""
        if not self._forgotten(record):
            raise PrefectServerError(
                "the background Prefect server was stopped while it started",
                value=str(self.home),
                hint="the next call starts it again",
            )
        raise start_error(describe_exit(exit_code(record.process)), self.log_file)

    def _takes_too_long(self, record: ServerRecord) -> NoReturn:
        """End a server that was launched here and does not answer."""
        self._end(record)
        self._forgotten(record)
        what = f"did not answer within {START_TIMEOUT_SECONDS:.0f} s"
        raise start_error(what, self.log_file)

    def _forgotten(self, record: ServerRecord) -> bool:
        """Remove the record of a server that did not start; return whether it was still there."""
        with self._locked():
            is_there = self._record.read() == record
            if is_there:
                self._record.forget()
        return is_there

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


def _warn_of_open(record: ServerRecord, tell: Callable[[str], None]) -> None:
    """Say, once, that a server asks for no password."""
    if record.is_open and record.port not in _told_open:
        _told_open.add(record.port)
        tell(
            "the background Prefect server was started by an earlier version and is open to "
            "everybody on this machine: `kinetic server stop`, and the next call starts a "
            "private one"
        )
