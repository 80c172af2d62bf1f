"""Blocking work for async callers: its outcome, and how it stops."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from kinetic_flows.interruption import in_thread, pause


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
