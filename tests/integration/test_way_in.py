"""A way into runs that go on, on this machine and in pods: a shell, commands, ports and files."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from projects import Project, make_project

from kinetic_flows.cli.main import main
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.runs.insight.beside import ask, ask_all
from kinetic_flows.runs.session import own_session
from terminals import Terminal

FUNCTIONS = """
    import os, threading, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from pathlib import Path

    import kinetic

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")
        def log_message(self, *_):
            pass

    @kinetic.run
    def serve(ready, stop):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ["SET_BY_FUNCTION"] = "yes"
        Path("weights").mkdir()
        Path("weights/last.bin").write_bytes(b"w" * 100_000)
        Path(ready + ".new").write_text(str(server.server_address[1]))
        os.rename(ready + ".new", ready)
        while not Path(stop).exists():
            time.sleep(0.05)
"""

KINETIC = (sys.executable, "-c", "from kinetic_flows.cli.main import main; main()")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_kinetic_home: Path
) -> Iterator[Project]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    yield make_project(tmp_path / "project", monkeypatch, {"way_in_functions.py": FUNCTIONS})
    sys.modules.pop("way_in_functions", None)


@pytest.fixture
def command(project: Project, capfd: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        shown = capfd.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("place")
def test_a_run_is_entered_copied_from_and_to_and_its_port_is_forwarded(
    project: Project, command: Command, prefect_api_url: str, tmp_path: Path
) -> None:
    ready, stop = tmp_path / "ready", tmp_path / "stop"
    function = project.module("way_in_functions").serve
    run = function.submit(str(ready), str(stop))
    until(ready.exists)
    a_command_has_its_environment(command, run.id)
    a_shell_is_like_one(run.id)
    files_are_copied(command, run.id, tmp_path)
    if "KUBECONFIG" in os.environ:
        # A run on this machine has its ports.
        a_port_is_forwarded(run.id, int(ready.read_text()))
        what_is_not_there_is_told(command, run.id, tmp_path)
    stop.touch()
    run.result()
    code, out, err = command("runs", "exec", run.id, "--", "true")
    assert (code, out) == (2, "")
    assert err.startswith("kinetic: run serve(")
    assert "is over: Completed" in err
    assert f"`kinetic runs outputs {run.id}`" in err


def a_command_has_its_environment(command: Command, run_id: str) -> None:
    said = "echo $SET_BY_FUNCTION $KINETIC_RUN_ID; ls weights; echo wrong >&2; exit 3"
    code, out, err = command("runs", "exec", run_id[:8], "--", "sh", "-c", said)
    assert (code, out, err) == (3, f"yes {run_id}\nlast.bin\n", "wrong\n")


def a_shell_is_like_one(run_id: str) -> None:
    """Its window has a size, Ctrl-C reaches what runs in it, and its exit code is ours."""
    program = [*KINETIC, "runs", "shell", run_id]
    terminal = Terminal(program, {**os.environ, "TERM": "xterm-256color"}, columns=90)
    try:
        terminal.until(rf"\[serve {run_id[:8]}\] ")
        terminal.press("stty size; echo $TERM $SET_BY_FUNCTION\n")
        terminal.until("24 90\nxterm-256color yes")
        terminal.narrow(70)
        terminal.press("stty size\n")
        terminal.until("24 70")
        terminal.press("echo $((40 + 1)) before; cat; echo $((40 + 3)) never\n")
        terminal.until("41 before")
        terminal.press("\x03")
        terminal.until(r"41 before\n.*\n\[serve")
        terminal.press("echo $((6 * 7)) after\n")
        terminal.until("42 after")
        assert "43 never" not in terminal.transcript
        terminal.press("exit 5\n")
        terminal.end(5)
    finally:
        terminal.close()


def files_are_copied(command: Command, run_id: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    code, out, err = command("runs", "cp", f"{run_id}:weights", str(there))
    assert (code, out) == (0, f"{there}\n"), err
    assert (there / "last.bin").read_bytes() == b"w" * 100_000
    assert "copy: 1 file, 100.0 kB" in err
    (tmp_path / "note.txt").write_text("noted")
    code, out, _ = command("runs", "cp", str(tmp_path / "note.txt"), f"{run_id}:weights", "--json")
    told = json.loads(out)
    assert (code, told["files"], told["bytes"], told["skipped"]) == (0, 1, 5, [])
    assert told["path"].endswith("/weights/note.txt")
    assert command("runs", "exec", run_id, "--", "cat", "weights/note.txt")[1] == "noted"


def what_is_not_there_is_told(command: Command, run_id: str, tmp_path: Path) -> None:
    code, out, err = command("runs", "exec", run_id, "--host", "1", "--", "true")
    assert (code, out) == (2, "")
    assert "has no host 1\n  hint: it has one, host 0" in err
    code, _, err = command("runs", "cp", f"{run_id}:nothing", str(tmp_path))
    assert code == 2
    assert "there is nothing at nothing (in " in err
    code, _, err = command("runs", "cp", str(tmp_path / "nothing"), f"{run_id}:")
    assert code == 2
    assert "there is nothing at " in err
    with own_session(NullProgress()) as session:
        record = session.api.read_run(run_id)
        with pytest.raises(UsageError, match="is of an earlier version, and knows no fly"):
            ask(session, record, 0, "fly", limit_seconds=30)
        (answer,) = ask_all(session, record, "fly", limit_seconds=30)
    assert (answer.host, answer.told) == (0, {})
    assert "knows no fly" in answer.why_not


def a_port_is_forwarded(run_id: str, port: int) -> None:
    """Another port here leads there, until Ctrl-C."""
    program = [*KINETIC, "runs", "forward", run_id, f"{port}:0"]
    terminal = Terminal(program, os.environ)
    try:
        terminal.until(f"leads to port {port} of host 0")
        local = int(terminal.lines[0].partition(" ")[0].rpartition(":")[2])
        connection = HTTPConnection("127.0.0.1", local, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        connection.close()
        terminal.press("\x03")
        terminal.until("closed")
        terminal.end()
    finally:
        terminal.close()
