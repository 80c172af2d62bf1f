"""The programs that XLA compiles for a run: brought from the store, and kept there for later runs.

What is kept is brought to a directory that JAX is told of while the run is prepared. A thread
stores what JAX adds to it, now and then and when the function's process has ended. A run goes on
without all this where the store fails.

JAX writes from process 0 of a group alone (`_cache_write` in `jax/_src/compiler.py`), and others
find what that has written: so every host has those of host 0 as well. What hosts write that are
no group stays apart, each below its own number.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from .compile_entries import BLOCK_VARIABLE, KEY_VARIABLE, EntryRefused, head_of, receive
from .compile_files import (
    Kept,
    compile_seconds_of,
    is_name,
    is_whole,
    kept_files,
    notes_reads,
    put_in,
)
from .compile_places import Places
from .compile_threads import in_background, run_in_threads, widen
from .compile_watch import programs_of
from .contract import DEVICES_VARIABLE, Fault
from .patience import ask_patiently
from .prefect_api import TIMEOUT_SECONDS, ApiError
from .stored_listing import Listed

if TYPE_CHECKING:
    from .preparing import Start

BRING_PARALLEL = 16
"""Most programs are small: what they take is the store's time to answer."""

BRING_BYTES = 2 << 30
FREE_PARTS = 4
"""How much is brought at most, and that it takes no more than this part of the free disk: runs of
other functions with the same packages have their programs there, too."""

TELL_SECONDS = 0.25
"""How often the function's process is told that something comes."""

PARALLEL = 8
LARGE_BYTES = 4 << 20
"""Of programs that are larger, fewer are stored at a time: each is in memory once or twice."""
LARGE_PARALLEL = 2

MOST_PROGRAMS = 4_000
"""How many one host of a run brings, and how many it keeps."""

STORE_SECONDS = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Between two looks for new programs; the last of them is for ever."""

END_SECONDS, HURRIED_SECONDS = 30.0, 8.0
"""How long the end of the process waits for what is stored last; of one that is to go at once."""

SOON_SECONDS = 0.3
STORING = "the run is over; the programs that it has compiled are still being stored"
"""What is said where that takes longer, so that nobody waits for it; `runs/left_results.py`."""

SHARED_VARIABLE = "JAX_SHARE_BINARY_BETWEEN_HOSTS"
_ON = ("1", "true", "t", "yes", "y", "on")
"""What JAX takes for yes."""

REFRESH_SECONDS = 86_400.0
"""A program that is used is written anew when it is older, as a bucket's rules go by age."""

FAULTS = 3
"""How many objects cannot be read before no more are asked for."""


class _Over(Exception):
    """The function's process has ended: nothing more is to come."""


