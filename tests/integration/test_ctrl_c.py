"""Ctrl-C, as a person presses it: what is said, how the program ends, and what is left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pexpect
import pytest
from prefect_workers import eventually
from projects import Project, make_project

import kinetic
from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery

PROGRAM = """
    import signal
    import sys
    import time
    from pathlib import Path

    import kinetic

    @kinetic.run(requirements=[])
    def sleepy(path):
        Path(path).write_text("started")
        time.sleep(600)

    @kinetic.run(requirements=[])
    def stubborn(path):
        signal.signal(signal.SIGTERM, lambda *_: Path(path).write_text("told"))
        Path(path).write_text("started")
        while not Path(f"{path}.over").exists():
            time.sleep(0.1)

    @kinetic.run(requirements=["a-package-of-a-silent-index"])
    def unresolved(path):
        raise NotImplementedError

    def paths(directory):
        return [str(Path(directory, str(number))) for number in range(5)]

    def waited(directory):
        sleepy.map(paths(directory), max_concurrent=2).results()

    def besides(directory):
        sleepy.map(paths(directory), max_concurrent=2)
        time.sleep(600)

    def ended(directory):
        sleepy.map(paths(directory), max_concurrent=2)

    def handled(directory):
        try:
            sleepy(str(Path(directory, "0")))
        except KeyboardInterrupt:
            print("handled by the program")

    def stubborn_call(directory):
        stubborn(str(Path(directory, "0")))

    def locked(directory):
        unresolved.map([directory])

    if __name__ == "__main__":
        globals()[sys.argv[1]](sys.argv[2])
"""


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    return make_project(tmp_path / "project", monkeypatch, {"program.py": PROGRAM})


class Terminal:
    """A program on a terminal.

    Args:
        project: Where it is.
        what: Which part of it runs.
        directory: Where its functions say that they run.
    """

    def __init__(self, project: Project, what: str, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._shell = pexpect.spawn(
            sys.executable,
            ["program.py", what, str(directory)],
            cwd=project.root,
            encoding="utf-8",
            timeout=120,
            dimensions=(50, 250),
        )

    def ctrl_c_once_started(self, *names: str) -> None:
        """Press Ctrl-C when functions run."""
        for name in names:
            while not (self._directory / name).exists():
                # What is not read keeps the program from going on.
                self._shell.expect([pexpect.TIMEOUT, r".+"], timeout=0.05)
        self.ctrl_c()

    def ctrl_c(self) -> None:
        """Press Ctrl-C."""
        self._shell.sendintr()

    def expect(self, text: str) -> None:
        """Read on until there is a text."""
        self._shell.expect_exact(text)

    def end(self) -> str:
        """Read all that is left, wait for the program's end, and return what was read."""
        self._shell.expect(pexpect.EOF)
        self._shell.wait()
        return str(self._shell.before)

    @property
    def was_interrupted(self) -> bool:
        """Whether it ended as a shell expects of an interrupted program: `$?` is 130."""
        return bool(self._shell.signalstatus == signal.SIGINT)


def _assert_cancelled(api: PrefectApi, told: str, launched: int) -> None:
    (group_id,) = set(re.findall(r"cancelling the runs of group ([0-9a-f-]{36})", told))
    assert f"is cancelled: {launched} cancelled, {5 - launched} not launched" in told
    runs = api.find_runs(RunQuery(parent=group_id))
    assert [run.state_type for run in runs] == ["CANCELLED"] * launched
    assert api.read_run(group_id).state_type == "CANCELLED"
    assert set(kinetic.attach_group(group_id).status_counts()) == {"Cancelled"}


@pytest.mark.parametrize("what", ["waited", "besides", "ended"])
def test_ctrl_c_ends_a_sweep_wherever_the_program_is(
    project: Project, api: PrefectApi, tmp_path: Path, what: str
) -> None:
    terminal = Terminal(project, what, tmp_path / "started")
    terminal.ctrl_c_once_started("0", "1")
    told = terminal.end()
    assert terminal.was_interrupted
    _assert_cancelled(api, told, launched=2)
    assert "Exception ignored" not in told
    assert ("Traceback" in told) == (what != "ended"), "the program's own, and none of ours"
    assert "kinetic_flows" not in told


def test_a_program_may_handle_ctrl_c(project: Project, api: PrefectApi, tmp_path: Path) -> None:
    terminal = Terminal(project, "handled", tmp_path / "started")
    terminal.ctrl_c_once_started("0")
    told = terminal.end()
    assert "handled by the program" in told
    assert "Traceback" not in told
    assert not terminal.was_interrupted
    assert api.find_runs(RunQuery(name="sleepy"), limit=1)[0].state_type == "CANCELLED"


def test_a_second_ctrl_c_waits_for_nothing(
    project: Project, api: PrefectApi, tmp_path: Path
) -> None:
    terminal = Terminal(project, "stubborn_call", tmp_path / "started")
    terminal.ctrl_c_once_started("0")
    terminal.expect("cancelling run")
    eventually(lambda: (tmp_path / "started" / "0").read_text() == "told")
    terminal.ctrl_c()
    told = terminal.end()
    assert "not waiting until it has stopped" in told
    assert terminal.was_interrupted
    assert "During handling" not in told
    (tmp_path / "started" / "0.over").touch()
    run = api.find_runs(RunQuery(name="stubborn"), limit=1)[0]
    eventually(lambda: kinetic.attach(run.id).state in ("Completed", "Cancelled"))


def test_a_signal_to_the_program_alone_ends_uv_in_whatever_thread(
    project: Project, tmp_path: Path
) -> None:
    with silent_index() as (url, is_asked):
        program = project.start("program.py", "locked", str(tmp_path), UV_DEFAULT_INDEX=url)
        assert is_asked.wait(120)
        program.send_signal(signal.SIGINT)
        told, _ = program.communicate(timeout=120)
    assert "Ctrl-C: no input was launched" in told
    assert program.returncode == -signal.SIGINT
    with pytest.raises(ProcessLookupError):
        os.killpg(program.pid, 0)


@contextmanager
def silent_index() -> Iterator[tuple[str, threading.Event]]:
    """Open a package index that takes questions and answers none; say when it was asked."""
    asked, taken = threading.Event(), []

    def take() -> None:
        with suppress(OSError):
            while True:
                taken.append(listener.accept()[0])
                asked.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/simple", asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in taken:
        each.close()
