"""A team's Prefect from an empty project: made, used from here without more ado, and removed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from databases import KEPT, give_database

from loopback.google.server import LoopbackGoogle
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.team_server import TeamRuntime

PLACE = ("--project", "my-project", "--cluster", "team")
SETUP = ("up", "--yes", "--json", *PLACE, "--prefect", "cluster", "--worker")

Kinetic = Callable[[Sequence[str]], Any]


@pytest.fixture
def kinetic(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinetic]:
    """Runs the command on a machine that knows nothing yet; returns the document it prints."""
    if not KEPT.exists():
        give_database(tmp_path_factory.mktemp("kept"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def prepare(home: Path) -> None:
        (home / "prefect").mkdir(parents=True)
        shutil.copy2(KEPT, home / "prefect" / "prefect.db")

    def serve(where: Path) -> LoopbackCluster:
        cluster = LoopbackCluster(where, runtime=TeamRuntime(port, prepare), version="1.33")
        cluster.pod_ports[4200] = port
        return cluster

    (tmp_path / "home").mkdir()
    with LoopbackGoogle(tmp_path / "google", serve=serve, project="my-project") as google:
        environ = {
            **os.environ,
            **google.environment,
            "HOME": str(tmp_path / "home"),
            "KINETIC_HOME": str(tmp_path / "kinetic"),
        }

        def run(arguments: Sequence[str]) -> Any:
            done = subprocess.run(
                [sys.executable, "-c", "from kinetic_flows.cli import main; main()", *arguments],
                env=environ,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        yield run


def test_a_teams_server_is_made_used_and_removed(kinetic: Kinetic, tmp_path: Path) -> None:
    made = kinetic(SETUP)
    actions = {(each["kind"], each["name"]): each["action"] for each in made["changes"]}
    assert actions["Prefect server", "prefect/prefect-server"] == "create"
    assert actions["work pool", "kinetic-gke"] == "create"
    assert actions["Prefect worker", "default/kinetic-worker"] == "create"
    # The profile is in the server, to which the way is opened again.
    (profile,) = kinetic(["profile", "ls", "--json"])
    assert profile["name"] == "team"
    removed = kinetic(["down", "--yes", "--json"])
    left = {each["kind"] for each in removed["changes"] if each["action"] == "leave"}
    assert "disk of Prefect's database" in left
    # Nothing leads to the server that is gone.
    assert not list((tmp_path / "kinetic" / "connections").iterdir())
    assert "team" not in (tmp_path / "home" / ".prefect" / "profiles.toml").read_text()
    assert "team" not in (tmp_path / "kinetic" / "profiles.json").read_text()
