"""Installing the project's locked requirements beside the image's own packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .contract import EXIT_REQUIREMENTS_FAILED, EXIT_RUNTIME_UNFIT, Fault
from .fetching import Store, fetch
from .identity import without_keys

TAIL_LINES = 15

_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")
_BLAMED = (
    re.compile(r"Hash mismatch for `([^`]+)`"),
    re.compile(
        r"Failed to (?:build|download|extract|install|parse|prepare|read|unzip)[^`]*`([^`]+)`"
    ),
    re.compile(r"you require ([^\s,]+)"),
    re.compile(r"Failed to fetch: `?\S*?/([^/`\s]+)/?`?(?:\s|$)"),
)
"""How uv names the package that it could not install, the surest first."""


def install_requirements(
    store: Store, spec: Mapping[str, Any], scratch: str, report: Callable[[str], None]
) -> str:
    """Install what the image lacks into a directory, and return that directory.

    Packages that the image has in the locked version are left alone, so that an image with the
    accelerator's runtime is not installed over. Nothing is written outside `scratch`.

    Args:
        store: Where the lock and the wheels are.
        spec: The job's `RequirementsSpec`.
        scratch: A directory for the lock, uv's cache and the installed packages.
        report: Called with each line that tells how far it is.

    Raises:
        Fault: An object is missing or refused, there is no uv, or uv failed.
    """
    started = time.monotonic()
    target = os.path.join(scratch, "packages")
    os.mkdir(target)
    lock = fetch(store, spec["lock"]).decode()
    wanted = without_installed(lock, installed_version)
    names, total = pinned(wanted), len(pinned(lock))
    if not names:
        report(f"the image has all {total} packages of the project")
        return target
    report(f"installing {len(names)} of the project's {total} packages; the image has the others")
    lock_file = os.path.join(scratch, "requirements.lock")
    with open(lock_file, "w", encoding="utf-8") as file:
        file.write(wanted)
    environ = _environment(spec, scratch)
    arguments = [*_arguments(spec, lock_file), "--target", target]
    if spec["wheels"]:
        from .serving import serving

        with serving(store, spec["wheels"]) as wheels:
            arguments += ["--find-links", wheels.url]
            _run_uv(arguments, wheels.environment(environ), report)
    else:
        _run_uv(arguments, environ, report)
    report(f"installed in {time.monotonic() - started:.1f} s")
    return target


def pinned(lock: str) -> frozenset[str]:
    """Return the names of a lock's packages."""
    matches = (_PIN.match(line) for line in lock.splitlines())
    return frozenset(_canonical(match[1]) for match in matches if match)


def blamed_package(lines: Iterable[str]) -> str | None:
    """Return the package that uv says it could not install; None when it does not say."""
    text = "\n".join(lines)
    for pattern in _BLAMED:
        match = pattern.search(text)
        if match:
            return match[1]
    return None


def without_installed(lock: str, installed: Callable[[str], str | None]) -> str:
    """Return a lock without the packages that are installed in the very version it names."""
    kept: list[str] = []
    skipping = False
    for line in lock.splitlines(keepends=True):
        pin = _PIN.match(line)
        if pin:
            skipping = installed(pin[1]) == pin[2]
        elif not line.startswith((" ", "\t")):
            skipping = False
        if not skipping:
            kept.append(line)
    return "".join(kept)


def installed_version(name: str) -> str | None:
    """Return the version of a package in this image, or None when it has none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _arguments(spec: Mapping[str, Any], lock_file: str) -> list[str]:
    # No bytecode: compiling all packages takes longer than importing those that are used
    # (benchmarks/prebuilt.py).
    arguments = ["pip", "install", "--no-deps", "--require-hashes", "--requirements", lock_file]
    arguments += ["--python", sys.executable, "--no-progress"]
    if spec["offline"]:
        arguments += ["--no-index"]
    constraints = spec["constraints"]
    if constraints and os.path.exists(constraints):
        arguments += ["--constraints", constraints]
    return arguments


def _environment(spec: Mapping[str, Any], scratch: str) -> dict[str, str]:
    # A package that has to be built runs code of its own.
    environ = {"UV_CACHE_DIR": os.path.join(scratch, "uv-cache"), **without_keys(os.environ)}
    if spec["offline"]:
        # `--no-index` says it already, and to uv the job's own wheels come over a network.
        environ.pop("UV_OFFLINE", None)
    return environ


def _run_uv(
    arguments: list[str], environ: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Run uv, passing on what it prints."""
    lines: list[str] = []
    with subprocess.Popen(
        [*_uv(), *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                report(lines[-1])
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        what = blamed_package(lines) or "the requirements"
        message = f"uv could not install {what} (exit code {process.returncode}):"
        raise Fault(EXIT_REQUIREMENTS_FAILED, "\n".join([message, *lines[-TAIL_LINES:]]))


def _canonical(name: str) -> str:
    """Write a package's name as https://packaging.python.org/specifications/name-normalization."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _uv() -> list[str]:
    """Return the command that runs uv."""
    import importlib.util
    import shutil

    found = shutil.which("uv")
    if found:
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise Fault(
        EXIT_RUNTIME_UNFIT,
        "the image lacks uv, which installs the requirements; add uv to the image",
    )
