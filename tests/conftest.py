"""What every test gets: an environment without this machine's settings, and a home of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

KEPT_PREFIXES = ("SSL_", "PIP_", "UV_", "LC_")
KEPT = frozenset(
    {"PATH", "HOME", "LANG", "TMPDIR", "USER", "CI", "TERM", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
)


def pytest_configure() -> None:
    """Have Ctrl-C heard by the programs that tests start.

    A shell starts what it runs in the background with SIGINT ignored, which children inherit.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def scrubbed_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove every variable that could change what the product does."""
    for name in list(os.environ):
        kept = name in KEPT or name.startswith((*KEPT_PREFIXES, "PYTEST_"))
        if not kept:
            monkeypatch.delenv(name)
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "kinetic-home"))
    monkeypatch.setenv("DO_NOT_TRACK", "1")
