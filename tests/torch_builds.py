"""Which PyTorch tests ask for: PyPI's does as well, and brings gigabytes of CUDA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def cpu_build_of_torch() -> str | None:
    """Return the CPU build of PyTorch that pip is told of; None where it is told of none."""
    links = os.environ.get("PIP_FIND_LINKS", "")
    found = sorted(Path(links).glob("torch-*+cpu-*.whl")) if links and "://" not in links else []
    return found[-1].name.split("-")[1] if found else None


def torch_requirement(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a requirement of PyTorch, and have uv know of its CPU build where there is one."""
    build = cpu_build_of_torch()
    if build is None:
        return "torch"
    monkeypatch.setenv("UV_FIND_LINKS", os.environ["PIP_FIND_LINKS"])
    return f"torch=={build}"
