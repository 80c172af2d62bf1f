"""Running uv: the one place that starts it, bounds it, and makes its failures readable.

The person's own uv configuration and environment reach it untouched, so whatever index and
credentials work for them in a terminal work here. What comes back is stripped of credentials
before anything else sees it.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uv
from packaging.utils import canonicalize_name

from kinetic_flows.core.errors import LockError
from kinetic_flows.core.interruption import stopped_if_interrupted
from kinetic_flows.dependencies.closure import ways_out
from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.lines import Line, normalized, passed_on
from kinetic_flows.dependencies.redaction import Redactor
from kinetic_flows.dependencies.targets import Target

RESOLVE_TIMEOUT_SECONDS = 600.0

_NOT_PASSED_ON = frozenset({"FORCE_COLOR", "RUST_LOG", "UV_FROZEN", "UV_LOCKED"})
"""Variables that would change what uv prints, or contradict what it is asked."""

_finding_uv = threading.Lock()

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLACE = re.compile(
    r"(?P<file>requirements\.in|constraints\.in)(?:`? at position (?P<position>\d+)|"
    r"`? at line (?P<line_named>\d+)|:(?P<line>\d+))"
)
_NETWORK = re.compile(
    r"Failed to fetch|Connect|dns error|timed out|error sending request|Could not connect|"
    r"status code 5\d\d|operation timed out",
    re.IGNORECASE,
)
_UNAUTHORIZED = re.compile(r"40[13] (?:Unauthorized|Forbidden)|authentication|credentials", re.I)
_NOT_FOUND = re.compile(r"not found in the package registry")
_NO_WHEEL = re.compile(r"no wheels? with a matching|no usable wheels")


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The exit code and output of a program."""

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


def run_process(
    command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], timeout_seconds: float
) -> Completed:
    """Run a program with no input and collect what it prints; stop it when this is interrupted."""
    with (
        subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process,
        stopped_if_interrupted(process),
    ):
        try:
            stdout, stderr = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            took = f"{Path(command[0]).name} took over {timeout_seconds:.0f} s"
            raise TimeoutError(took) from error
    return Completed(exit_code=process.returncode, stdout=stdout, stderr=stderr)


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
        # stdout is uv's data (a lock, a path); its readers take the credentials out of it.
        return Completed(
            exit_code=done.exit_code, stdout=done.stdout, stderr=redactor(done.stderr).strip()
        )


def find_uv() -> str:
    """Return the path of the uv executable that came with this installation.

    Raises:
        LockError: There is none.
    """
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


def resolution_error(
    stderr: str,
    declared: Declaration,
    target: Target,
    scratch: Path,
    environ: Mapping[str, str],
) -> LockError:
    """Return the error for a failed resolution.

    Args:
        stderr: What uv said.
        declared: What it was asked to resolve.
        target: What for.
        scratch: Directory of the files it was given, whose names mean nothing to a person.
        environ: The person's environment, for its secrets.
    """
    redactor = Redactor.of(environ)
    explanation = _in_own_words(stderr, scratch)
    culprits = _culprits(stderr, declared, scratch)
    places = [f"  {line.origin}: {line.text}" for line in culprits]
    head = "the dependencies cannot be resolved"
    if culprits:
        head = f"{culprits[0].origin}: {culprits[0].text} cannot be resolved"
    message = "\n".join([f"{head} for {_shown(declared, target)}:", _indented(explanation)])
    if len(places) > 1:
        message = "\n".join([message, "  asked for in:", *(f"  {place}" for place in places)])
    value = culprits[0].text if culprits else None
    hint = _held_hint(stderr, declared, target) or _hint(stderr, environ)
    return LockError(redactor(message), value=redactor(value) if value else None, hint=hint)


