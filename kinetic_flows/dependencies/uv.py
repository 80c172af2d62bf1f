"""Running uv: the one place that starts it, bounds it, and makes its failures readable.

The person's own uv configuration and environment reach it untouched, so whatever index and
credentials work for them in a terminal work here. What comes back is stripped of credentials
before anything else sees it.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kinetic_flows.core.errors import LockError
from kinetic_flows.dependencies.redaction import Redactor

RESOLVE_TIMEOUT_SECONDS = 600.0

_NOT_PASSED_ON = frozenset({"FORCE_COLOR", "RUST_LOG", "UV_FROZEN", "UV_LOCKED"})
"""Variables that would change what uv prints, or contradict what it is asked."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """How a program ended and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Starts a program and waits for it; tests pass their own."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        timeout_seconds: float,
    ) -> Completed:
        """Run the command to its end; raise `TimeoutError` when it takes too long."""
        ...


_finding_uv = threading.Lock()


def run_process(
    command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], timeout_seconds: float
) -> Completed:
    """Run a program with no input and collect what it prints."""
    try:
        done = subprocess.run(
            list(command),
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{Path(command[0]).name} took over {timeout_seconds:.0f} s") from error
    return Completed(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@dataclass(frozen=True, kw_only=True)
class Uv:
    """uv, run in one directory with one environment.

    Attributes:
        cwd: Directory whose uv configuration applies, normally the project's.
        environ: The variables uv is given.
        run: What starts it.
    """

    cwd: Path
    environ: Mapping[str, str]
    run: Runner = run_process

    def __call__(
        self, *arguments: str | Path, timeout_seconds: float = RESOLVE_TIMEOUT_SECONDS
    ) -> Completed:
        """Run uv with arguments; the caller judges the exit code.

        Raises:
            LockError: uv is missing or took too long.
        """
        redactor = Redactor.of(self.environ)
        command = [find_uv(), *(str(item) for item in arguments)]
        try:
            done = self.run(
                command,
                cwd=self.cwd,
                environ=_uv_environment(self.environ),
                timeout_seconds=timeout_seconds,
            )
        except (TimeoutError, OSError) as error:
            raise LockError(
                f"uv {arguments[0]} did not finish: {redactor(str(error))}",
                hint="check that the package indexes can be reached, and try again",
            ) from error
        # stdout is uv's data (a lock, a path); who reads it takes the credentials out of it.
        return Completed(
            exit_code=done.exit_code, stdout=done.stdout, stderr=redactor(done.stderr).strip()
        )


def find_uv() -> str:
    """Return the path of the uv executable that came with this installation.

    Raises:
        LockError: There is none.
    """
    import uv

    try:
        # It asks `sysconfig`, which up to Python 3.12 fills its table unsafely for threads.
        with _finding_uv:
            return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise LockError(
            f"the uv executable is missing: {error}",
            hint="reinstall it: pip install --force-reinstall uv",
        ) from error


def _uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the person's environment, with uv's output made plain."""
    plain = {key: value for key, value in environ.items() if key not in _NOT_PASSED_ON}
    return {**plain, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
