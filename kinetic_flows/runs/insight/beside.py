"""Asking the runner of a live run: commands that are started beside its processes.

What is started finds the run's processes by itself (`runner_image/way_in.py`), becomes a command
of the run's own runner (`runner_image/runner/beside.py`), and prints one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from kinetic_flows.clients.prefect.labels import PLATFORM_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.errors import KineticError, LaunchError, UsageError, in_a_sentence
from kinetic_flows.core.process_access import Executed, HostProcess, ProcessAccess
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import ticket_of

EXIT_UNKNOWN_COMMAND, EXIT_NO_DOOR = 64, 69
"""Exit codes of `runner_image/runner/beside.py` and `runner_image/way_in.py`."""

NO_PROGRAM = (126, 127)
"""Exit codes of what starts programs in containers, where there is no such program."""

AT_ONCE = 16
"""How many hosts are asked at the same time."""

SAID_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class HostAnswer:
    """What one host of a run has answered.

    Attributes:
        host: Its number.
        place: The pod, or the process on this machine, as people read it.
        told: The answer; empty where there is none.
        why_not: Why there is none; empty where there is one.
    """

    host: int
    place: str
    told: Mapping[str, Any] = field(default_factory=dict)
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """A run that has processes.

    Attributes:
        run_id: Its id.
        name: Its name, for people.
        key: By what its platform knows its processes.
        hosts: Its hosts, one at least.
        access: The way to them.
    """

    run_id: str
    name: str
    key: str
    hosts: tuple[HostProcess, ...]
    access: ProcessAccess

    def host(self, number: int) -> HostProcess:
        """Return one of its hosts, which can be reached.

        Raises:
            UsageError: There is no such host, or it is not there now.
        """
        if not 0 <= number < len(self.hosts):
            last = len(self.hosts) - 1
            raise UsageError(
                f"run {self.name} has no host {number}",
                value=number,
                hint=f"it has hosts 0 to {last}" if last else "it has one, host 0",
            )
        found = self.hosts[number]
        if not found.is_running:
            raise UsageError(
                f"host {number} of run {self.name} cannot be reached: {found.why_not}",
                value=number,
                hint=f"`kinetic runs logs {self.run_id}` shows what it has printed",
            )
        return found

    def command(self, host: int, command: Sequence[str]) -> tuple[str, ...]:
        """Return what starts a command of its runner beside a host's process.

        Args:
            host: The host's number.
            command: The command's name and its arguments.
        """
        return ("python3", "-c", _way_in(), self.run_id, str(host), *command)


def live_run(session: Session, record: RunRecord) -> LiveRun:
    """Return the processes of a run.

    Args:
        session: Where it is.
        record: Its flow run.

    Raises:
        UsageError: It has ended, has not begun, or is somewhere else.
        LaunchError: The cluster cannot be asked.
    """
    if record.is_final:
        raise UsageError(
            f"run {record.shown_name} is over: {record.state_name}",
            value=record.id,
            hint=f"`kinetic runs show {record.id}`, `kinetic runs logs {record.id}` and "
            f"`kinetic runs outputs {record.id}` have what is left of it",
        )
    _require_here(session, record)
    access = session.platform.access
    for key in _keys(session, record):
        hosts = access.hosts(key)
        if any(host.is_running for host in hosts):
            return LiveRun(
                run_id=record.id, name=record.shown_name, key=key, hosts=hosts, access=access
            )
    waits = next((host.why_not for key in _keys(session, record) for host in access.hosts(key)), "")
    raise UsageError(
        f"run {record.shown_name} has no process yet: {waits or record.state_name.lower()}",
        value=record.id,
        hint=f"`kinetic runs logs {record.id} -f` shows how it begins",
    )


def ask(
    session: Session, record: RunRecord, host: int, *command: str, limit_seconds: float
) -> Mapping[str, Any]:
    """Ask the runner of one host of a run something, and return its answer.

    Args:
        session: Where the run is.
        record: Its flow run.
        host: The host's number.
        command: The command's name and its arguments; see `runner_image/runner/beside.py`.
        limit_seconds: How long it may take.

    Raises:
        UsageError: The run is over, has not come to its function, or its runner knows no such
            command.
        LaunchError: The host cannot be reached, or did not answer in time.
    """
    run = live_run(session, record)
    run.host(host)
    return _ask(run, host, command, limit_seconds)


def ask_all(
    session: Session, record: RunRecord, *command: str, limit_seconds: float
) -> tuple[HostAnswer, ...]:
    """Ask the runners of all hosts of a run, side by side; return their answers in order.

    One that does not answer says why in its place.

    Args:
        session: Where the run is.
        record: Its flow run.
        command: The command's name and its arguments.
        limit_seconds: How long each may take.

    Raises:
        UsageError: The run is over, or has no process yet.
        LaunchError: The cluster cannot be asked.
    """
    run = live_run(session, record)

    def answer(host: HostProcess) -> HostAnswer:
        if not host.is_running:
            return HostAnswer(host=host.host, place=host.place, why_not=host.why_not)
        try:
            told = _ask(run, host.host, command, limit_seconds)
        except KineticError as error:
            return HostAnswer(host=host.host, place=host.place, why_not=in_a_sentence(error))
        return HostAnswer(host=host.host, place=host.place, told=told)

    with ThreadPoolExecutor(min(len(run.hosts), AT_ONCE)) as pool:
        return tuple(pool.map(answer, run.hosts))


def explain_exit(run: LiveRun, host: int, name: str, code: int, said: str) -> KineticError | None:
    """Return why a command of the runner was none; None for an end of the command's own.

    Args:
        run: The run.
        host: The host that was asked.
        name: The command's name.
        code: Its exit code.
        said: What was written to its errors.
    """
    if code == EXIT_UNKNOWN_COMMAND:
        return UsageError(
            f"the runner of run {run.name} is of an earlier version, and knows no {name}",
            value=name,
            hint="runs that are started from now on do",
        )
    if code == EXIT_NO_DOOR:
        return UsageError(
            f"host {host} of run {run.name} is not at its function: it still prepares, or it ends",
            value=run.run_id,
            hint=f"`kinetic runs logs {run.run_id}` shows where it is",
        )
    if code in NO_PROGRAM and "python3" in said:
        return LaunchError(f"the image of run {run.name} has no python3: {said.strip()}")
    return None


def _ask(run: LiveRun, host: int, command: Sequence[str], limit_seconds: float) -> dict[str, Any]:
    done = run.access.execute(
        run.key, host, run.command(host, command), limit_seconds=limit_seconds
    )
    said = done.errors.decode(errors="replace")
    problem = explain_exit(run, host, command[0], done.exit_code, said)
    if problem is not None:
        raise problem
    if done.exit_code:
        raise LaunchError(
            f"host {host} of run {run.name} could not answer (exit code {done.exit_code}): "
            f"{said.strip()[-SAID_CHARACTERS:] or 'it said nothing'}",
            value=done.exit_code,
        )
    return _answer(done, host, command[0])


def _answer(done: Executed, host: int, name: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(done.output)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        shown = done.output.decode(errors="replace")[:SAID_CHARACTERS]
        raise LaunchError(f"host {host} did not answer {name} with JSON: {shown!r}", value=host)
    return found


def _require_here(session: Session, record: RunRecord) -> None:
    """Refuse a run whose processes are not where this session's platform has its own.

    Raises:
        UsageError: They are not, or this user sees none.
    """
    platform, ticket = session.platform, ticket_of(record)
    launched_on = str(record.labels.get(PLATFORM_LABEL) or platform.name)
    if launched_on != platform.name:
        raise UsageError(
            f"run {record.shown_name} is on {launched_on}, and this is {platform.name}",
            value=launched_on,
            hint="use the settings that it was started with, such as KINETIC_PROJECT and "
            "KINETIC_CLUSTER",
        )
    if not platform.may_see_processes:
        raise UsageError(
            "you have no access to the cluster, so its pods cannot be reached",
            value=platform.name,
            hint="`kinetic doctor` says what is missing",
        )
    if not platform.sees(ticket.place):
        raise UsageError(
            f"run {record.shown_name} is in {ticket.place}, and this is {platform.place}",
            value=ticket.place,
            hint="use the settings that it was started with, such as KINETIC_CLUSTER and "
            "KINETIC_NAMESPACE",
        )


def _keys(session: Session, record: RunRecord) -> tuple[str, ...]:
    """Return by what a run's processes may be known: those of its launches, the last first."""
    if not ticket_of(record).has_candidates:
        return (record.id,)
    return tuple(reversed(session.platform.launcher.launches(record.id))) or (record.id,)


@lru_cache(maxsize=1)
def _way_in() -> str:
    return (files("kinetic_flows.runner_image") / "way_in.py").read_text(encoding="utf-8")
