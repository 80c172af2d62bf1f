"""Commands that are printed work when pasted where a background server asks for its password."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from kinetic_flows.cli import main
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.clients.prefect.work_pools import LOCAL_WORK_POOL

KINETIC = Path(sys.executable).with_name("kinetic")


@pytest.fixture
def shell_environment(prefect_server: BackgroundServer) -> dict[str, str]:
    """What a person's shell has: the home, and nothing of Prefect's."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    path = f"{KINETIC.parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "KINETIC_HOME": str(prefect_server.home), "PATH": path}


def paste(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a line as a shell does."""
    return subprocess.run(
        ["bash", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_worker_is_started_with_the_servers_password_and_ends_well_at_ctrl_c(
    shell_environment: dict[str, str],
) -> None:
    command = f"{KINETIC} worker start --limit 2 --name pasted"
    told = {**shell_environment, "PREFECT_LOGGING_LEVEL": "DEBUG"}
    shell = pexpect.spawn(command, env=told, encoding="utf-8", timeout=120)
    shell.expect("Worker 'pasted' started")
    # Prefect's handler prints, which it cannot do while it is printing that it has started.
    shell.expect("Querying for flow runs")
    shell.sendintr()
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0, shell.before
    assert "Traceback" not in str(shell.before)
    listed = paste("kinetic prefect work-pool ls", {**shell_environment, "COLUMNS": "200"})
    assert LOCAL_WORK_POOL in listed.stdout


def test_prefects_commands_are_let_in_by_ours_and_by_variables_of_the_shell(
    shell_environment: dict[str, str],
) -> None:
    missing = "flow-run inspect 0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e"
    for command in (
        f"kinetic prefect {missing}",
        f'eval "$(kinetic server env)" && prefect {missing}',
    ):
        done = paste(command, shell_environment)
        assert done.returncode == 1, "the exit code is Prefect's"
        assert "not found" in done.stdout + done.stderr, done


def in_process(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, pytest.CaptureResult[str]]:
    """Run a command that does not become Prefect's."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0), capsys.readouterr()


def test_a_worker_of_a_work_pool_that_is_not_there_is_refused(
    prefect_api_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = in_process(capsys, "worker", "start", "no-such-pool")
    assert code == 2
    assert "there is no work pool 'no-such-pool'" in shown.err
    assert "`kinetic worker start` alone makes kinetic-local" in shown.err
    code, shown = in_process(capsys, "worker", "start", "--type", "process")
    assert code == 2
    assert "--type is what this command chooses" in shown.err


def test_the_background_server_is_no_address_for_a_worker_in_a_cluster(
    prefect_api_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = in_process(capsys, "worker", "manifest")
    assert (code, shown.out) == (3, "")
    assert "cannot reach it" in shown.err
    code, shown = in_process(capsys, "worker", "manifest", "--api-url", "http://prefect.svc/api")
    assert code == 0
    assert '"http://prefect.svc/api"' in shown.out
