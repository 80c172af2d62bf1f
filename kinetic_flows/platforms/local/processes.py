"""Child processes that stand in for pods on this machine."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.files import private_directory, write_atomically
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.launcher import LaunchNeeds, LaunchRequest, Observation, Phase, Preflight
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.processes import (
    ProcessIdentity,
    exit_code,
    liveness,
    start_detached,
)
from kinetic_flows.platforms.local.client_side import client_side
from kinetic_flows.platforms.local.hosts import HostFiles, make_group, read_group

if TYPE_CHECKING:
    from kinetic_flows.core.process_facts import ProcessFacts
    from kinetic_flows.platforms.local import process_facts
else:
    # Runs that end well are not asked how.
    process_facts = LazyModule("kinetic_flows.platforms.local.process_facts")

INHERITED = frozenset(
    {"HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}
)
"""Variables a run gets without asking: what a pod would get from its image and its node.

Everything else has to be named in `capture_env_vars`, here as on a cluster.
"""

_POLL_SECONDS = 0.05
logger = logging.getLogger(__name__)

_RECORD = "process.json"

HOSTS = "hosts"
"""Job variable that says how many processes a run has."""

_UNSEEN = "its process is one of {}, where only it can be seen"


class LocalProcesses:
    """Launcher whose pods are child processes that outlive their client.

    Args:
        directory: Where each run's process is recorded and its output kept.
        python: Finds the interpreter of an environment.
        environ: This process's variables, of which runs get `INHERITED`.
    """

    def __init__(
        self,
        directory: Path,
        python: Callable[[ResolvedImage], Path],
        environ: Mapping[str, str],
    ) -> None:
        self._directory = directory
        self._python = python
        self._environ = environ

    def preflight(self, needs: LaunchNeeds) -> Preflight:  # noqa: ARG002 - all of it is here
        """Find nothing: whatever this machine lacks, the launch itself tells."""
        return Preflight()

    def reaches(self, url: str) -> bool:  # noqa: ARG002 - whatever it is
        """Return True: processes of one machine share its network."""
        return True

    def place(self) -> str:
        """Return nothing: they are on this machine."""
        return ""

    def node_pools(self) -> None:
        """Return None: this machine is no node."""
        return

    def rooms(self) -> None:
        """Return None: whatever this machine has is shared with all else on it."""
        return

    def start(self, request: LaunchRequest) -> None:
        """Start the runner as a process of its own session, once for each host.

        Raises:
            LaunchError: The run was started before and never became a process.
        """
        place = self._directory / request.key
        if (place / _RECORD).exists():
            return
        private_directory(place)
        hosts = int(request.job_variables.get(HOSTS, 1))
        group = make_group(place, hosts) if hosts > 1 else None
        # The first one's record says that all were started.
        for host in reversed(range(hosts)):
            own = group.environment(host, place) if group else {}
            self._start_host(request, HostFiles.of(place, host), own)

    def _start_host(
        self, request: LaunchRequest, of_host: HostFiles, own: Mapping[str, str]
    ) -> None:
        python = self._python(request.image)
        with as_file(files("kinetic_flows.runner_image") / "remote_runner.py") as bootstrap:
            try:
                process = start_detached(
                    [str(python), "-u", str(bootstrap)],
                    environment=self._environment(python, {**request.environment, **own}),
                    log_file=of_host.log,
                    life_file=of_host.life,
                )
            except BlockingIOError:
                # Another client has started it, a moment ago.
                return
            except OSError as error:
                raise LaunchError(
                    f"the runner could not be started with {python}: {error}",
                    value=str(python),
                    hint="delete that environment's directory and run again",
                ) from error
        write_atomically(of_host.record, json.dumps(asdict(process)).encode())

    def observe(self, run_id: str, position: int | None = 0) -> Observation:
        """Look at the processes, reading the first one's output from a position on.

        Args:
            run_id: The run.
            position: Where to read on; None to leave its output alone.
        """
        processes = self._processes(run_id)
        if not processes:
            return Observation(phase=Phase.GONE, reason="no process of this run was ever recorded")
        # Ask before reading, so that the last output of a process seen dead is complete.
        lives = [liveness(process, of_host.life) for of_host, process in processes]
        output = b"" if position is None else self._read_output(run_id, position)
        code = _exit_code([process for _, process in processes]) if set(lives) == {"dead"} else None
        unseen = [
            process.where
            for (_, process), life in zip(processes, lives, strict=True)
            if life == "unknown"
        ]
        return Observation(
            phase=_phase(alive=set(lives) != {"dead"}, code=code),
            exit_code=code,
            reason=_UNSEEN.format(unseen[0]) if unseen else "",
            output=output,
            position=(position or 0) + len(output),
        )

    def facts(self, key: str) -> ProcessFacts:
        """Return how the processes of a run ended, as far as this machine has seen it.

        Args:
            key: The run, or its launch.
        """
        return process_facts.read_facts(self._processes(key))

    def discard(self, run_id: str) -> None:
        """Do nothing: what a process printed is kept, to be shown later."""

    def stop(self, run_id: str, grace_seconds: float) -> None:
        """Send SIGTERM to the runners, and SIGKILL to their sessions when the grace is over."""
        # One of another host or container finds out by itself that it is cancelled.
        alive = [process for _, process in self._processes(run_id) if process.is_alive()]
        for process in alive:
            _signal(process, os.kill, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while any(process.is_alive() for process in alive) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for process in alive:
            if process.is_alive():
                _signal(process, os.killpg, signal.SIGKILL)

    def kept(self) -> Mapping[str, datetime]:
        """Return the runs that have a directory, and when it was last written to."""
        if not self._directory.exists():
            return {}
        return {
            place.name: datetime.fromtimestamp(
                max(path.stat().st_mtime for path in (place, *place.iterdir())), UTC
            )
            for place in self._directory.iterdir()
            if place.is_dir()
        }

    def launches(self, run_id: str = "") -> tuple[str, ...]:
        """Return the launches of which there is a record; of every run only those that live."""
        places = self._directory.glob(f"{run_id or '*'}-r*c*") if self._directory.exists() else ()
        found = (place.name for place in places)
        return tuple(key for key in found if run_id or not self.observe(key, None).phase.is_final)

    def forget(self, run_id: str) -> None:
        """Remove a run's directory, unless a process of it lives or may live."""
        processes = self._processes(run_id)
        if all(liveness(process, of_host.life) == "dead" for of_host, process in processes):
            shutil.rmtree(self._directory / run_id, ignore_errors=True)

    def host_processes(self, run_id: str) -> tuple[ProcessIdentity, ...]:
        """Return the processes of a run's hosts, in order; none where none was recorded."""
        return tuple(process for _, process in self._processes(run_id))

    def _processes(self, run_id: str) -> list[tuple[HostFiles, ProcessIdentity]]:
        """Return the run's processes that are recorded; none while not all were started."""
        place = self._directory / run_id
        first = HostFiles.of(place, 0)
        process = self._process(run_id, first.record)
        if process is None:
            return []
        group = read_group(place)
        others = [HostFiles.of(place, host) for host in range(1, group.hosts if group else 1)]
        found = [(of_host, self._process(run_id, of_host.record)) for of_host in others]
        return [(first, process), *((files, each) for files, each in found if each is not None)]

    def _process(self, run_id: str, record: Path) -> ProcessIdentity | None:
        try:
            fields = json.loads(record.read_bytes())
            return ProcessIdentity.read(fields)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LaunchError(
                f"the record of the process of run {run_id} cannot be read: {error.strerror}",
                value=str(record),
                hint="look at the file's owner and rights, and at this process's limits (ulimit)",
            ) from error
        except (ValueError, KeyError, TypeError):
            # Records are written whole: this one's disk was full, or lost power with its process.
            with suppress(OSError):
                record.rename(record.with_name(f"{record.name}.damaged"))
                logger.warning("the record %s is damaged, and was put aside", record)
            return None

    def _read_output(self, run_id: str, position: int) -> bytes:
        try:
            with HostFiles.of(self._directory / run_id, 0).log.open("rb") as log:
                log.seek(position)
                return log.read()
        except OSError:  # somebody has cleaned up
            return b""

    def _environment(self, python: Path, job: Mapping[str, str]) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in self._environ.items()
            if name in INHERITED or name.startswith("LC_")
        }
        path = f"{python.parent}:{self._environ.get('PATH', os.defpath)}"
        own = {"PATH": path, "VIRTUAL_ENV": str(python.parent.parent)}
        return {**inherited, **client_side(self._environ), **own, **job}


def kept_bootstrap(directory: Path) -> Path:
    """Keep a copy of the bootstrap for runs that start when this version may be gone.

    Args:
        directory: Where copies are kept, each named by its content.
    """
    source = files("kinetic_flows.runner_image").joinpath("remote_runner.py").read_bytes()
    path = directory / f"{sha256_hex(source)}.py"
    if not path.exists():
        write_atomically(path, source)
    return path


def _exit_code(processes: list[ProcessIdentity]) -> int | None:
    """Return how ended processes have ended: the first failure, else None if it was not seen."""
    codes = [exit_code(process) if process.is_of_here else None for process in processes]
    failures = (code for code in codes if code)
    return next(failures, None if None in codes else 0)


def _phase(*, alive: bool, code: int | None) -> Phase:
    if alive:
        return Phase.RUNNING
    if code is None:
        return Phase.GONE
    return Phase.FAILED if code else Phase.SUCCEEDED


def _signal(
    process: ProcessIdentity, send: Callable[[int, int], None], number: signal.Signals
) -> None:
    try:
        send(process.pid, number)
    except ProcessLookupError:
        return
