"""The way to a run's processes on this machine: whatever is started beside them is started here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.process_access import Executed, HostProcess
from kinetic_flows.core.processes import ProcessIdentity
from kinetic_flows.platforms.local.processes import INHERITED, LocalProcesses
from kinetic_flows.platforms.local.relay import relayed

CHUNK_BYTES = 65_536
OF_TERMINALS = ("TERM", "COLORTERM", "NO_COLOR", "SHELL")


class LocalAccess:
    """Starts commands beside processes of this machine.

    Args:
        processes: Who knows them.
        environ: This process's variables, of which commands get what runs do.
    """

    def __init__(self, processes: LocalProcesses, environ: Mapping[str, str]) -> None:
        self._processes = processes
        self._environ = environ

    def hosts(self, key: str) -> tuple[HostProcess, ...]:
        """Return the hosts of a run; one where a Prefect worker has started it, and knows it."""
        found = self._processes.host_processes(key)
        if not found:
            # Whether it is there, what is started finds out.
            return (HostProcess(host=0, place="this machine", is_running=True),)
        return tuple(_process(host, each) for host, each in enumerate(found))

    def execute(
        self, key: str, host: int, command: Sequence[str], *, limit_seconds: float
    ) -> Executed:
        """Run a command on this machine, and return what it printed.

        Raises:
            LaunchError: It could not be started, or took too long.
        """
        with self._started(key, host, command, stdin=subprocess.DEVNULL, is_read=True) as process:
            try:
                output, errors = process.communicate(timeout=limit_seconds)
            except subprocess.TimeoutExpired:
                raise LaunchError(
                    f"{command[0]} did not answer within {limit_seconds:g} seconds", value=host
                ) from None
        return Executed(exit_code=process.returncode, output=output, errors=errors)

    def stream(
        self, key: str, host: int, command: Sequence[str], source: BinaryIO, target: BinaryIO
    ) -> Executed:
        """Run a command whose input and output are streams.

        Raises:
            LaunchError: It could not be started.
            OSError: The source or the target has raised it.
        """
        errors = bytearray()
        with self._started(key, host, command, stdin=subprocess.PIPE, is_read=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            failed: list[OSError] = []
            others = (
                threading.Thread(target=_feed, args=(source, process.stdin, failed), daemon=True),
                threading.Thread(target=_gather, args=(process.stderr, errors), daemon=True),
            )
            for each in others:
                each.start()
            shutil.copyfileobj(process.stdout, target, CHUNK_BYTES)
            process.wait()
            for each in others:
                each.join()
        if failed:
            raise failed[0]
        return Executed(exit_code=process.returncode, output=b"", errors=bytes(errors))

    def attach(
        self,
        key: str,
        host: int,
        command: Sequence[str],
        *,
        terminal: bool,  # noqa: ARG002 - it has this one's
        reads: bool = True,
    ) -> int:
        """Run a command with this process's own streams, its terminal included.

        Raises:
            LaunchError: It could not be started.
        """
        stdin = None if reads else subprocess.PIPE
        with _left_to_the_command(), self._started(key, host, command, stdin=stdin) as process:
            return process.wait()

    @contextmanager
    def forward(
        self,
        key: str,
        host: int,
        port: int,
        local_port: int,
        tell: Callable[[str], None],
    ) -> Iterator[int]:
        """Lead another port to one of this machine; where none is named, that port is it.

        Raises:
            ConfigurationError: The port is taken.
        """
        self._require(key, host)
        if local_port in (0, port):
            yield port
            return
        with relayed(port, local_port, tell) as found:
            yield found

    @contextmanager
    def _started(
        self,
        key: str,
        host: int,
        command: Sequence[str],
        *,
        stdin: int | None = None,
        is_read: bool = False,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command; it does not outlive the block.

        Args:
            key: The run.
            host: The host's number.
            command: The program and its arguments.
            stdin: What it reads, as `Popen` has it; None for what this process does.
            is_read: Whether what it prints is read here; else it goes where this process's does.
        """
        process = self._require(key, host)
        program, *arguments = command
        # As an image has it; what runs is told which interpreter is the run's.
        program = sys.executable if program == "python3" else program
        pipe = subprocess.PIPE if is_read else None
        try:
            started = subprocess.Popen(
                [program, *arguments],
                stdin=stdin,
                stdout=pipe,
                stderr=pipe,
                env=self._variables(process),
            )
        except OSError as error:
            message = f"{program} cannot be started: {error.strerror}"
            raise LaunchError(message, value=program) from error
        with started:
            try:
                yield started
            finally:
                with suppress(ProcessLookupError):
                    started.kill()

    def _require(self, key: str, host: int) -> ProcessIdentity | None:
        found = self._processes.host_processes(key)
        if not found and host == 0:
            return None
        hosts = self.hosts(key)
        if host >= len(hosts):
            raise LaunchError(
                f"there is no host {host} of this run: it has {len(hosts)}", value=host
            )
        if not hosts[host].is_running:
            raise LaunchError(f"host {host} cannot be reached: {hosts[host].why_not}", value=host)
        return found[host]

    def _variables(self, process: ProcessIdentity | None) -> dict[str, str]:
        """Return what runs inherit, and where this one's process keeps its files."""
        names = (*INHERITED, *OF_TERMINALS, "PATH")
        found = {name: self._environ[name] for name in names if name in self._environ}
        found.update({name: value for name, value in self._environ.items() if name[:3] == "LC_"})
        found.setdefault("PATH", os.defpath)
        place = _variable_of(process.pid, "TMPDIR") if process else None
        return {**found, "TMPDIR": place} if place else found


def _process(host: int, process: ProcessIdentity) -> HostProcess:
    place = f"process {process.pid}"
    if process.is_alive():
        return HostProcess(host=host, place=place, is_running=True)
    why = "its process has ended"
    if not process.is_of_here:
        why = f"its process is one of {process.where}, where only it can be seen"
    return HostProcess(host=host, place=place, is_running=False, why_not=why)


def _variable_of(pid: int, name: str) -> str | None:
    """Return a variable that a process was started with; see proc_pid_environ(5)."""
    try:
        written = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    pairs = (entry.partition("=") for entry in os.fsdecode(written).split("\0"))
    return next((value for found, _, value in pairs if found == name), None)


def _feed(source: BinaryIO, target: BinaryIO, failed: list[OSError]) -> None:
    """Copy to a command's input until either ends."""
    with suppress(BrokenPipeError), target:
        while True:
            try:
                chunk = source.read(CHUNK_BYTES)
            except OSError as error:
                failed.append(error)
                return
            if not chunk:
                return
            target.write(chunk)


def _gather(source: BinaryIO, target: bytearray) -> None:
    while chunk := source.read(CHUNK_BYTES):
        target.extend(chunk)


@contextmanager
def _left_to_the_command() -> Iterator[None]:
    """Leave Ctrl-C to the command, which is in the same foreground process group."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # To be ignored would be inherited by the command.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
