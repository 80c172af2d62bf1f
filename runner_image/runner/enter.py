"""A command, or a shell, in the environment of a run's function: what `kinetic runs exec` starts.

    enter OPTIONS [PROGRAM [ARGUMENT...]]

OPTIONS is a JSON object: `term`, the terminal's kind, where there is one; `title`, what a shell's
prompt begins with; `lifeline`, whether the command is ended when standard input does, which is then
not its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from .door import Door
from .inside import function_environment, go_inside

EXIT_NOT_ALLOWED, EXIT_NOT_FOUND = 126, 127
"""Exit codes as shells have them, of programs that cannot be started and that are not there."""

LARGEST_VARIABLE = 131_072
"""What the kernel takes of one variable, `MAX_ARG_STRLEN` in execve(2)."""

END_SECONDS = 5.0
"""How long a command has between SIGINT and SIGKILL when nobody waits for it any more."""


def main(door: Door, arguments: Sequence[str]) -> int:
    """Become the command; return only where that is not possible, or it is waited for."""
    options: Mapping[str, Any] = json.loads(arguments[0])
    environ, note = function_environment(door)
    try:
        go_inside(door)
    except OSError as error:
        print(f"kinetic: {error.strerror}", file=sys.stderr)
        return EXIT_NOT_ALLOWED
    if note:
        print(note, file=sys.stderr, flush=True)
    command = list(arguments[1:]) or shell(options, environ)
    environ = _passed_on(environ)
    if options.get("term"):
        environ["TERM"] = options["term"]
    # Python would keep it, and so would what is started.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None:
        print(f"kinetic: {command[0]}: there is no such program in the run", file=sys.stderr)
        return EXIT_NOT_FOUND
    if options.get("lifeline"):
        return _wait_for(program, command, environ)
    try:
        return _become(program, command, environ)
    except OSError as error:
        print(f"kinetic: {program} cannot be started: {error.strerror}", file=sys.stderr)
        return EXIT_NOT_ALLOWED


def _passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that another program can be started with."""
    found = {
        name: value
        for name, value in environ.items()
        if len(os.fsencode(f"{name}={value}")) < LARGEST_VARIABLE
    }
    if left := sorted(environ.keys() - found.keys()):
        print(f"kinetic: too large to be passed on: {', '.join(left)}", file=sys.stderr, flush=True)
    return found


def _become(program: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    os.execve(program, list(command), dict(environ))  # noqa: S606 - it is a command as it is


def shell(options: Mapping[str, Any], environ: dict[str, str]) -> list[str]:
    """Return a shell that leaves the environment as it is, and set its prompt.

    Files of this user's, which are read otherwise, may change what is found where.

    Args:
        options: What `enter` was given.
        environ: The shell's variables.
    """
    for name in ("ENV", "BASH_ENV", "PROMPT_COMMAND"):
        environ.pop(name, None)
    environ["HISTFILE"] = ""
    title = options.get("title", "")
    is_bash = shutil.which("bash", path=environ.get("PATH")) is not None
    environ["PS1"] = f"[{title}] \\W\\$ " if is_bash else f"[{title}] $ "
    command = ["bash", "--noprofile", "--norc"] if is_bash else ["sh"]
    return [*command, "-i"] if options.get("term") else command


def _wait_for(program: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command for as long as somebody waits for it; return its exit code."""
    process = subprocess.Popen(
        command,
        executable=program,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # On this machine the terminal's keys reach this process, and not the command.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        else:
            return code if code >= 0 else 128 - code


def _end_with_input(process: subprocess.Popen[bytes]) -> None:
    """End a command when standard input ends, which is kept open by who waits for it."""
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
