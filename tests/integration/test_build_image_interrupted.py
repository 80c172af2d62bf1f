"""`kinetic build-image` when the person who runs it presses Ctrl-C."""

from __future__ import annotations

import json
from contextlib import closing

import pexpect
import pytest

from kinetic_flows.clients.google.storage import GoogleStore
from loopback.cloud_build import Status
from loopback.quick_bases import QuickBases
from loopback.wire import wait_until

pytest_plugins = ["loopback.fixtures"]
pytestmark = pytest.mark.timeout(600)


def test_ctrl_c_cancels_the_builds_that_it_started(quick_bases: QuickBases) -> None:
    quick_bases.worker.seconds = 900  # longer than anyone waits
    shell = quick_bases.open()
    shell.expect("console.cloud.google.com")

    told = interrupt(shell)

    (build,) = quick_bases.builds
    assert f"build {build.id} was cancelled: nobody else waits for it" in told
    assert "Traceback" not in told
    wait_until(lambda: build.status == Status.CANCELLED, 30, "the end of the build")
    assert shell.exitstatus == 130


def test_ctrl_c_leaves_a_build_that_somebody_else_waits_for(quick_bases: QuickBases) -> None:
    quick_bases.worker.seconds = 900
    shell = quick_bases.open()
    shell.expect("console.cloud.google.com")
    other = quick_bases.start("--json")
    store = GoogleStore(
        quick_bases.bucket, endpoint=quick_bases.environment["STORAGE_EMULATOR_HOST"]
    )
    with closing(store):
        wait_until(lambda: waiting(store) == 2, 120, "somebody else")

    told = interrupt(shell)
    quick_bases.worker.finish.set()
    output, errors = other.communicate(timeout=120)

    assert shell.exitstatus == 130
    assert other.returncode == 0, errors
    (build,) = quick_bases.builds
    assert f"build {build.id} goes on: others wait for it, too" in told
    assert build.status == Status.SUCCESS
    assert json.loads(output)["images"][0]["action"] == "built"


def interrupt(shell: pexpect.spawn[str]) -> str:
    """Press Ctrl-C, wait until the command has ended, and return what it said then."""
    shell.sendintr()
    shell.expect(pexpect.EOF)
    shell.close()
    return str(shell.before)


def waiting(store: GoogleStore) -> int:
    """Return how many wait for an image."""
    return sum(item.name.count("/") == 2 for item in store.list("leases/"))
