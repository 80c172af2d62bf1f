"""A KINETIC_HOME that cannot be used is told in one sentence, and nothing else is taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.home import usable_home

PLANNING = """
import resource, sys
import kinetic

@kinetic.run(requirements=[])
def work():
    pass

{before}
try:
    work.plan()
except kinetic.KineticError as error:
    print(type(error).__name__, error)
"""

NO_FILE_MAY_GROW = """
import tempfile
tempfile.gettempdir()
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""


def _plan(home: Path, directory: Path, before: str = "") -> str:
    (directory / "requirements.txt").touch()
    program = directory / "planning.py"
    program.write_text(PLANNING.format(before=before))
    environment = {**os.environ, "KINETIC_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_home_below_a_file_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = _plan(tmp_path / "file" / "home", tmp_path)
    assert told.startswith(f"ConfigurationError KINETIC_HOME ({tmp_path / 'file' / 'home'}) cannot")
    assert "set KINETIC_HOME to a directory" in told


def test_a_home_without_space_is_told(tmp_path: Path) -> None:
    told = _plan(tmp_path / "home", tmp_path, NO_FILE_MAY_GROW)
    assert "ConfigurationError a file could not be written: File too large" in told
    assert str(tmp_path / "home") in told


def test_the_command_tells_it_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", "from kinetic_flows.cli import main; main(['server', 'stop'])"],
        env={**os.environ, "KINETIC_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ConfigurationError.exit_code
    assert done.stderr.startswith(f"kinetic: KINETIC_HOME ({tmp_path / 'file'}) cannot be used")


def test_other_errors_of_the_system_are_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError), usable_home():
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(ConnectionRefusedError), usable_home():
        raise ConnectionRefusedError(111, "refused")
