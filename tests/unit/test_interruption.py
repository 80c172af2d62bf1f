"""Blocking work for async callers: its outcome, and how it stops."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest

from kinetic_flows.core.files import exclusive_lock
from kinetic_flows.core.interruption import (
    in_thread,
    in_threads,
    interruptible,
    pause,
    stoppable,
    stopped_if_interrupted,
)


def _fail() -> None:
    raise ValueError("no")


def test_work_gives_its_value_or_raises_its_exception() -> None:
    assert asyncio.run(in_thread(lambda: 3)) == 3
    with pytest.raises(ValueError, match="no"):
        asyncio.run(in_thread(_fail))


def test_a_pause_outside_of_any_work_is_a_pause() -> None:
    before = time.monotonic()
    pause(0.01)
    assert time.monotonic() - before >= 0.01


def test_work_stops_when_its_awaiter_is_cancelled() -> None:
    stopped = threading.Event()

    def wait_long() -> None:
        try:
            pause(60)
        finally:
            stopped.set()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(wait_long), timeout=0.05)
        assert stopped.is_set()

    asyncio.run(give_up())


def test_work_that_ended_while_its_awaiter_was_cancelled_disturbs_nothing() -> None:
    release = threading.Event()

    async def give_up() -> None:
        awaiting = asyncio.ensure_future(in_thread(lambda: release.wait(10)))
        await asyncio.sleep(0)
        awaiting.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await awaiting

    asyncio.run(give_up())


def test_work_in_other_threads_stops_when_it_is_told_to() -> None:
    with ThreadPoolExecutor(1) as pool, stoppable() as work:
        working = pool.submit(copy_context().run, pause, 60)
        work.check()
        work.stop()
        with pytest.raises(KeyboardInterrupt):
            working.result(10)


def test_what_was_told_to_stop_does_not_stop_what_comes_after() -> None:
    with stoppable() as work:
        work.stop()
    pause(0)


def test_a_cancelled_awaiter_is_noticed_by_the_thread_that_waits_for_others() -> None:
    noticed = threading.Event()

    def wait_for_others() -> None:
        with stoppable() as work:
            try:
                while True:
                    work.check()
                    time.sleep(0.01)
            finally:
                noticed.set()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(wait_for_others), 0.05)

    asyncio.run(give_up())
    assert noticed.is_set()


def test_calls_in_threads_give_their_values_in_order() -> None:
    both = threading.Barrier(2)

    def double(number: int) -> int:
        both.wait(10)
        return 2 * number

    assert in_threads(double, range(6), threads=2) == [0, 2, 4, 6, 8, 10]
    assert in_threads(double, [], threads=2) == []


def test_after_a_failure_in_threads_nothing_more_is_begun() -> None:
    begun = []

    def fail(number: int) -> None:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        in_threads(fail, range(5), threads=1)
    assert begun == [0]


def test_call_that_was_stopped_because_another_failed_does_not_hide_why() -> None:
    both, stopped = threading.Barrier(2), []

    def call(number: int) -> None:
        if number == 0:
            stopped.append(threading.current_thread())
            both.wait(10)
            raise KeyboardInterrupt
        both.wait(10)
        stopped[0].join(10)
        raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        in_threads(call, range(2), threads=2)


def test_calls_in_threads_are_left_behind_when_the_work_is_to_stop() -> None:
    begun, release = [], threading.Event()

    def hang(number: int) -> None:
        begun.append(number)
        work.stop()
        release.wait(60)

    with stoppable() as work, pytest.raises(KeyboardInterrupt):
        in_threads(hang, range(5), threads=1)
    assert begun == [0]
    release.set()


def test_a_process_that_interrupted_work_waits_for_is_stopped() -> None:
    started: list[subprocess.Popen[str]] = []

    def work() -> None:
        sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        with subprocess.Popen(sleep, text=True) as process, stopped_if_interrupted(process):
            started.append(process)
            process.wait()

    assert _interrupted(work, lambda: bool(started))
    assert started[0].returncode == -signal.SIGTERM


def test_work_that_waits_for_a_lock_stops_when_it_is_told_to(tmp_path: Path) -> None:
    waiting = threading.Event()

    def work() -> None:
        waiting.set()
        with exclusive_lock(tmp_path / "lock"):
            raise AssertionError("somebody else holds it")

    with exclusive_lock(tmp_path / "lock"):
        assert _interrupted(work, waiting.is_set)


def _interrupted(work: Callable[[], None], has_begun: Callable[[], bool]) -> bool:
    """Do work in a thread, interrupt it once it has begun, and return whether that stopped it."""
    stopped: list[BaseException] = []

    def watched() -> None:
        interruptible(interruption)
        try:
            work()
        except KeyboardInterrupt as interrupt:
            stopped.append(interrupt)

    interruption = threading.Event()
    thread = threading.Thread(target=watched)
    thread.start()
    while not has_begun():
        time.sleep(0.01)
    interruption.set()
    thread.join()
    return bool(stopped)
