"""The hosts of one slice: all of them start again when one of them was disturbed.

Kubernetes replaces the pod of a host that was preempted, and lets the others run on; they wait
for it for ever, or fail because it went away. So whoever is stopped, and whoever is started
again, leaves a mark in the store that names the next start; every host looks for it, stops its
function and calls it anew, within its pod.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from .contract import Fault, slice_start_object
from .stores import BucketStore, DirectoryStore

POLL_SECONDS = 5.0
NOTICE_SECONDS = 0.2
LAST_WORD_SECONDS = 3.0
"""How long a host that failed looks for the mark of another that was stopped just before."""


class Slice:
    """What one host knows of the starts of its slice.

    Args:
        store: Where marks are left.
        job: The job.
        host: Which host this is.
        starts: Where its starts leave marks; see `contract.starts_prefix`.
    """

    def __init__(
        self, store: DirectoryStore | BucketStore, job: Mapping[str, Any], host: int, starts: str
    ) -> None:
        self._store = store
        self._starts = starts
        self._host = host
        self._limit: int = job["max_preemptions"]
        self.has_others: bool = job["hosts"] > 1

    def settled(self, start: int) -> int:
        """Return the newest start of the slice, from one that this host has claimed on.

        A host that starts anew without a mark was lost without a word: it leaves the mark.
        """
        if not self.has_others:
            return start
        if start:
            self.mark(start, "was started again")
        while self._is_marked(start + 1):
            start += 1
        return start

    def mark(self, start: int, why: str) -> None:
        """Have every host begin a start."""
        if self.has_others:
            record = {"host": self._host, "why": why, "time": time.time()}
            self._store.put_if_absent(self._mark(start), json.dumps(record).encode())

    def tell_stopped(self, start: int) -> None:
        """Have every host begin the next start, as this one was stopped in its own."""
        try:
            self.mark(start + 1, "was stopped by its node")
        except Fault:
            # It is told again when this host is started again.
            return

    def is_over(self, start: int) -> bool:
        """Whether the slice has begun, or is about to begin, a start after this one."""
        if not self.has_others:
            return False
        deadline = time.monotonic() + LAST_WORD_SECONDS
        while not self._is_marked(start + 1):
            if time.monotonic() >= deadline:
                return False
            time.sleep(NOTICE_SECONDS)
        return True

    def may_begin(self, start: int) -> bool:
        """Whether the slice may start so often."""
        return start <= self._limit or not self.has_others

    def who(self, start: int) -> str:
        """Say why a start has begun."""
        try:
            found = json.loads(self._store.read(self._mark(start)) or b"{}")
        except (Fault, ValueError):
            found = {}
        # Whoever can write to the bucket can write anything there.
        found = found if isinstance(found, dict) else {}
        return f"host {found.get('host', '?')} {found.get('why', 'was disturbed')}"

    def watch(
        self, start: int, on_mark: Callable[[], None], is_stopping: Callable[[], bool]
    ) -> threading.Event:
        """Look for the next start's mark in a thread; leave it when this host is stopped.

        Args:
            start: The start that this host is in.
            on_mark: Called once, in the thread, when the slice starts again.
            is_stopping: Whether this host was asked to stop.

        Returns:
            What ends the watch when it is set.
        """
        done = threading.Event()
        if self.has_others:
            arguments = (start, on_mark, is_stopping, done)
            threading.Thread(target=self._watch, args=arguments, daemon=True).start()
        return done

    def _watch(
        self,
        start: int,
        on_mark: Callable[[], None],
        is_stopping: Callable[[], bool],
        done: threading.Event,
    ) -> None:
        next_look = time.monotonic() + POLL_SECONDS
        while not done.wait(NOTICE_SECONDS):
            if is_stopping():
                # Before anything else: the others fail as soon as this host's function is gone.
                self.tell_stopped(start)
                return
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + POLL_SECONDS
                if self._is_marked(start + 1):
                    on_mark()
                    return

    def _is_marked(self, start: int) -> bool:
        """Whether a start has begun; a store that does not answer is no reason to end a run."""
        try:
            return self._store.read(self._mark(start)) is not None
        except Fault:
            return False

    def _mark(self, start: int) -> str:
        return slice_start_object(self._starts, start)
