"""Installing the project's locked requirements beside the image's own packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .contract import EXIT_REQUIREMENTS_FAILED, EXIT_RUNTIME_UNFIT, Fault
from .fetching import Store, fetch, fetch_to_file, in_parallel

TAIL_LINES = 15

_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")


def install_requirements(
    store: Store, spec: Mapping[str, Any], scratch: str, report: Callable[[str], None]
) -> str:
    """Install what the image lacks into a directory, and return that directory.

    Packages that the image has in the locked version are left alone, so that an image with the
    accelerator's runtime is not installed over. Nothing is written outside `scratch`.

    Args:
        store: Where the lock and the wheels are.
        spec: The job's `RequirementsSpec`.
        scratch: A directory for the lock, the wheels and the installed packages.
        report: Called with each line uv prints.

    Raises:
        Fault: An object is missing or refused, there is no uv, or uv failed.
    """
    lock, wheels = fetch_requirements(store, spec, scratch)
    target = os.path.join(scratch, "packages")
    os.mkdir(target)
    wanted = without_installed(lock, installed_version)
    if not any(_PIN.match(line) for line in wanted.splitlines()):
        return target
    lock_file = os.path.join(scratch, "requirements.lock")
    with open(lock_file, "w", encoding="utf-8") as file:
        file.write(wanted)
    _run_uv([*_arguments(spec, lock_file, wheels), "--target", target], scratch, report)
    return target


def fetch_requirements(
    store: Store, spec: Mapping[str, Any], scratch: str
) -> tuple[str, str | None]:
    """Return the lock's text, and the directory of the wheels that came with the job."""
    lock = fetch(store, spec["lock"]).decode()
    if not spec["wheels"]:
        return lock, None
    wheels = os.path.join(scratch, "wheels")
    os.mkdir(wheels)
    in_parallel(
        partial(fetch_to_file, store, ref, os.path.join(wheels, os.path.basename(ref["name"])))
        for ref in spec["wheels"]
    )
    return lock, wheels


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


def _arguments(spec: Mapping[str, Any], lock_file: str, wheels: str | None) -> list[str]:
    arguments = ["pip", "install", "--no-deps", "--require-hashes", "--requirements", lock_file]
    arguments += ["--python", sys.executable, "--no-progress"]
    if wheels:
        arguments += ["--find-links", wheels]
    if spec["offline"]:
        arguments += ["--no-index"]
    constraints = spec["constraints"]
    if constraints and os.path.exists(constraints):
        arguments += ["--constraints", constraints]
    return arguments


def _run_uv(arguments: list[str], scratch: str, report: Callable[[str], None]) -> None:
    """Run uv, passing on what it prints."""
    environ = dict(os.environ)
    environ.setdefault("UV_CACHE_DIR", os.path.join(scratch, "uv-cache"))
    last: list[str] = []
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
                last = [*last[1 - TAIL_LINES :], line.rstrip()]
                report(line.rstrip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Fault(
            EXIT_REQUIREMENTS_FAILED,
            "uv could not install the requirements (exit code {}):\n{}".format(
                process.returncode, "\n".join(last)
            ),
        )


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
