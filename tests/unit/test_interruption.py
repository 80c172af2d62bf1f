"""Blocking work for async callers: its outcome, and how it stops."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from kinetic_flows.interruption import in_thread, pause, stoppable


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
