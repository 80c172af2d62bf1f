"""What a base image from a Dockerfile must be able to do before it is published.

It is run in the image as `python3 -c`. Arguments: the Python minor version, the bootstrap's
version, and the glibc that packages are resolved for.
"""

from __future__ import annotations

import importlib
import platform
import subprocess
import sys

RUNNER = "/app/remote_runner.py"
INSTALL = "RUN python3 -m pip install --no-cache-dir"
# What a Dockerfile lacks, by what fails here.
LINES = {
    "cloudpickle": f"{INSTALL} cloudpickle",
    "google.cloud.storage": f"{INSTALL} google-cloud-storage",
    "uv": f"{INSTALL} uv",
    RUNNER: "COPY remote_runner.py /app/",
}


def main(python: str, runner: str, glibc: str) -> list[str]:
    """Return what is wrong, line by line."""
    problems = []
    found = ".".join(platform.python_version_tuple()[:2])
    if found != python:
        problems.append(f"it has Python {found}, and its tag is to say {python}")
    for module in ("cloudpickle", "google.cloud.storage"):
        problems += _with_line(_import(module), module)
    problems += _with_line(_run(["uv", "--version"], "uv"), "uv")
    problems += _with_line(_run([sys.executable, RUNNER, "--version"], runner), RUNNER)
    notes = [f"{line}; projects bring their own" for line in _import("jax")]
    notes += [
        f"{line}; packages that need the newer one cannot be installed"
        for line in _older_glibc(glibc)
    ]
    print("\n".join(f"note: {line}" for line in notes))
    return problems


def _with_line(problems: list[str], what: str) -> list[str]:
    return [f"{problem.rstrip()}; the Dockerfile lacks: {LINES[what]}" for problem in problems]


def _import(module: str) -> list[str]:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever the import meets
        return [f"it cannot import {module}: {type(error).__name__}: {error}"]
    return []


def _older_glibc(wanted: str) -> list[str]:
    name, found = platform.libc_ver()
    numbers = [[int(part) for part in text.split(".")] for text in (found or "0", wanted)]
    if name == "glibc" and numbers[0] >= numbers[1]:
        return []
    return [f"it has {name or 'no glibc'} {found}, and packages are resolved for glibc {wanted}"]


def _run(command: list[str], expected: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return [f"it cannot run {' '.join(command)}: {error}"]
    if done.returncode or expected not in done.stdout:
        return [f"{' '.join(command)} answers {done.returncode}: {done.stdout}{done.stderr}"]
    return []


if __name__ == "__main__":
    wrong = main(*sys.argv[1:])
    for line in wrong:
        print(f"smoke test: {line}")
    if wrong:
        sys.exit(1)
    print("smoke test: passed")
