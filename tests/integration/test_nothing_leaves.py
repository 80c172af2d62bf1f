"""What leaves this machine when somebody new calls a function: nothing, here."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from pathlib import Path

import httpx
import pexpect
import pytest
from databases import give_database
from projects import make_project

from kinetic_flows.clients.prefect.server import BackgroundServer

RECORDER = """
    # Imported by every Python that starts with this directory on its path.
    import json
    import os
    import sys

    descriptor = os.open(os.environ["CONNECTIONS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
            write(event, arguments[1] if event == "socket.connect" else arguments[0])

    def write(event, said):
        line = json.dumps([event, said, sys.orig_argv], default=repr)
        os.write(descriptor, f"{line}\\n".encode())

    write("started", None)
    sys.addaudithook(note)
"""

PROGRAM = """
    import time

    import kinetic

    @kinetic.run(requirements=[])
    def add(a, b):
        return a + b

    if __name__ == "__main__":
        print("the sum is", add(1, 2))
"""

CHOICES = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "CI", "GITHUB_ACTIONS")
"""Variables that turn Prefect's analytics off, and which a person has not set."""


@pytest.fixture
def newcomer(tmp_path: Path, shared_kinetic_home: Path) -> dict[str, str]:
    """The variables of a person who has used neither this nor Prefect."""
    kept = {key: value for key, value in os.environ.items() if key not in CHOICES}
    home = tmp_path / "home"
    home.mkdir()
    return {
        **{key: value for key, value in kept.items() if not key.startswith("PREFECT_")},
        "HOME": str(home),
        "PREFECT_HOME": str(home / ".prefect"),
        "KINETIC_HOME": str(shared_kinetic_home),
        "CONNECTIONS": str(tmp_path / "connections"),
        "PYTHONPATH": str(tmp_path / "recorder"),
    }


def test_a_first_call_tells_nobody_and_shows_no_notice(
    newcomer: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path / "recorder", monkeypatch, {"sitecustomize.py": RECORDER})
    project = make_project(tmp_path / "project", monkeypatch, {"first.py": PROGRAM})
    server = BackgroundServer(Path(newcomer["KINETIC_HOME"]), newcomer)
    give_database(server.home)
    try:
        shell = pexpect.spawn(
            sys.executable,
            ["first.py"],
            cwd=project.root,
            env=newcomer,
            encoding="utf-8",
            timeout=180,
            dimensions=(50, 200),
        )
        shell.expect(pexpect.EOF)
        shell.wait()
        told = shell.before
        assert "the sum is 3" in told
        _ask_for_worker_types(server)
    finally:
        server.stop()
    assert "usage data" not in told
    connections = list(map(json.loads, Path(newcomer["CONNECTIONS"]).read_text().splitlines()))
    programs = [" ".join(program) for _, _, program in connections]
    assert any("server_process" in each for each in programs), "the server's would be seen, too"
    outside = [each for each in connections if not _is_here(each[1])]
    assert outside == []


def _ask_for_worker_types(server: BackgroundServer) -> None:
    """Ask what `prefect worker start`, and a page of the UI, ask the server."""
    record = server.status()
    assert record is not None
    user, _, password = server.environment(record)["PREFECT_API_AUTH_STRING"].partition(":")
    url = f"{record.api_url}/collections/views/aggregate-worker-metadata"
    answer = httpx.get(url, auth=(user, password))
    assert "prefect-kubernetes" in answer.json()


def _is_here(said: object) -> bool:
    """Whether an address is on this machine: a socket of it, or a name of loopback."""
    host = said[0] if isinstance(said, list) else said
    if host is None or not isinstance(host, str) or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
