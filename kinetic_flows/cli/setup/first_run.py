"""The first real run: a function as a person would write it, called by a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinetic_flows.core.errors import RunFailed

FILE = "hello.py"

FUNCTION = """\
import os
import platform

import kinetic


@kinetic.run(accelerator="cpu", requirements=[])
def hello(name: str) -> str:
    python, cpus = platform.python_version(), os.cpu_count()
    print(f"{platform.node()}: Python {python}, {cpus} CPUs")
    return f"hello {name}, from {platform.node()}"
"""
"""What runs, as a person would write it."""

_COMMAND = "from kinetic_flows.cli import main; main()"
"""With `-P`: a file in the working directory is not to stand for a module of ours."""


def run_first_function(
    name: str, environ: Mapping[str, str], *, as_json: bool
) -> Mapping[str, Any] | None:
    """Call the first function in a process of its own, as whoever calls one next does.

    Nothing of this process's decisions is in it: what was saved has to be enough.

    Args:
        name: What it is called with.
        environ: Variables of that process.
        as_json: Whether what comes of it is returned, and not shown.

    Returns:
        `id`, `url` and `result` of the run; None where they were shown.

    Raises:
        RunFailed: It has failed, which that process has told.
        KeyboardInterrupt: It was interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="kinetic-hello-") as folder:
        path = Path(folder) / FILE
        path.write_text(FUNCTION)
        options = ["--json"] if as_json else []
        ended = subprocess.run(
            [sys.executable, "-P", "-c", _COMMAND, "run", *options, f"{path}:hello", name],
            env=dict(environ),
            stdout=subprocess.PIPE if as_json else None,
            check=False,
        )
    if ended.returncode == 130:
        raise KeyboardInterrupt
    if ended.returncode:
        raise RunFailed(
            "everything is set up, and the first run has failed",
            value=FILE,
            hint="`kinetic doctor` looks at everything that a run depends on; `kinetic runs ls` "
            "has the run",
        )
    if not as_json:
        return None
    document: dict[str, Any] = json.loads(ended.stdout)
    return document
