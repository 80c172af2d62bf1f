"""Checks of this machine: Python, uv, packages, room on the disk, settings."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from kinetic_flows.core.errors import LockError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.findings import Check, Finding, finding_of
from kinetic_flows.core.settings.settings import unknown_settings
from kinetic_flows.core.version import VERSION
from kinetic_flows.dependencies.uv import Uv
from kinetic_flows.images.bases import base_pythons

GROUP = "client"

LITTLE_BYTES = 2_000_000_000
"""An environment with an accelerator's packages takes as much, and a run's data soon more."""

TOO_LITTLE_BYTES = 100_000_000
"""Not even a small project's environment finds room."""

UV_SECONDS = 5.0
DISTRIBUTION = "kinetic-flows"
_NAMED = ("prefect", "cloudpickle")
"""Packages whose versions are said: a server's, and a pod's, have to go with them."""


def client_checks(home: Path, environ: Mapping[str, str]) -> tuple[Check, ...]:
    """Return the checks of this machine.

    Args:
        home: `KINETIC_HOME`.
        environ: This process's variables.
    """
    looks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("Python", lambda: [python_finding(sys.version_info[:2])]),
        ("uv", lambda: [uv_finding(environ)]),
        ("packages", lambda: package_findings(requires(DISTRIBUTION) or (), _installed)),
        ("KINETIC_HOME", lambda: [home_finding(home)]),
        ("disk", lambda: disk_findings(home, Path(tempfile.gettempdir()))),
        ("variables", lambda: variable_findings(environ)),
    )
    return tuple(Check(group=GROUP, subject=subject, look=look) for subject, look in looks)


def python_finding(running: tuple[int, ...]) -> Finding:
    """Return whether images come with a Python.

    Args:
        running: Its major and minor version.
    """
    name, known = ".".join(map(str, running)), base_pythons()
    if name in known:
        return Finding(subject=f"Python {name}", level="ok", text="base images have it, too")
    return Finding(
        subject=f"Python {name}",
        level="warning",
        text=f"base images come for {', '.join(known)}; one for {name} is resolved and made before "
        "the first run on GKE",
    )


def uv_finding(environ: Mapping[str, str]) -> Finding:
    """Return whether uv can be started, by which dependencies are resolved and installed."""
    try:
        done = Uv(cwd=Path.cwd(), environ=environ)("--version", timeout_seconds=UV_SECONDS)
    except LockError as error:
        is_slow = isinstance(error.__cause__, TimeoutError)
        return finding_of("uv", error, "unknown" if is_slow else "wrong")
    if done.exit_code:
        return Finding(
            subject="uv",
            level="wrong",
            text=f"it ends with exit code {done.exit_code}: {done.stderr[:200]}",
            command="pip install --force-reinstall uv",
        )
    return Finding(subject="uv", level="ok", text=done.stdout.strip().removeprefix("uv "))


def package_findings(
    requirements: Iterable[str], installed: Callable[[str], str | None]
) -> Iterator[Finding]:
    """Yield which packages are not of a version that this one goes with.

    Args:
        requirements: What this package asks for.
        installed: Returns the version of a package that is installed; None for none.
    """
    wanted = [Requirement(line) for line in requirements]
    wanted = [each for each in wanted if each.marker is None or each.marker.evaluate()]
    unfit = 0
    for each in wanted:
        found = installed(each.name)
        if found is None or not each.specifier.contains(found, prereleases=True):
            unfit += 1
            has = "it is not installed" if found is None else f"{found} is installed"
            yield Finding(
                subject=each.name,
                level="wrong",
                text=f"{DISTRIBUTION} {VERSION} needs {each.name}{each.specifier}, and {has}",
                command=f'pip install "{each.name}{each.specifier}"',
            )
    if not unfit:
        named = ", ".join(f"{name} {installed(name)}" for name in _NAMED)
        text = f"{DISTRIBUTION} {VERSION} with {named}: all {len(wanted)} are as it needs them"
        yield Finding(subject="packages", level="ok", text=text)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def home_finding(home: Path) -> Finding:
    """Return whether `KINETIC_HOME` can be written to, without making it."""
    try:
        there = _nearest(home)
        if home.is_dir():
            with tempfile.TemporaryFile(dir=home):
                pass
        elif not there.is_dir():
            raise NotADirectoryError(20, "Not a directory", str(there))
        elif not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(there))
    except OSError as error:
        return Finding(
            subject="KINETIC_HOME",
            level="wrong",
            text=f"{home} cannot be written to: {error.strerror}",
            command="export KINETIC_HOME=/a/directory/of/yours",
        )
    text = f"{home}" if home.is_dir() else f"{home}, which the first run makes"
    return Finding(subject="KINETIC_HOME", level="ok", text=text)


def disk_findings(*directories: Path) -> Iterator[Finding]:
    """Yield how much room there is where directories are, or will be; once for each disk."""
    seen = set()
    for directory in directories:
        there = _nearest(directory)
        device = there.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield disk_finding(directory, shutil.disk_usage(there).free)


def disk_finding(directory: Path, free_bytes: int) -> Finding:
    """Return whether there is room enough on a disk.

    Args:
        directory: A directory on it.
        free_bytes: How much is free.
    """
    subject, text = f"disk of {directory}", f"{size_in_units(free_bytes)} free"
    if free_bytes >= LITTLE_BYTES:
        return Finding(subject=subject, level="ok", text=text)
    return Finding(
        subject=subject,
        level="wrong" if free_bytes < TOO_LITTLE_BYTES else "warning",
        text=f"only {text}",
        command="kinetic runs cleanup",
    )


def variable_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the variables that begin like a setting and are none."""
    told = unknown_settings(environ)
    for text in told:
        name = text.partition(" ")[0]
        said = text.removeprefix(f"{name} ")
        command = f"unset {name}"
        yield Finding(subject=name, level="warning", text=said, command=command)
    if not told:
        yield Finding(subject="variables", level="ok", text="every KINETIC_ variable is a setting")


def _nearest(path: Path) -> Path:
    """Return a path, or the nearest above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())
