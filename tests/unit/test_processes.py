"""Who a process is, whether it lives, and how it ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kinetic_flows.core import processes
from kinetic_flows.core.processes import (
    ProcessIdentity,
    current_process,
    describe_exit,
    exit_code,
    hold,
    is_held,
    liveness,
    start_detached,
)

ELSEWHERE = {"pid_namespace": "pid:[1]"}
ANOTHER_HOST = {"host": "other/1", "boot": "other", **ELSEWHERE}


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
        life_file=tmp_path / "alive",
    )
    _wait_for_end(process)
    assert exit_code(process) == 3
    assert "ONLY" in (tmp_path / "log").read_text()


def test_a_killed_process_tells_its_signal(tmp_path: Path) -> None:
    process = start_detached(
        [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
        environment={},
        log_file=tmp_path / "log",
        life_file=tmp_path / "alive",
    )
    _wait_for_end(process)
    assert exit_code(process) == -signal.SIGKILL


def test_the_exit_of_a_process_that_somebody_else_collected_is_unknown(tmp_path: Path) -> None:
    process = start_detached(
        [sys.executable, "-S", "-c", ""],
        environment={},
        log_file=tmp_path / "log",
        life_file=tmp_path / "alive",
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


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessIdentity]:
    started = start_detached(
        [sys.executable, "-S", "-c", "import time; time.sleep(600)"],
        environment={},
        log_file=tmp_path / "log",
        life_file=tmp_path / "alive",
    )
    yield started
    _kill(started)


def _kill(process: ProcessIdentity) -> None:
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    _wait_for_end(process)
    exit_code(process)


@pytest.mark.parametrize("place", [{}, ELSEWHERE, ANOTHER_HOST], ids=["here", "container", "host"])
def test_a_process_that_holds_its_lock_lives_wherever_it_was_started(
    sleeper: ProcessIdentity, place: dict[str, str], tmp_path: Path
) -> None:
    assert liveness(replace(sleeper, **place), tmp_path / "alive") == "alive"


@pytest.mark.parametrize("place", [{}, ELSEWHERE], ids=["here", "container"])
def test_on_one_kernel_a_process_whose_lock_is_free_is_dead(
    sleeper: ProcessIdentity, place: dict[str, str], tmp_path: Path
) -> None:
    _kill(sleeper)
    assert liveness(replace(sleeper, **place), tmp_path / "alive") == "dead"


def test_a_number_of_another_container_is_not_looked_up_here(
    sleeper: ProcessIdentity, tmp_path: Path
) -> None:
    elsewhere = replace(sleeper, **ELSEWHERE)
    assert not elsewhere.is_alive()
    assert liveness(elsewhere, tmp_path / "no lock was ever held") == "unknown"


def test_who_cannot_believe_the_file_system_does_not_judge_another_host(
    sleeper: ProcessIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kill(sleeper)
    elsewhere, lock = replace(sleeper, **ANOTHER_HOST), tmp_path / "alive"
    monkeypatch.setattr(processes, "OF_ONE_HOST", frozenset())
    assert liveness(elsewhere, lock) == "unknown"
    restarted = replace(sleeper, boot="an earlier one")
    assert liveness(restarted, lock) == "dead", "this host has restarted since"


def test_a_second_process_does_not_get_the_lock_of_the_first(
    sleeper: ProcessIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOCK_SECONDS", 0.0)
    with pytest.raises(BlockingIOError):
        start_detached(
            [sys.executable, "-S", "-c", ""],
            environment={},
            log_file=tmp_path / "log",
            life_file=tmp_path / "alive",
        )
    assert sleeper.is_alive()


def test_a_process_tells_that_it_lives_as_long_as_it_says(tmp_path: Path) -> None:
    descriptor = hold(tmp_path / "entry")
    assert is_held(tmp_path / "entry") is True
    os.close(descriptor)
    assert is_held(tmp_path / "entry") is False
    assert is_held(tmp_path / "never there") is None


def test_what_a_detached_process_prints_is_its_users_own(
    sleeper: ProcessIdentity, tmp_path: Path
) -> None:
    assert {(tmp_path / name).stat().st_mode & 0o077 for name in ("log", "alive")} == {0}


CONTAINERS = shutil.which("unshare") is not None and os.geteuid() == 0

IN_A_CONTAINER = """
import json, sys
from pathlib import Path
from kinetic_flows.core.processes import ProcessIdentity, liveness
print(liveness(ProcessIdentity(**json.loads(sys.argv[1])), Path(sys.argv[2])))
"""


@pytest.mark.skipif(not CONTAINERS, reason="making a namespace of process numbers takes root")
def test_a_container_that_sees_the_same_files_judges_by_the_lock(
    sleeper: ProcessIdentity, tmp_path: Path
) -> None:
    def judged() -> str:
        record, lock = json.dumps(asdict(sleeper)), str(tmp_path / "alive")
        unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
        shown = subprocess.run(
            [*unshare, sys.executable, "-c", IN_A_CONTAINER, record, lock],
            capture_output=True,
            text=True,
            check=True,
        )
        return shown.stdout.strip()

    assert judged() == "alive"
    _kill(sleeper)
    assert judged() == "dead"
