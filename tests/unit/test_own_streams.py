"""This process's own streams, for a command that runs elsewhere."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kinetic_flows.core.own_streams import chunks_of
from terminals import Terminal

TAKES_TERMINAL = """
import signal, os, subprocess, sys, time
from kinetic_flows.core.own_streams import OwnStreams

def shown():
    flags = subprocess.run(["stty", "-a"], stdin=0, capture_output=True, text=True).stdout
    return "raw" if "-icanon" in flags else "cooked"

if sys.argv[1] == "show":
    print("now", shown(), flush=True)
else:
    with OwnStreams(terminal=True).opened():
        print("then", shown(), end="\\r\\n", flush=True)
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        time.sleep(60)
"""


READS_ALL = """
import asyncio
from kinetic_flows.core.own_streams import OwnStreams

async def read():
    with OwnStreams(terminal=False).opened() as own:
        return b"".join([chunk async for chunk in own.source()])

print(asyncio.run(read()))
"""


@pytest.mark.parametrize(
    ("redirection", "read"),
    [("< /dev/null", b""), ("<<< some", b"some\n"), ("< $FILE", b"in a file")],
)
def test_whatever_standard_input_is_it_is_read_to_its_end(
    redirection: str, read: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in a file")
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$PROGRAM" {redirection}'],
        env={**os.environ, "PROGRAM": READS_ALL, "FILE": str(tmp_path / "file")},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"{read!r}\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_terminal_is_given_back_as_it_was_whatever_ends_the_program(name: str) -> None:
    python = f'{sys.executable} -c "$PROGRAM"'
    script = f"{python} {name} 2>/dev/null; {python} show"
    terminal = Terminal(["sh", "-c", script], {**os.environ, "PROGRAM": TAKES_TERMINAL})
    try:
        terminal.until("then raw")
        terminal.until("now cooked")
        terminal.end()
    finally:
        terminal.close()


def test_all_is_written_where_somebody_has_said_not_to_wait() -> None:
    program = """
import asyncio, os
from kinetic_flows.core.own_streams import OwnStreams

os.set_blocking(1, False)
asyncio.run(OwnStreams(terminal=False).output(b"x" * 1_000_000))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, len(done.stdout)) == (0, 1_000_000), done.stderr


def test_what_is_read_comes_in_order_until_it_ends() -> None:
    parts = [b"a", b"b", b"c" * 10] * 5

    async def taken() -> bytes:
        left = iter([*parts, b""])
        return b"".join([chunk async for chunk in chunks_of(lambda _: next(left))])

    assert asyncio.run(taken()) == b"".join(parts)


def test_a_read_that_fails_is_raised_where_it_is_awaited() -> None:
    def fail(_size: int) -> bytes:
        raise OSError(5, "gone")

    async def take() -> None:
        async for _ in chunks_of(fail):
            pass

    with pytest.raises(OSError, match="gone"):
        asyncio.run(take())


def test_who_reads_no_more_leaves_no_thread_that_does() -> None:
    async def take_one() -> None:
        chunks = chunks_of(lambda size: b"x" * size)
        async for _ in chunks:
            break
        await chunks.aclose()  # type: ignore[attr-defined]
        for thread in threading.enumerate():
            if thread.name == "kinetic-input":
                await asyncio.to_thread(thread.join, 30)

    asyncio.run(take_one())
    assert "kinetic-input" not in {thread.name for thread in threading.enumerate()}
