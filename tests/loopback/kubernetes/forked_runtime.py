"""Pods that begin as a fork of a process which has imported what their images contain.

On a cluster, pods start on machines of their own. When a measurement is about whoever launches
them, and pods share this machine's processors with it, Python's imports would be most of what
is measured. Beyond that the pods are real: every one fetches its job and runs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType
from typing import Any

from loopback.kubernetes.runtime import (
    Container,
    ContainerSpec,
    Inside,
    Rewrite,
    use_this_python,
    variables_here,
)

IN_IMAGES = ("google.cloud.storage",)


@dataclass
class ForkedContainer:
    """A container that is a process group, and a grandchild of this process."""

    pid: int
    ended: asyncio.Future[int]
    within: Inside | None = None

    def inside(self, command: Sequence[str], *, has_terminal: bool) -> Inside:
        """Start it beside, with the same variables."""
        assert self.within is not None
        return replace(self.within, command=tuple(use_this_python(command)))

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


@dataclass(kw_only=True)
class ForkedRuntime:
    """Runs containers as forks; the image is not looked at.

    Attributes:
        parent: Connected to the process that is forked.
        rewrite: Turns the container's command into `[python, "-u", script]`.
        environment: Variables besides the pod's own.
    """

    parent: socket.socket
    rewrite: Rewrite = use_this_python
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.defpath})

    def __post_init__(self) -> None:
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._started: asyncio.Queue[ForkedContainer] = asyncio.Queue()
        self._one_at_a_time = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self, spec: ContainerSpec) -> Container:
        _, _, *arguments = self.rewrite(spec.command)
        request = {
            "arguments": arguments,
            "environment": {**self.environment, **variables_here(spec)},
            "directory": str(spec.directory),
            "log": str(spec.log_file),
        }
        async with self._one_at_a_time:
            writer = await self._connection()
            writer.write(json.dumps(request).encode() + b"\n")
            container = await self._started.get()
        environment: Mapping[str, str] = {**self.environment, **variables_here(spec)}
        container.within = Inside(command=(), environment=environment, directory=spec.directory)
        return container

    async def _connection(self) -> asyncio.StreamWriter:
        if self._writer is None:
            reader, self._writer = await asyncio.open_unix_connection(sock=self.parent)
            self._listening = asyncio.create_task(self._listen(reader))
        return self._writer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            told = json.loads(line)
            if "code" in told:
                self._ended.pop(told["pid"]).set_result(told["code"])
            else:
                ended = asyncio.get_running_loop().create_future()
                self._ended[told["pid"]] = ended
                self._started.put_nowait(ForkedContainer(told["pid"], ended))


@contextmanager
def a_forked_runtime(rewrite: Rewrite) -> Iterator[ForkedRuntime]:
    """Start the process that is forked, and stop it afterwards."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    theirs.close()
    try:
        yield ForkedRuntime(parent=ours, rewrite=rewrite)
    finally:
        process.terminate()
        process.wait()
        ours.close()


def serve(connection: socket.socket) -> None:
    """Fork for every request, and tell of each fork's process id and of its end."""
    for module in IN_IMAGES:
        import_module(module)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    requests = connection.makefile("rb")
    while True:
        for source in _ready(connection, woken):
            if source == woken:
                os.read(woken, 4096)
                _tell_of_ends(connection)
                continue
            line = requests.readline()
            if not line:
                return
            pid = os.fork()
            if not pid:
                _become_pod(json.loads(line))
            _tell(connection, {"pid": pid})


def _ready(connection: socket.socket, woken: int) -> list[int]:
    from select import select

    readable, _, _ = select([connection.fileno(), woken], [], [])
    return readable


def _tell_of_ends(connection: socket.socket) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            _tell(connection, {"pid": pid, "code": code if code >= 0 else 128 - code})


def _tell(connection: socket.socket, what: dict[str, Any]) -> None:
    connection.sendall(json.dumps(what).encode() + b"\n")


def _run(arguments: Sequence[str]) -> None:
    """Do as Python does with a program's file, or with `-c` and its source."""
    if arguments[0] != "-c":
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")
        return
    _, source, *others = arguments
    sys.argv = ["-c", *others]
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(source, "<string>", "exec"), vars(main))


def _become_pod(request: Mapping[str, Any]) -> None:
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _redirect(request["log"])
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        _run(request["arguments"])
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, it must not leave the fork
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for source, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(source, target)
    os.closerange(3, 256)
    # They stay open as long as the process.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
