"""Compiling the sources of wheels for a minor version of Python, in several processes at once."""

from __future__ import annotations

import inspect
import os
import posixpath
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.processes import describe_exit
from kinetic_flows.images.layers import compile_sources
from kinetic_flows.images.layers.model import SITE_PACKAGES

LARGEST_SOURCE_BYTES = 16 << 20
"""A larger source is left without bytecode: compiling takes some hundred times its size."""

_BATCH_BYTES = 96 << 10
_CLEAN = ("-S", "-s", "-P", "-B", "-W", "ignore")
"""Options of an interpreter that sees nothing of this machine; `-I` would ignore the hash seed."""

Sources = list[tuple[str, bytes]]


class Compiler:
    """Compiles sources for one minor version of Python.

    Several threads may use it. It is a context manager, whose processes end with it.

    Args:
        python: The minor version.
        environ: Environment variables, for finding an interpreter of it through uv.
        processes: How many processes compile at once; None for one per processor.
    """

    def __init__(
        self, python: str, environ: Mapping[str, str], *, processes: int | None = None
    ) -> None:
        self.python = python
        self._environ = environ
        self._pool = ThreadPoolExecutor(processes or _processors())
        self._own = threading.local()
        self._lock, self._finding = threading.Lock(), threading.Lock()
        self._interpreter = ""
        self._children: list[_Child] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._closed = True
        with self._lock:
            for child in self._children:
                child.end()
        self._pool.shutdown(cancel_futures=True)

    def check(self) -> None:
        """See that it can compile, before anything is fetched for it.

        Raises:
            ImageError: There is no interpreter of the version, and uv cannot get one.
        """
        # Here, where an interruption is seen, and not in one of the pool's threads.
        self._found()
        self.submit([("", b"")]).result()

    def submit(self, sources: Sources) -> Future[list[bytes]]:
        """Have sources compiled, each with the name of its file in a running image.

        The answer has the content of each one's .pyc file, empty for one that does not compile.
        """
        return self._pool.submit(self._compiled, sources)

    def _compiled(self, sources: Sources) -> list[bytes]:
        try:
            return self._child().compile(sources)
        except EOFError:
            code = self._child().end()
            self._own.child = None
        if len(sources) > 1:
            return [self._compiled([each])[0] for each in sources]
        if code == -signal.SIGKILL:
            raise ImageError(
                f"compiling {sources[0][0]} for Python {self.python} {describe_exit(code)}",
                value=sources[0][0],
                hint="the machine may be short of memory; try again when it has more",
            )
        # The compiler itself came down over it, as it would in the image.
        return [b""]

    def _child(self) -> _Child:
        child: _Child | None = getattr(self._own, "child", None)
        if child is None:
            child = self._own.child = _Child(self._found(), self.python, self._environ)
            with self._lock:
                self._children.append(child)
        if self._closed:
            child.end()
            raise ImageError(f"compiling for Python {self.python} was ended")
        return child

    def _found(self) -> str:
        with self._finding:
            if not self._interpreter:
                self._interpreter = find_interpreter(self.python, self._environ)
            return self._interpreter


class Bytecode:
    """Gathers the sources of a layer, and has them compiled while more of them come."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._batch: dict[str, bytes] = {}
        self._batch_bytes = 0
        self._sent: list[tuple[list[str], Future[list[bytes]]]] = []

    def add(self, path: str, source: bytes) -> None:
        """Add a source.

        Args:
            path: Its path in the layer.
            source: Its content.
        """
        if len(source) > LARGEST_SOURCE_BYTES:
            return
        self._batch[path] = source
        self._batch_bytes += len(source)
        if self._batch_bytes >= _BATCH_BYTES:
            self._send()

    def _send(self) -> None:
        python = self._compiler.python
        sources = [(seen_path(path, python), source) for path, source in self._batch.items()]
        self._sent.append((list(self._batch), self._compiler.submit(sources)))
        self._batch, self._batch_bytes = {}, 0

    def finish(self) -> Iterator[tuple[str, bytes]]:
        """Yield the bytecode of all that compiles, with its path in the layer, in that order.

        It comes while the rest is still being compiled.
        """
        if self._batch:
            self._send()
        for paths, future in self._sent:
            for path, data in zip(paths, future.result(), strict=True):
                if data:
                    yield bytecode_path(path, self._compiler.python), data


def seen_path(path: str, python: str) -> str:
    """Return the absolute path by which a running image knows a file of its packages."""
    return f"/usr/local/lib/python{python}/site-packages/{path.removeprefix(SITE_PACKAGES + '/')}"


def bytecode_path(path: str, python: str) -> str:
    """Return where the bytecode of a source is (PEP 3147)."""
    directory, name = posixpath.split(path)
    tag = f"cpython-{python.replace('.', '')}"
    return f"{directory}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc"


class _Child:
    """One process that compiles."""

    def __init__(self, interpreter: str, python: str, environ: Mapping[str, str]) -> None:
        plain = {name: value for name, value in environ.items() if not name.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [interpreter, *_CLEAN, "-c", inspect.getsource(compile_sources)],
            env={**plain, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C is for the one who uses it, who then ends it.
            process_group=0,
        )
        said = b""
        with suppress(EOFError, OSError):
            said = b"".join(self._receive())
        if said.decode() != f"cpython {python}":
            self.end()
            raise _no_interpreter(python, f"{interpreter} is {said.decode() or 'not working'}")

    def compile(self, sources: Sources) -> list[bytes]:
        """Compile sources.

        Raises:
            EOFError: The process has ended.
        """
        assert self._process.stdin is not None
        parts = [part for name, source in sources for part in (name.encode(), source)]
        try:
            compile_sources.send(self._process.stdin, parts)
            return self._receive()
        except (OSError, ValueError) as error:
            # It ended, or was ended in another thread.
            raise EOFError from error

    def _receive(self) -> list[bytes]:
        assert self._process.stdout is not None
        parts = compile_sources.receive(self._process.stdout)
        if not parts:
            raise EOFError
        return parts

    def end(self) -> int:
        """End the process, and return its exit code."""
        self._process.kill()
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            # What was not sent yet has nowhere to go.
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        return code


def find_interpreter(python: str, environ: Mapping[str, str]) -> str:
    """Return the path of an interpreter of a minor version: this one, or one that uv knows or gets.

    Args:
        python: The minor version.
        environ: Environment variables that uv is given.

    Raises:
        ImageError: There is none, and uv cannot get one.
    """
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    is_release = sys.version_info.releaselevel == "final"
    if own == python and sys.executable and sys.implementation.name == "cpython" and is_release:
        return sys.executable
    from kinetic_flows.dependencies.uv import Uv

    uv = Uv(cwd=Path(tempfile.gettempdir()), environ=environ)
    find = ("python", "find", "--no-project", "--no-config", f"cpython@{python}")
    found = uv(*find)
    if found.exit_code:
        got = uv("python", "install", "--no-bin", "--no-config", f"cpython@{python}")
        found = got if got.exit_code else uv(*find)
    if found.exit_code:
        said = found.stderr.splitlines() or ["uv said nothing"]
        raise _no_interpreter(python, f"{said[0].strip()} ({said[-1].strip()})")
    return found.stdout.strip()


def _no_interpreter(python: str, why: str) -> ImageError:
    return ImageError(
        f"there is no Python {python} here to make bytecode with: {why}",
        value=python,
        hint=f"install it (`uv python install {python}`), "
        "or set KINETIC_BUILDER=cloud-build to have layers made there",
    )


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
