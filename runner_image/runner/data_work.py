"""Bringing data with several threads, of which the main one watches, tells and can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

PARALLEL = 8

FIRST_LINE_SECONDS = 5.0
"""What takes longer tells how far it is."""
LAST_PAUSE_SECONDS = 60.0
"""How long at most nothing is told."""

_LOOK_SECONDS = 0.5
_END_SECONDS = 2.0
"""How long threads may go on that are to stop; they are daemons, and what they write is apart."""

Job = Callable[[], None]
Answer = TypeVar("Answer")


class Stopped(BaseException):
    """The data is not wanted any more; raised in the threads that bring it."""


class Work:
    """The bringing of one data, and how far it is.

    Args:
        what: What is brought, for people.
        size_bytes: Its size; None where nobody knows.
        say: Takes lines about it.
    """

    def __init__(self, what: str, size_bytes: int | None, say: Callable[[str], None]) -> None:
        self.what = what
        self.say = say
        self.size_bytes = size_bytes
        self._begun = time.monotonic()
        self._next = FIRST_LINE_SECONDS
        self._pause = FIRST_LINE_SECONDS
        self._guard = threading.Lock()
        self._is_stopping = False
        self._said: set[str] = set()
        self._done = self._reused = self._files = self._found = 0

    def add(self, size_bytes: int) -> None:
        """Count bytes that have come; raise `Stopped` when no more are wanted.

        It is called before they are written: when a thread gets them late, another run may be
        writing there.
        """
        self.check()
        with self._guard:
            self._done += size_bytes

    def add_file(self) -> None:
        """Count a file that is whole."""
        with self._guard:
            self._files += 1

    def reuse(self, size_bytes: int) -> None:
        """Count bytes that were there already; as `add`."""
        self.add(size_bytes)
        with self._guard:
            self._reused += size_bytes

    def check(self) -> None:
        """Raise `Stopped` when no more is wanted."""
        if self._is_stopping:
            raise Stopped

    def find(self, files: int) -> None:
        """Count files that were found, before any of them comes; as `add`."""
        self.check()
        self._found += files

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the answer to a question that may take long; as `run`."""
        answers: list[Answer] = []
        self.run([lambda: answers.append(question())])
        return answers[0]

    def wait(self, seconds: float) -> None:
        """Wait in a thread, but not longer than the data is wanted."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _LOOK_SECONDS))

    def say_once(self, line: str) -> None:
        """Say something that several threads may come to say."""
        with self._guard:
            is_new = line not in self._said
            self._said.add(line)
        if is_new:
            self.say(line)

    def run(self, jobs: Iterable[Job]) -> None:
        """Do jobs in several threads, each taken from the iterator when a thread is free.

        Raises:
            BaseException: The first that a job or the iterator raised, or what was raised here,
                in the main thread, by a signal.
        """
        crew = _Crew(iter(jobs), self)
        try:
            while not crew.ended.wait(_LOOK_SECONDS):
                self.tell()
        except BaseException:
            self._is_stopping = True
            crew.ended.wait(_END_SECONDS)
            raise
        if crew.errors:
            raise crew.errors[0]

    def stop(self) -> None:
        """Have everything of it end."""
        self._is_stopping = True

    def tell(self) -> None:
        """Say how far it is, now and then."""
        seconds = time.monotonic() - self._begun
        if seconds < self._next:
            return
        self._pause = min(2 * self._pause, LAST_PAUSE_SECONDS)
        self._next = seconds + self._pause
        self.say(f"{self.what}: {self._so_far(seconds)}")

    def tell_end(self) -> None:
        """Say that it is there, where that took so long that it was told how far it is."""
        seconds = time.monotonic() - self._begun
        if seconds < FIRST_LINE_SECONDS:
            return
        kept = f", {in_words(self._reused)} of it kept from before" if self._reused else ""
        files = f"{self._files:,} file{'' if self._files == 1 else 's'}"
        self.say(
            f"{self.what}: {in_words(self._done)} in {files}, after {time_in_words(seconds)}{kept}"
        )

    def _so_far(self, seconds: float) -> str:
        if not self._done and self._found:
            return f"{self._found:,} files found so far"
        fresh = self._done - self._reused
        speed = fresh / seconds
        of = "" if self.size_bytes is None else f" of {in_words(self.size_bytes)}"
        parts = [f"{in_words(self._done)}{of}", f"{in_words(speed)}/s"]
        if self.size_bytes and speed and self._done < self.size_bytes:
            left = (self.size_bytes - self._done) / speed
            parts.append(f"about {time_in_words(left)} left")
        return ", ".join(parts)


class _Crew:
    """Threads that take jobs from one iterator."""

    def __init__(self, jobs: Iterable[Job], work: Work) -> None:
        self._jobs = iter(jobs)
        self._work = work
        self._guard = threading.Lock()
        self.errors: list[BaseException] = []
        self.ended = threading.Event()
        self._threads = PARALLEL
        for _ in range(PARALLEL):
            threading.Thread(target=self._labour, daemon=True).start()

    def _labour(self) -> None:
        try:
            while (job := self._take()) is not None:
                job()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.errors.append(error)
            self._work.stop()
        with self._guard:
            self._threads -= 1
            if not self._threads:
                self.ended.set()

    def _take(self) -> Job | None:
        with self._guard:
            self._work.check()
            return next(self._jobs, None)


def in_words(size_bytes: float) -> str:
    """Return a size as people read it, as disks are sold: 1 GB is 10^9 bytes."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} bytes"


def time_in_words(seconds: float) -> str:
    """Return a time as people read it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
