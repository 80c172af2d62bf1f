"""Directories for work in progress: empty, private, and gone whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kinetic_flows.core.files import scratch_directory


def _directories(home: Path) -> list[Path]:
    return [path for path in (home / "scratch").iterdir() if path.is_dir()]


def test_a_scratch_directory_is_empty_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as scratch:
        assert list(scratch.iterdir()) == []
        (scratch / "file").write_text("x")
    assert _directories(tmp_path) == []


def test_a_scratch_directory_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), scratch_directory(tmp_path):
        raise ValueError("no")
    assert _directories(tmp_path) == []


def test_those_who_work_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    def work(number: int) -> bool:
        with scratch_directory(tmp_path) as scratch:
            (scratch / str(number)).write_text("x")
            return [path.name for path in scratch.iterdir()] == [str(number)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))
    assert _directories(tmp_path) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from kinetic_flows.core.files import scratch_directory\n"
        "with scratch_directory(pathlib.Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'large').write_bytes(b'x')\n"
        "    print('there', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        [alive] = _directories(tmp_path)
        with scratch_directory(tmp_path):
            assert alive.exists()
        os.kill(process.pid, signal.SIGKILL)
    assert alive.exists()
    with scratch_directory(tmp_path):
        assert not alive.exists()
