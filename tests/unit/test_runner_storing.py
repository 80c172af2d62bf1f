"""A result outlives the absence of its store."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from google.api_core import exceptions as google
from google.auth.exceptions import TransportError
from kinetic_flows.runner_image.runner.contract import Fault, StoreAway
from kinetic_flows.runner_image.runner.interrupts import Interrupts
from kinetic_flows.runner_image.runner.store_faults import is_away
from kinetic_flows.runner_image.runner.storing import store_patiently

from kinetic_flows.core.job import EXIT_RESULT_NOT_WRITTEN
from runner_jobs import Job, start_runner, wait, wait_until

BLOCKS_THE_STORE = """
    import os
    def main(incoming):
        # What is written comes here first: a link that leads nowhere takes no file.
        os.rename(incoming, incoming + ".aside") if os.path.isdir(incoming) else None
        os.symlink(incoming + ".gone", incoming)
        return "worth hours"
"""


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    yield Interrupts()
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])


def test_a_value_is_stored_when_the_store_is_back(tmp_path: Path) -> None:
    incoming = tmp_path / "store" / ".incoming"
    job = Job(tmp_path / "store", source=BLOCKS_THE_STORE, args=(str(incoming),))
    process = start_runner(job.write())
    wait_until(lambda: incoming.is_symlink())
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "the result is kept here, and stored when the store is back" in str(line)
    incoming.unlink()

    ended = wait(process)
    assert ended.exit_code == 0
    assert job.value() == "worth hours"


def test_a_run_that_is_stopped_meanwhile_tries_once_more(tmp_path: Path) -> None:
    incoming = tmp_path / "store" / ".incoming"
    job = Job(tmp_path / "store", source=BLOCKS_THE_STORE, args=(str(incoming),))
    process = start_runner(job.write())
    assert process.stdout is not None
    assert "kept here" in str(process.stdout.readline())
    process.send_signal(signal.SIGTERM)

    assert wait(process).exit_code == EXIT_RESULT_NOT_WRITTEN


def test_the_limit_of_the_run_holds_for_storing_too(interrupts: Interrupts) -> None:
    said: list[str] = []

    def store() -> None:
        raise StoreAway(EXIT_RESULT_NOT_WRITTEN, "away")

    with pytest.raises(StoreAway):
        store_patiently(store, limit_seconds=0.05, interrupts=interrupts, say=said.append)
    assert len(said) == 1


def test_a_refusal_is_not_waited_for(interrupts: Interrupts) -> None:
    def store() -> None:
        raise Fault(EXIT_RESULT_NOT_WRITTEN, "no rights")

    with pytest.raises(Fault, match="no rights"):
        store_patiently(store, limit_seconds=None, interrupts=interrupts, say=print)


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (google.ServiceUnavailable("503"), True),
        (google.TooManyRequests("429"), True),
        (google.RetryError("gave up", google.ServiceUnavailable("503")), True),
        (requests.exceptions.ConnectionError("refused"), True),
        (requests.exceptions.ReadTimeout("slow"), True),
        (TransportError("no token"), True),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), True),
        (google.Forbidden("403"), False),
        (google.NotFound("404"), False),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), False),
        (OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), False),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), False),
        (ValueError("a bug"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_may_pass_is_told_from_what_will_not(error: Exception, *, may_pass: bool) -> None:
    assert is_away(error) is may_pass