class CompileCache:
    """The compiled programs of one start of a run.

    Args:
        start: The start; its job says where programs are kept.
        places: Where they are here.
    """

    def __init__(self, start: Start, places: Places) -> None:
        spec = start.job["compile_cache"]
        self._start, self._store = start, start.store
        self._prefix: str = spec["prefix"]
        self._max_bytes: int = spec["max_bytes"]
        self._own = f"{self._prefix}{start.host}/"
        self._places = places
        self._key = ""
        self._has_warned = False
        self._refused, self._faults = 0, 0
        self._made_at: dict[str, float] = {}
        self._known: set[str] = set()
        self._stored, self._arrived = 0, 0.0
        self._notes_reads = False
        self._is_hurried = False
        self._filled, self._ended, self._wake = (threading.Event() for _ in range(3))
        self._thread: threading.Thread | None = None
        in_background(self._fill)

    @property
    def variables(self) -> Mapping[str, str]:
        """What tells JAX of the directory."""
        return self._places.variables

    @property
    def told(self) -> str:
        """The directory that the function's process and this one know."""
        return self._places.told

    def begin(self) -> None:
        """Begin to store what is new, as the function is about to be called; once is enough."""
        if self._thread is None:
            self._thread = in_background(self._keep)

    def hurry(self) -> None:
        """Store what is new at once: this process is to go."""
        self._is_hurried = True
        self._wake.set()

    def end(self) -> None:
        """Store what is new for the last time, meanwhile: the function's process has ended."""
        sentence = self.sentence()
        if sentence and not self._start.host:
            self._start.output.say(sentence)
        self._ended.set()
        self._wake.set()

    def finish(self) -> None:
        """Wait a while for what is stored last."""
        self._ended.set()
        self._wake.set()
        if self._thread is None:
            return
        self._thread.join(SOON_SECONDS)
        # Of several hosts, others may be at work yet.
        if self._thread.is_alive() and self._start.job["hosts"] == 1:
            self._start.output.say(STORING)
        self._thread.join(HURRIED_SECONDS if self._is_hurried else END_SECONDS)

    def sentence(self) -> str:
        """Return what became of the programs, in words; empty where there were none."""
        return programs_of(self.told).sentence

    # Bringing

    def _fill(self) -> None:
        try:
            self._key = self._read_key()
            self._notes_reads = notes_reads(self._places.directory)
            self._bring_all()
        except (Fault, ApiError, OSError, ValueError) as error:
            self._warn(f"compiled programs are not brought from the store: {error}")
        finally:
            self._filled.set()
            self._places.tell_filled()

    def _read_key(self) -> str:
        environ, api = self._start.environ, self._start.api
        key, block = environ.get(KEY_VARIABLE, ""), environ.get(BLOCK_VARIABLE, "")
        if not key and block and api is not None:
            key = ask_patiently(
                lambda: api.read_secret(block, TIMEOUT_SECONDS),
                lambda _: None,
                "the key of compiled programs",
            )
        if not re.fullmatch(r"(?:[0-9a-f]{2}){16,}", key):
            raise ValueError("the key that they are signed with is not to be had")
        return key

    def _bring_all(self) -> None:
        self._places.tell_arriving()
        wanted = list(self._wanted())
        self._places.tell_arriving()
        # In a directory there is no server to wait for, and threads only hold one another up.
        count = BRING_PARALLEL if self._start.client is not None else 1
        run_in_threads([(count, [partial(self._bring, *each) for each in wanted])])
        if self._faults >= min(FAULTS, max(len(wanted), 1)):
            self._warn("some compiled programs could not be brought from the store")
        if self._refused:
            what = f"ignored {self._refused} of the compiled programs in the store: changed, or not"
            self._warn(f"{what} signed by those who may launch runs")

    def _wanted(self) -> Iterator[tuple[str, str, Listed]]:
        """Yield the programs to bring, the newest first: their names, and whose they are."""
        found: dict[str, tuple[str, Listed]] = {}
        for host in dict.fromkeys((0, self._start.host)):
            whose = f"{self._prefix}{host}/"
            for each in self._store.list(whose):
                name = each.name[len(whose) :]
                if is_name(name):
                    found[name] = (whose, each)
        newest = sorted(found.items(), key=lambda item: -item[1][1].made_at)
        free = shutil.disk_usage(self._places.directory).free
        left = min(self._max_bytes, BRING_BYTES, free // FREE_PARTS)
        for name, (whose, each) in newest[:MOST_PROGRAMS]:
            self._known.add(name)
            left -= each.size_bytes
            if left >= 0:
                yield name, whose, each

    def _bring(self, name: str, whose: str, listed: Listed) -> None:
        directory = self._places.directory
        if os.path.exists(os.path.join(directory, name)):
            return
        if self._ended.is_set() or self._faults >= FAULTS:
            return
        aside = os.path.join(directory, f".incoming-{os.urandom(8).hex()}")
        try:
            with open(aside, "xb") as file:
                pieces = self._noted(self._store.pieces(listed.name))
                header = receive(pieces, file, self._key, name=name, prefix_and_host=whose)
        except EntryRefused:
            self._refused += 1
            # What this run compiles is to take its place.
            self._known.discard(name)
            self._made_at[name] = 0.0
        except (Fault, _Over) as error:
            self._faults += isinstance(error, Fault)
        else:
            if put_in(directory, name, aside) and whose == self._own:
                self._made_at[name] = float(header["made_at"])
        finally:
            # Where the disk is full, too.
            with suppress(FileNotFoundError):
                os.unlink(aside)

    def _noted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._ended.is_set():
                raise _Over
            now = time.monotonic()
            if now - self._arrived >= TELL_SECONDS:
                self._arrived = now
                self._places.tell_arriving()
            yield piece

    # Keeping

    def _keep(self) -> None:
        for pause in chain(STORE_SECONDS, repeat(STORE_SECONDS[-1])):
            self._wake.wait(pause)
            self._wake.clear()
            is_over = self._ended.is_set()
            try:
                self._look(is_over=is_over)
            except (Fault, OSError) as error:
                self._warn(f"compiled programs are not kept for later runs: {error}")
            if is_over:
                return

    def _look(self, *, is_over: bool) -> None:
        if is_over and self._has_written():
            self._filled.wait(HURRIED_SECONDS)
        if self._filled.is_set() and self._key:
            self._store_new(is_over=is_over)

    def _store_new(self, *, is_over: bool) -> None:
        """Store what is new, and what is used and old; what is there already stays as it is."""
        files = kept_files(self._places.directory)
        has_hits = bool(programs_of(self.told).found)
        new = [each for each in files if self._is_new(each)]
        old = [each for each in files if self._is_to_refresh(each, has_hits)]
        wanted = [*new, *old]
        run_in_threads(
            (count, [partial(self._put, each, is_over=is_over) for each in these])
            for count, these in (
                (LARGE_PARALLEL, [each for each in wanted if each.size_bytes > LARGE_BYTES]),
                (PARALLEL, [each for each in wanted if each.size_bytes <= LARGE_BYTES]),
            )
        )
        if is_over and self._stored and not self._start.host:
            self._make_room()

    def _has_written(self) -> bool:
        """Whether there is something that did not come from the store, as far as that is known."""
        return any(each.name not in self._known for each in kept_files(self._places.directory))

    def _is_new(self, kept: Kept) -> bool:
        return kept.name not in self._known and kept.size_bytes <= self._max_bytes

    def _is_to_refresh(self, kept: Kept, has_hits: bool) -> bool:
        """Whether a program that was brought here is used, and old."""
        made_at = self._made_at.get(kept.name)
        if not made_at or kept.name not in self._known:
            return False
        is_used = kept.was_read if self._notes_reads else has_hits
        return is_used and time.time() - made_at > REFRESH_SECONDS

    def _put(self, kept: Kept, *, is_over: bool) -> None:
        # JAX may remove a program at any time, and the function do with it what it likes; what goes
        # wrong with the store is a fault.
        with suppress(OSError):
            self._put_file(kept, is_over=is_over)

    def _put_file(self, kept: Kept, *, is_over: bool) -> None:
        if not is_whole(kept, is_over=is_over):
            if is_over:
                # JAX would find it where the run is started again here.
                os.unlink(kept.path)
            return
        if self._stored >= MOST_PROGRAMS:
            return
        name, made_at = self._own + kept.name, time.time()
        head = head_of(
            kept.path,
            self._key,
            name=kept.name,
            prefix_and_host=self._own,
            size_bytes=kept.size_bytes,
            compile_seconds=compile_seconds_of(kept.path),
            made_at=made_at,
        )
        if kept.name in self._made_at:
            # One that is old, or that was refused.
            self._store.delete(name)
        self._store.put_if_absent(name, head, kept.path)
        self._known.add(kept.name)
        self._made_at[kept.name] = made_at
        self._stored += 1

    def _make_room(self) -> None:
        """Delete the oldest programs of all hosts until the others are as large as they may be."""
        kept = self._store.list(self._prefix)
        excess = sum(each.size_bytes for each in kept) - self._max_bytes
        for each in sorted(kept, key=lambda each: each.made_at):
            if excess <= 0:
                return
            self._store.delete(each.name)
            excess -= each.size_bytes

    def _warn(self, message: str) -> None:
        """Say what is wrong; of all that is, the first."""
        if not self._has_warned:
            self._has_warned = True
            self._start.output.say(message)


def compile_cache_of(start: Start, handed: Mapping[str, Any]) -> CompileCache | None:
    """Return the compiled programs of a start, which come from now on.

    None where nobody has the key, or where the caller, or the image, has said something of JAX's
    cache: that holds. None as well on GPUs of several hosts: their processes try out together what
    is fast while they compile, so one that compiles waits without end for one that has loaded its
    program (https://github.com/openxla/xla/issues/28959), and what was tried out at another time
    may fit no program of today's (https://github.com/openxla/xla/issues/7716). It is the same where
    JAX is told that one host compiles for all (`_compile_and_share_module`).

    Args:
        start: The start.
        handed: What the function's process is told of variables besides.
    """
    environ = start.environ
    has_key = bool(environ.get(KEY_VARIABLE))
    if not has_key and not (environ.get(BLOCK_VARIABLE) and start.api is not None):
        return None
    said = {**environ, **handed.get("variables", {})}
    is_on_gpus = environ.get(DEVICES_VARIABLE, "").startswith("gpu:")
    if start.job["hosts"] > 1 and (is_on_gpus or said.get(SHARED_VARIABLE, "").lower() in _ON):
        return None
    try:
        places = Places.of(start, said)
    except OSError:
        return None
    if places is None:
        return None
    widen(start.client)
    found = CompileCache(start, places)
    start.leaving.callback(found.finish)
    return found
