"""`kinetic build-image --deployment`: it waits for the run, and ends as the run did."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pexpect
import pytest
from pexpect.popen_spawn import PopenSpawn
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.clients.prefect.deployment_runs import ending_error
from kinetic_flows.clients.prefect.flow_names import BUILD_IMAGE_FLOW
from kinetic_flows.core.errors import RunCancelled, RunCrashed, RunFailed, RunTimedOut, UsageError
from loopback.cloud_build import Status
from loopback.quick_bases import KINETIC, QuickBases
from loopback.wire import wait_until

pytest_plugins = ["loopback.fixtures"]
pytestmark = pytest.mark.timeout(600)

RUN = re.compile(r"was asked for run (\S+)")


@pytest.fixture
def deployment(quick_bases: QuickBases, prefect_api_url: str) -> str:
    """A deployment of the flow as `prefect deploy` makes it, for workers that nobody starts."""
    name = f"rebuild-{uuid4().hex[:8]}"
    with (
        temporary_settings({PREFECT_API_URL: prefect_api_url}),
        get_client(sync_client=True) as client,
    ):
        client.create_deployment(
            flow_id=client.create_flow_from_name(BUILD_IMAGE_FLOW),
            name=name,
            entrypoint="kinetic_flows.flows.build_image.kinetic_build_image",
            parameters={
                "repository": quick_bases.repository,
                "categories": ["cpu"],
                "dockerfile": str(quick_bases.dockerfile),
            },
        )
    return name


@contextmanager
def started(
    quick_bases: QuickBases, deployment: str, *options: str
) -> Iterator[tuple[PopenSpawn[str], str]]:
    """Start the command, and yield it with the id of the run it asked for."""
    # A pseudo-terminal would take a fork, which gRPC's threads in this process do not stand.
    shell: PopenSpawn[str] = PopenSpawn(
        [KINETIC, "build-image", "--deployment", deployment, *options],
        env=quick_bases.environment,
        encoding="utf-8",
        timeout=300,
    )
    try:
        shell.expect(RUN)
        assert shell.match
        yield shell, shell.match[1]
    finally:
        if shell.proc.poll() is None:
            shell.kill(signal.SIGKILL)
        shell.wait()


def execute(quick_bases: QuickBases, run_id: str) -> None:
    """Execute a flow run as a worker's process does; how it ends is in Prefect.

    Prefect copies the directory that it is started in, for the code that a flow may have there.
    """
    prefect = str(Path(KINETIC).with_name("prefect"))
    subprocess.run(
        [prefect, "flow-run", "execute", run_id],
        cwd=quick_bases.dockerfile.parent,
        env=quick_bases.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )


def test_it_tells_of_the_run_and_its_states_and_ends_well_when_the_images_are_made(
    quick_bases: QuickBases, deployment: str
) -> None:
    with started(quick_bases, deployment, "--json") as (shell, run_id):
        shell.expect(f"watch it at .*/flow-run/{run_id}")
        shell.expect("Scheduled")
        execute(quick_bases, run_id)
        # It looks now and then: a run as short as this one may never be seen Running.
        shell.expect("Completed")
        shell.expect(r"\{.*\}")
        told = json.loads(str(shell.after))
        shell.expect(pexpect.EOF)
        code = shell.wait()

    assert (told["id"], told["state"]) == (run_id, "Completed")
    assert code == 0
    assert [build.status for build in quick_bases.builds] == [Status.SUCCESS]


def test_a_run_that_could_not_make_an_image_ends_it_with_the_reason_and_the_code(
    quick_bases: QuickBases, deployment: str
) -> None:
    quick_bases.worker.endings = [Status.FAILURE]
    with started(quick_bases, deployment) as (shell, run_id):
        execute(quick_bases, run_id)
        shell.expect(f"kinetic: run {run_id} failed.*1 of 1 base images could not be made")
        shell.expect("hint: its log is at ")
        shell.expect(pexpect.EOF)
        code = shell.wait()

    assert code == RunFailed.exit_code


def test_a_run_cancelled_in_prefect_ends_it_as_cancelled(
    quick_bases: QuickBases, deployment: str, prefect_api_url: str
) -> None:
    with started(quick_bases, deployment) as (shell, run_id):
        with connect(prefect_api_url) as api:
            api.set_state(run_id, "CANCELLED", message="not today")
        shell.expect("was cancelled: not today")
        shell.expect(pexpect.EOF)
        code = shell.wait()

    assert code == RunCancelled.exit_code


def test_ctrl_c_leaves_the_run_going_and_says_how_to_look_at_it_and_cancel_it(
    quick_bases: QuickBases, deployment: str, prefect_api_url: str
) -> None:
    with started(quick_bases, deployment) as (shell, run_id):
        shell.expect("Scheduled")
        shell.kill(signal.SIGINT)
        shell.expect(f"run {run_id} goes on")
        shell.expect(r"(kinetic runs show \S+)")
        show = shell.match
        assert show
        shell.expect(f"kinetic prefect flow-run cancel {run_id}")
        shell.expect(pexpect.EOF)
        code = shell.wait()

    assert code == 130
    with connect(prefect_api_url) as api:
        assert not api.read_run(run_id).is_final
    shown = subprocess.run(
        [KINETIC, *show[1].split()[1:]],
        env=quick_bases.environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert run_id in shown.stdout


def test_detached_it_prints_the_run_and_returns(
    quick_bases: QuickBases, deployment: str, prefect_api_url: str
) -> None:
    done = subprocess.run(
        [KINETIC, "build-image", "--deployment", deployment, "--detach", "--json"],
        env=quick_bases.environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    with connect(prefect_api_url) as api:
        assert not api.read_run(told["id"]).is_final
        assert api.run_url(told["id"]) == told["url"]


def test_detach_without_a_deployment_is_refused(quick_bases: QuickBases) -> None:
    done = quick_bases.start("--detach")
    _, errors = done.communicate(timeout=180)

    assert done.returncode == UsageError.exit_code
    assert "--detach goes with --deployment alone" in errors


@pytest.mark.parametrize(
    ("state", "name", "kind"),
    [("CRASHED", None, RunCrashed), ("FAILED", "TimedOut", RunTimedOut)],
)
def test_every_ending_has_its_own_error(
    quick_bases: QuickBases,
    deployment: str,
    prefect_api_url: str,
    state: str,
    name: str | None,
    kind: type[Exception],
) -> None:
    done = subprocess.run(
        [KINETIC, "build-image", "--deployment", deployment, "--detach"],
        env=quick_bases.environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    run_id, url = done.stdout.split()
    with connect(prefect_api_url) as api:
        api.set_state(run_id, state, name=name)
        wait_until(lambda: api.read_run(run_id).is_final, 30, "the end of the run")
        error = ending_error(api.read_run(run_id), url)

    assert type(error) is kind
