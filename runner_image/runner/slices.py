"""The hosts of one run: they start again together when one was disturbed, and stop when one failed.

Kubernetes replaces the pod of a host that was preempted, and lets the others run on; they wait
for it for ever, or fail because it went away. So whoever is stopped, and whoever is started
again, leaves a mark in the store that names the next start; every host looks for it, stops its
function and calls it anew, within its pod.

Whoever fails the run leaves another mark, by which the others stop for good. Hosts of one Job are
stopped by Kubernetes, too; those of other slices, and processes of one machine, only by this.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from .contract import EXIT_TERMINATED, Fault, failed_host_object, slice_start_object
from .interrupts import Interrupts
from .siblings import Siblings
from .stores import BucketStore, DirectoryStore

POLL_SECONDS = 5.0
NOTICE_SECONDS = 0.2
LAST_WORD_SECONDS = 3.0
"""How long a host that failed looks for the mark of another that was stopped just before."""


class Slice:
    """What one host knows of the others of its run.

    Args:
        store: Where marks are left.
        job: The job.
        host: Which host this is.
        starts: Where its starts leave marks; see `contract.starts_prefix`.
        siblings: The others, where they are processes of this machine.
    """

    def __init__(
        self,
        store: DirectoryStore | BucketStore,
        job: Mapping[str, Any],
        host: int,
        starts: str,
        siblings: Siblings,
    ) -> None:
        self._store = store
        self._starts = starts
        self._host = host
        self._siblings = siblings
        self._limit: int = job["max_preemptions"]
        self._poll_seconds = NOTICE_SECONDS if isinstance(store, DirectoryStore) else POLL_SECONDS
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

    def tell_stopped(self, start: int, why: str = "was stopped by its node") -> None:
        """Have every host begin the next start, as this one was stopped in its own."""
        try:
            self.mark(start + 1, why)
        except Fault:
            # It is told again when this host is started again.
            return

    def is_over(self, start: int) -> bool:
        """Whether the slice has begun, or is about to begin, a start after this one."""
        if not self.has_others or self._siblings.are_here:
            # What is of this machine has no node that could take it away.
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

    def tell_failed(self) -> None:
        """Have every host stop for good, as this one has left the run's result, a failure."""
        if not self.has_others:
            return
        record = {"host": self._host, "time": time.time()}
        try:
            self._store.put_if_absent(failed_host_object(self._starts), json.dumps(record).encode())
        except Fault:
            # The others find out by themselves that this one is gone.
            return

    def watch(self, start: int, interrupts: Interrupts) -> threading.Event:
        """Look for marks in a thread; leave that of the next start when this host is stopped.

        Args:
            start: The start that this host is in.
            interrupts: Says whether this host was asked to stop, and is asked to stop its function
                when the slice starts again, or when another host has failed.

        Returns:
            What ends the watch when it is set.
        """
        done = threading.Event()
        if self.has_others:
            arguments = (start, interrupts, done)
            threading.Thread(target=self._watch, args=arguments, daemon=True).start()
        return done

    def _watch(self, start: int, interrupts: Interrupts, done: threading.Event) -> None:
        next_look = time.monotonic() + self._poll_seconds
        while not done.wait(NOTICE_SECONDS):
            if interrupts.is_terminated:
                # Before anything else: the others fail as soon as this host's function is gone.
                self.tell_stopped(start)
                return
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + self._poll_seconds
            if self._has_failed():
                interrupts.request_giving_up()
                return
            if self._is_marked(start + 1):
                interrupts.request_restart()
                return

    def _has_failed(self) -> bool:
        """Whether another host has failed the run, or was lost for good."""
        return self._exists(failed_host_object(self._starts)) or self._siblings.lost() is not None

    def check_siblings(self) -> None:
        """Fail the run if the process of another host on this machine is gone.

        Raises:
            Fault: One was.
        """
        lost = self._siblings.lost()
        if lost is not None:
            raise Fault(EXIT_TERMINATED, f"the process of host {lost} was killed, or never began")

    def _is_marked(self, start: int) -> bool:
        """Whether a start has begun."""
        return self._exists(self._mark(start))

    def _exists(self, name: str) -> bool:
        """Whether a mark is there; a store that does not answer is no reason to end a run."""
        try:
            return self._store.read(name) is not None
        except Fault:
            return False

    def _mark(self, start: int) -> str:
        return slice_start_object(self._starts, start)
