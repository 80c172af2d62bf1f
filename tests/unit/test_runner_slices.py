"""Hosts of one slice, each a runner of its own: they start again together."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from runner_jobs import Job, start_runner, wait, wait_until

WAITS_ON_FIRST_START = """
    import os, time
    from pathlib import Path

    def main(marks):
        index, count = os.environ["JOB_COMPLETION_INDEX"], os.environ["KINETIC_RESTART_COUNT"]
        Path(marks, f"{index}-{count}").touch()
        if count == "0":
            time.sleep(600)
        # As a collective operation does: no host has ended before the others have begun.
        while len(list(Path(marks).glob(f"*-{count}"))) < 2:
            time.sleep(0.01)
        return index, count
"""
FAILS_WHEN_ANOTHER_IS_GONE = """
    import os, time
    from pathlib import Path

    def main(marks):
        index, count = os.environ["JOB_COMPLETION_INDEX"], os.environ["KINETIC_RESTART_COUNT"]
        Path(marks, f"{index}-{count}").touch()
        if count == "0" and index == "0":
            while not Path(marks, "gone").exists():
                time.sleep(0.01)
            raise ConnectionError("host 1 does not answer")
        if count == "0":
            try:
                time.sleep(600)
            finally:
                Path(marks, "gone").touch()
        return index, count
"""


class Hosts:
    """The runners of a slice, as its pods start them."""

    def __init__(
        self, directory: Path, source: str, max_preemptions: int = 3, count: int = 2
    ) -> None:
        self.marks = directory / "marks"
        self.marks.mkdir()
        changes = {"hosts": count, "max_preemptions": max_preemptions}
        self.job = Job(directory / "store", source=source, args=(str(self.marks),), changes=changes)
        self._variables = self.job.write()

    def start(self, index: int) -> subprocess.Popen[bytes]:
        """Start the runner of a host."""
        return start_runner({**self._variables, "JOB_COMPLETION_INDEX": str(index)})

    def wait_for(self, *marks: str) -> None:
        """Wait until functions have left their marks: host and restart count."""
        for mark in marks:
            wait_until((self.marks / mark).exists, 60)


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path, WAITS_ON_FIRST_START)


def test_a_host_that_is_stopped_by_its_node_makes_all_start_again(hosts: Hosts) -> None:
    first, second = hosts.start(0), hosts.start(1)
    hosts.wait_for("0-0", "1-0")
    second.send_signal(signal.SIGTERM)
    assert wait(second).exit_code == 143
    replaced = hosts.start(1)
    ended = wait(first)
    assert ended.exit_code == wait(replaced).exit_code == 0
    assert hosts.job.value() == ("0", "1")
    assert "host 1 was stopped by its node: every host of the slice starts again" in ended.output
    assert (hosts.marks / "1-1").exists()


def test_a_host_that_is_lost_without_a_word_tells_when_it_is_back(hosts: Hosts) -> None:
    first, second = hosts.start(0), hosts.start(1)
    hosts.wait_for("0-0", "1-0")
    second.kill()
    wait(second)
    replaced = hosts.start(1)
    ended = wait(first)
    assert ended.exit_code == wait(replaced).exit_code == 0
    assert "host 1 was started again: every host of the slice starts again" in ended.output
    assert hosts.job.envelope().header.attempt == 1


def test_what_a_host_raises_because_another_is_gone_does_not_fail_the_run(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path, FAILS_WHEN_ANOTHER_IS_GONE)
    first, second = hosts.start(0), hosts.start(1)
    hosts.wait_for("0-0", "1-0")
    second.send_signal(signal.SIGTERM)
    wait(second)
    replaced = hosts.start(1)
    assert wait(first).exit_code == wait(replaced).exit_code == 0
    assert hosts.job.value() == ("0", "1")


def test_a_bug_on_one_host_fails_the_run_at_once(tmp_path: Path) -> None:
    source = """
        import os
        def main(marks):
            raise ValueError("a bug")
    """
    hosts = Hosts(tmp_path, source)
    assert wait(hosts.start(0)).exit_code == 1
    assert hosts.job.envelope().header.message == "a bug"


def test_a_host_that_fails_after_host_0_returned_stops_those_who_wait_for_it(
    tmp_path: Path,
) -> None:
    source = """
        import os, time
        from pathlib import Path

        def main(marks):
            index = os.environ["JOB_COMPLETION_INDEX"]
            Path(marks, f"{index}-0").touch()
            if index == "1":
                raise ValueError("a bug")
            while index == "2":
                time.sleep(600)
    """
    hosts = Hosts(tmp_path, source, count=3)
    last = hosts.start(2)
    hosts.wait_for("2-0")
    assert wait(hosts.start(0)).exit_code == 0
    wait(hosts.start(1))
    assert "another host of the run has failed: this one stops" in wait(last).output
    assert hosts.job.envelope().header.status == "returned"


def test_starts_of_the_whole_slice_are_bounded(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path, WAITS_ON_FIRST_START, max_preemptions=0)
    first, second = hosts.start(0), hosts.start(1)
    hosts.wait_for("0-0", "1-0")
    second.send_signal(signal.SIGTERM)
    wait(second)
    assert wait(first).exit_code != 0
    header = hosts.job.envelope().header
    assert header.status == "crashed"
    assert "host 1 was stopped by its node, and the run had been started again" in header.message
