"""Deciding on dependencies needs neither Prefect nor a cloud's client."""

from __future__ import annotations

import subprocess
import sys


def test_locking_imports_neither_prefect_nor_google() -> None:
    code = (
        "import sys, kinetic_flows.dependencies.locking, kinetic_flows.dependencies.explain;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'prefect', 'google', 'kubernetes_asyncio', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
