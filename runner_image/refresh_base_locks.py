"""Resolve the locks of the base images anew: `python runner_image/refresh_base_locks.py`.

The result is reviewed and committed like code: whatever changes in it gives every base image,
and so every project image, a new identity.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DIRECTORY = Path(__file__).parent / "base-locks"
CATEGORIES = ("cpu", "gpu", "tpu")
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORM = "x86_64-manylinux_2_28"


def lock_command(category: str, python: str) -> list[str]:
    """Return the command that writes one lock: wheels only, every file's hash."""
    return [
        *("uv", "pip", "compile", "--quiet", "--no-config", "--upgrade", "--generate-hashes"),
        *("--no-header", "--no-annotate", "--only-binary", ":all:"),
        *("--python-version", python, "--python-platform", PLATFORM),
        *("--output-file", str(DIRECTORY / f"{category}-py{python}.txt")),
        str(DIRECTORY / f"{category}.in"),
    ]


def main() -> int:
    """Write every lock."""
    for category in CATEGORIES:
        for python in PYTHONS:
            print(f"{category} for Python {python}", flush=True)
            subprocess.run(lock_command(category, python), check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
