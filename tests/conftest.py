"""What every test gets: an environment without this machine's settings, and a home of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer

from scheduling import LongestFirst, rank

KEPT_PREFIXES = ("SSL_", "PIP_", "UV_", "LC_")
KEPT = frozenset(
    {"PATH", "HOME", "LANG", "TMPDIR", "USER", "CI", "TERM", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
)


# How many examples property tests draw: HYPOTHESIS_PROFILE=large is for when there is time.
hypothesis.settings.register_profile(
    "small", parent=hypothesis.settings(), max_examples=40, deadline=None
)
hypothesis.settings.register_profile("large", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "small"))


def pytest_configure() -> None:
    """Have signals heard by the programs that tests start.

    A shell starts what it runs in the background with SIGINT ignored, nohup with SIGHUP, and
    children inherit that.
    """
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst | None:
    """Share the tests out to the processes."""
    return LongestFirst(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def scrubbed_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove every variable that could change what the product does."""
    for name in list(os.environ):
        kept = name in KEPT or name.startswith((*KEPT_PREFIXES, "PYTEST_"))
        if not kept:
            monkeypatch.delenv(name)
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "kinetic-home"))
    monkeypatch.setenv("DO_NOT_TRACK", "1")
