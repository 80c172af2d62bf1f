"""Who a process is, whether it lives, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kinetic_flows.processes import (
    ProcessIdentity,
    current_process,
    describe_exit,
    exit_code,
    start_detached,
)


def _wait_for_end(process: ProcessIdentity) -> None:
    deadline = time.monotonic() + 30
    while process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_this_process_is_alive_and_a_later_namesake_is_not_it() -> None:
    me = current_process()
    assert me.is_alive()
    assert not replace(me, started="another start").is_alive()


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessIdentity.of(child.pid)
    _wait_for_end(identity)
    child.wait()
    assert not identity.is_alive()


def test_a_detached_process_writes_its_log_and_tells_its_exit_code(tmp_path: Path) -> None:
    script = "import os, sys; print(sorted(os.environ)); sys.exit(3)"
    process = start_detached(
        [sys.executable, "-S", "-c", script],
        environment={"ONLY": "this"},
        log_file=tmp_path / "log",
    )
    _wait_for_end(process)
    assert exit_code(process) == 3
    assert "ONLY" in (tmp_path / "log").read_text()


def test_a_killed_process_tells_its_signal(tmp_path: Path) -> None:
    process = start_detached(
        [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
        environment={},
        log_file=tmp_path / "log",
    )
    _wait_for_end(process)
    assert exit_code(process) == -signal.SIGKILL


def test_the_exit_of_a_process_that_somebody_else_collected_is_unknown(tmp_path: Path) -> None:
    process = start_detached(
        [sys.executable, "-S", "-c", ""], environment={}, log_file=tmp_path / "log"
    )
    os.waitpid(process.pid, 0)
    assert exit_code(process) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with 0"),
        (3, "exited with 3"),
        (-9, "was killed by SIGKILL"),
        (137, "was killed by SIGKILL"),
        (255, "exited with 255"),
        (None, "ended unseen"),
    ],
)
def test_an_exit_is_described_in_words(code: int | None, words: str) -> None:
    assert describe_exit(code) == words