def _culprits(stderr: str, declared: Declaration, scratch: Path) -> list[Line]:
    """Return the lines uv's explanation is about: the very line it names, else by package."""
    lines = [*declared.lines, *declared.constraints]
    pointed_at = _pointed_at(stderr, scratch)
    if pointed_at:
        return _unique([line for line in lines if passed_on(line) in pointed_at])
    words = {canonicalize_name(word.rstrip(".-_")) for word in _WORD.findall(_opening(stderr))}
    named = [line for line in lines if line.name in words or _path_is_named(line, stderr)]
    return _unique(sorted(named, key=lambda line: not _is_quoted(line, stderr)))


def _pointed_at(stderr: str, scratch: Path) -> set[str]:
    """Return the lines of our own files that uv points at, by line number or by position."""
    found = set()
    for match in _PLACE.finditer(stderr):
        text = (scratch / match["file"]).read_text(encoding="utf-8")
        if match["position"]:
            start = len(text.encode()[: int(match["position"])].decode(errors="replace"))
            found.add(text[start:].partition("\n")[0])
        else:
            number = int(match["line"] or match["line_named"])
            found.update(text.split("\n")[number - 1 :][:1])
    return found


def _opening(stderr: str) -> str:
    """Return uv's explanation without its hints, which name packages of all kinds."""
    return stderr.partition("\nhint:")[0]


def _is_quoted(line: Line, stderr: str) -> bool:
    text = re.escape(normalized(line))
    return re.search(rf"(?<![\w.-]){text}(?![\w.-])", stderr) is not None and "==" in line.text


def _path_is_named(line: Line, stderr: str) -> bool:
    return line.path is not None and (str(line.path) in stderr or line.path.as_uri() in stderr)


def _unique(lines: Iterable[Line]) -> list[Line]:
    found: list[Line] = []
    for line in lines:
        if line not in found:
            found.append(line)
    return found


def _in_own_words(stderr: str, scratch: Path) -> str:
    """Remove the names of our own files, which mean nothing to a person."""
    names = [f"{scratch}/{name}" for name in ("requirements.in", "constraints.in")]
    for name in names:
        stderr = stderr.replace(f" in `{name}`", "").replace(name, "the requirements")
    return stderr.strip()


def _hint(stderr: str, environ: Mapping[str, str]) -> str:
    if _UNAUTHORIZED.search(stderr):
        return (
            "give the index's credentials in UV_INDEX_<NAME>_USERNAME and"
            " UV_INDEX_<NAME>_PASSWORD, or in ~/.netrc"
        )
    if _NOT_FOUND.search(stderr):
        return _not_found_hint(environ)
    if _NO_WHEEL.search(stderr):
        return "ask for a version that has a wheel for that platform and Python"
    if _NETWORK.search(stderr):
        return "check that the package index can be reached, and try again"
    return "change the requirements that uv names"


def _not_found_hint(environ: Mapping[str, str]) -> str:
    hint = "check the name; for a private index, set UV_INDEX or [[tool.uv.index]]"
    if environ.get("PIP_INDEX_URL") or environ.get("PIP_EXTRA_INDEX_URL"):
        hint += " (uv does not read PIP_INDEX_URL and PIP_EXTRA_INDEX_URL)"
    return hint


def _held_hint(stderr: str, declared: Declaration, target: Target) -> str | None:
    """Return the ways out when it is a version of the image that nothing fits."""
    if declared.keeps_accelerator:
        return None
    in_the_way = [pin for pin in target.constraints if _is_named(pin, _opening(stderr))]
    if not in_the_way:
        return None
    return f"the image has {', '.join(in_the_way[:3])}: {ways_out(target)}"


def _is_named(pin: str, text: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(pin)}(?![\w-])", text) is not None


def _shown(declared: Declaration, target: Target) -> str:
    held = () if declared.keeps_accelerator else target.constraints
    # What the CUDA packages are follows from jax, and would only make the line long.
    pins = [pin for pin in held if not pin.startswith("nvidia-")]
    shown = f", held to {', '.join(pins[:3])}" if pins else ""
    return f"{target.platform}, Python {target.python}{shown}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
