"""`kinetic runs shell`, `exec`, `forward` and `cp`: a way into a run that goes on."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import require_something_to_read
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import ConfigurationError, KineticError, UsageError
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.runs.find import run_id_of
from kinetic_flows.runs.insight.beside import LiveRun, live_run
from kinetic_flows.runs.insight.copying import copy_from, copy_to
from kinetic_flows.runs.session import Session, own_session

ENTER = "enter"
LOOK_SECONDS = 10.0
"""How often it is looked whether a run whose ports are forwarded goes on."""

MAX_PORT = 65_535

EXAMPLES = {
    "shell": ("kinetic runs shell 9229eced", "kinetic runs shell 9229eced --host 3"),
    "exec": (
        "kinetic runs exec 9229eced -- nvidia-smi",
        "kinetic runs exec 9229eced --host 1 -- ls -l",
    ),
    "forward": (
        "kinetic runs forward 9229eced 6006",
        "kinetic runs forward 9229eced 8888:9999 5678",
    ),
    "cp": (
        "kinetic runs cp 9229eced:checkpoints ./checkpoints",
        "kinetic runs cp stop.txt 9229eced:",
    ),
}

Command = Annotated[str, Parameter(allow_leading_hyphen=True)]


def shell(run_id: str, /, *, host: int = 0) -> None:
    """Open a shell in a run's pod, or on this machine, as its function finds itself there.

    It has the function's environment variables, its mounts and its working directory. Keys go to
    it as they are, Ctrl-C among them; what it does counts towards the run's memory.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        host: Which of its hosts.
    """
    with _entered(run_id) as run:
        code = _enter(run, host, ())
    sys.exit(code)


def execute(run_id: str, /, *command: Command, host: int = 0) -> None:
    """Run a command beside a run's function, in its environment and its working directory.

    It has a terminal where this command has one. Its exit code is this command's.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        command: The program and its arguments, after `--`.
        host: Which of the run's hosts.
    """
    if not command:
        raise UsageError(
            "there is no command to run",
            hint="write it after --, such as `kinetic runs exec 9229eced -- nvidia-smi`",
        )
    with _entered(run_id) as run:
        code = _enter(run, host, command)
    sys.exit(code)


def forward(
    run_id: str,
    /,
    *ports: str,
    host: int = 0,
    as_json: Json = False,
) -> None:
    """Lead ports of this machine to ports of a run: TensorBoard, a debugger, a notebook.

    They stay open until Ctrl-C, or until the run is over; a pod that takes another's place is
    found again. Only this machine can connect to them.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        ports: PORT, or PORT:LOCAL where the port of this machine is to be another one; 0 as LOCAL
            is any that is free.
        host: Which of the run's hosts.
        as_json: Print a JSON object first.
    """
    wanted = [read_port(text) for text in ports]
    if not wanted:
        raise UsageError(
            "there is no port to forward",
            hint="name it, such as `kinetic runs forward 9229eced 6006`",
        )
    require_something_to_read()
    with own_session(NullProgress()) as session, ExitStack() as opened:
        record = session.api.read_run(run_id_of(run_id, session.api))
        run = live_run(session, record)
        run.host(host)
        found = []
        for port, local in wanted:
            with _other_port_named(run_id, port):
                way = run.access.forward(run.key, host, port, local, _say)
                found.append((port, opened.enter_context(way)))
        _tell_of_ports(run, host, found, as_json=as_json)
        _await_end(run.run_id, session)


def cp(source: str, target: str, /, *, host: int = 0, as_json: Json = False) -> None:
    """Copy a file or a directory from a run that goes on, or to it.

    A path of the run begins with its id: ID:PATH. One that is relative begins at its function's
    working directory. What a run has written to its outputs is to be had at any time, by
    `kinetic runs outputs`.

    Args:
        source: What is copied: PATH, or ID:PATH.
        target: Where to, or the directory into which: PATH, or ID:PATH.
        host: Which of the run's hosts.
        as_json: Print a JSON object.
    """
    (from_run, path), (to_run, place) = split_path(source), split_path(target)
    if bool(from_run) == bool(to_run):
        raise UsageError(
            "one of the two paths has to be a run's",
            value=(source, target),
            hint="write ID:PATH, such as `kinetic runs cp 9229eced:model.keras .`",
        )
    require_something_to_read()
    environ = process_environment()
    progress = terminal_progress(load_settings(environ).progress, environ)
    copy = copy_from if from_run else copy_to
    with own_session(progress) as session:
        record = session.api.read_run(run_id_of(from_run or to_run, session.api))
        run = live_run(session, record)
        run.host(host)
        done = copy(run, host, path, place or ".", progress)
    if as_json:
        told: dict[str, Any] = {"path": done.path, "files": done.files, "bytes": done.size_bytes}
        print_json({"id": run.run_id, **told, "skipped": list(done.skipped)})
    else:
        print(for_terminal(done.path))


def read_port(text: str) -> tuple[int, int]:
    """Return a run's port and this machine's, from `PORT` or `PORT:LOCAL`.

    Raises:
        UsageError: It is neither.
    """
    port, is_given, local = text.partition(":")
    numbers = (port, local if is_given else port)
    if all(each.isdecimal() and int(each) <= MAX_PORT for each in numbers) and int(port):
        return int(numbers[0]), int(numbers[1])
    raise UsageError(
        f"{text!r} is no port",
        value=text,
        hint="write PORT, or PORT:LOCAL where this machine's is to be another, such as 6006:7007",
    )


def split_path(text: str) -> tuple[str, str]:
    """Return the run and the path of `ID:PATH`; no run for a path of this machine.

    Args:
        text: What was given. A path with a colon in it is this machine's if it begins with `./`
            or `/`.
    """
    run_id, colon, path = text.partition(":")
    if not colon or not run_id or "/" in run_id or run_id.startswith("."):
        return "", text
    return run_id, path


@contextmanager
def _entered(run_id: str) -> Iterator[LiveRun]:
    require_something_to_read()
    with own_session(NullProgress()) as session:
        record = session.api.read_run(run_id_of(run_id, session.api))
        yield live_run(session, record)


def _enter(run: LiveRun, host: int, command: tuple[str, ...]) -> int:
    run.host(host)
    has_input = _is_terminal(sys.stdin)
    terminal = has_input and _is_terminal(sys.stdout)
    # Where a person types and no terminal is passed on, what is typed is not the command's; where
    # standard input was closed, its number may be another file's.
    reads = terminal or not (has_input or sys.stdin is None)
    title = f"{run.name.partition('(')[0]} {short_id(run.run_id)}"
    options = {
        "title": f"{title} host {host}" if len(run.hosts) > 1 else title,
        **({"term": os.environ.get("TERM") or "xterm"} if terminal else {}),
        **({} if reads else {"lifeline": True}),
    }
    started = run.command(host, (ENTER, json.dumps(options), *command))
    code = run.access.attach(run.key, host, started, terminal=terminal, reads=reads)
    # As shells say that a signal has ended it.
    return code if code >= 0 else 128 - code


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream and stream.isatty())
    except ValueError:
        # It was closed.
        return False


@contextmanager
def _other_port_named(run_id: str, port: int) -> Iterator[None]:
    """Say how to name another port of this machine where one is taken."""
    try:
        yield
    except ConfigurationError as error:
        error.hint = f"name another: `kinetic runs forward {run_id} {port}:LOCAL`; 0 is a free one"
        raise


def _tell_of_ports(run: LiveRun, host: int, ports: list[tuple[int, int]], *, as_json: bool) -> None:
    place = run.hosts[host].place
    if as_json:
        told = [{"port": port, "local": local} for port, local in ports]
        print_json({"id": run.run_id, "host": host, "place": place, "ports": told})
        sys.stdout.flush()
        return
    for port, local in ports:
        print(f"127.0.0.1:{local} leads to port {port} of host {host} ({place})")
    print("open until Ctrl-C, or until the run is over", flush=True)


def _await_end(run_id: str, session: Session) -> None:
    """Wait until the run is over, or somebody has had enough."""
    waiting = threading.Event()
    try:
        while not waiting.wait(LOOK_SECONDS):
            try:
                record = session.api.read_run(run_id)
            except KineticError:
                # The API may be away for a while; the ports are not.
                continue
            if record.is_final:
                _say(f"the run is over: {record.state_name}")
                return
    except KeyboardInterrupt:
        _say("closed")


def _say(text: str) -> None:
    print(f"kinetic: {text}", file=sys.stderr, flush=True)
