"""Resolve the locks of the base images anew: `python runner_image/refresh_base_locks.py`.

The result is reviewed and committed like code: whatever changes in it gives every base image,
and so every project image, a new identity. Beside the locks stands `releases.json`: which
releases of jax they hold, when those appeared, and which libtpu each of them supports, so that
`check_base_locks.py` can judge the locks without asking an index.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from kinetic_flows.core.accelerators import Category
from kinetic_flows.images.bases import PLATFORM, base_lock_name

DIRECTORY = Path(__file__).parent / "base-locks"
CATEGORIES: tuple[Category, ...] = ("cpu", "gpu", "tpu")
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
INDEX = "https://pypi.org/simple"


def lock_command(category: Category, python: str) -> list[str]:
    """Return the command that writes one lock: wheels only, every file's hash."""
    return [
        *("uv", "pip", "compile", "--quiet", "--no-config", "--upgrade", "--generate-hashes"),
        *("--no-header", "--no-annotate", "--only-binary", ":all:"),
        *("--python-version", python, "--python-platform", PLATFORM),
        *("--output-file", str(DIRECTORY / base_lock_name(category, python))),
        str(DIRECTORY / f"{category}.in"),
    ]


def write_lock(category: Category, python: str) -> None:
    """Resolve and write one lock."""
    subprocess.run(lock_command(category, python), check=True)
    print(f"{category} for Python {python}", flush=True)


def releases(versions: set[str]) -> dict[str, Any]:
    """Return what the index says of releases of jax, and of its newest one."""
    jax, plugin = _wheels("jax"), _wheels("jax-cuda12-plugin")
    newest = max((v for v in jax if not Version(v).is_prerelease), key=Version)
    return {
        "refreshed": datetime.now(tz=UTC).date().isoformat(),
        "newest": newest,
        "jax": {
            version: {
                "released": jax[version]["upload-time"][:10],
                "libtpu": _asked_of("libtpu", jax[version]),
                "nvidia-cudnn-cu12": _asked_of("nvidia-cudnn-cu12", plugin[version]),
            }
            for version in sorted({*versions, newest}, key=Version)
        },
        "others": {
            "nvidia-cudnn-cu12": [v for v in _wheels("nvidia-cudnn-cu12") if v.startswith("9.10.")]
        },
    }


def _wheels(name: str) -> dict[str, Any]:
    """Return one wheel of each release of a package."""
    answer: dict[str, Any] = json.loads(_get(f"{INDEX}/{name}/"))
    files = [item for item in answer["files"] if item["filename"].endswith(".whl")]
    return {item["filename"].split("-")[1]: item for item in files}


def _asked_of(package: str, wheel: dict[str, Any]) -> str:
    """Return which releases of a package a wheel asks for, in whatever extra."""
    with zipfile.ZipFile(io.BytesIO(_get(wheel["url"]))) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(name).decode())
    for text in headers.get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        if requirement.name == package:
            return str(requirement.specifier)
    raise SystemExit(f"{wheel['filename']} does not name {package}")


def _get(url: str) -> bytes:
    headers = {"Accept": "application/vnd.pypi.simple.v1+json, */*;q=0.1"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - https, from the index
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        content: bytes = answer.read()
    return content


def main() -> int:
    """Write every lock, and what is known of the releases in them."""
    wanted = [(category, python) for category in CATEGORIES for python in PYTHONS]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: write_lock(*item), wanted))
    locks = [path.read_text() for path in DIRECTORY.glob("*.txt")]
    versions = {match[1] for lock in locks if (match := re.search(r"(?m)^jax==([\w.]+)", lock))}
    text = json.dumps(releases(versions), indent=2)
    (DIRECTORY / "releases.json").write_text(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
