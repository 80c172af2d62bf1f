"""Functions of which one host hangs, and the others wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kinetic
from runner_jobs import wait_until

HANGS = """
    import ctypes, os, threading

    def one_hangs():
        if os.environ["KINETIC_HOST"] == "1":
            load()
        all_reduce()

    def one_waits():
        if os.environ.get("KINETIC_HOST", "1") == "1":
            read_batch()
        all_reduce()

    def read_batch():
        threading.Event().wait()

    def load():
        # It keeps Python's lock for ever: nothing of Python runs in that process any more.
        ctypes.PyDLL(None).pause()

    def all_reduce():
        threading.Event().wait()
"""


@contextmanager
def hanging(function: Any) -> Iterator[kinetic.Run[None]]:
    """Start a function of which one host hangs; yield its run when that can be seen, and end it."""
    run = function.submit()
    try:
        wait_until(lambda: _is_seen(run), seconds=120)
        yield run
    finally:
        run.cancel()
        run.wait()


def _is_seen(run: kinetic.Run[None]) -> bool:
    try:
        return "host 1 differs: in load" in run.stacks().summary
    except kinetic.KineticError:
        # It has no process yet, or not all of them are at the function.
        assert run.state not in ("Failed", "Crashed")
        return False
