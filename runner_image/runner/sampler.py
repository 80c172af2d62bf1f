"""Reads what a run's host uses, every few seconds while its function runs, and keeps it.

It is looked at from three sides: `idle_timeout_seconds` and `stuck_after_seconds` ask whether the
chips do anything, whoever looks at the run while it goes on reads a file beside the door, and what
is kept goes to the store now and then, and at the end.

What reads is imported in its thread, when the function has run for a while: one that is over by
then has not waited for it.

    KINETIC_METRICS    Seconds between two readings; 0 to read nothing but the chips of a run with
                       one of those options
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .contract import Fault

if TYPE_CHECKING:
    from .chip_use import Reader, Use
    from .host_use import HostUse
    from .preparing import Start
    from .readings import History, Reading

METRICS_VARIABLE = "KINETIC_METRICS"
METRICS_FILE = "metrics.json"
"""Its name, in the directory that has the door: what is known so far."""

POD_VARIABLE = "KUBERNETES_SERVICE_HOST"
"""Every pod has it: https://kubernetes.io/docs/concepts/services-networking/service/."""

FIRST_SECONDS = 1.0
"""How long a function has run before it is looked at: most that are shorter cost nothing."""

LEAST_SECONDS, MOST_SECONDS = 0.05, 86_400.0
EVERY_SECONDS = 5.0
"""How far readings are apart, where the run does not say."""

STORE_SECONDS = (30.0, 60.0, 120.0, 300.0, 600.0)
"""Between two times at which what is known is stored; the last of them is for ever."""

END_SECONDS = 5.0
"""How long the end of the process waits for what is stored last."""


class Sampler:
    """Reads what one start of a run uses of its host.

    Args:
        start: The start.
        environ: The variables of the function's process.
        name: Name of the object in which it is stored.
    """

    def __init__(self, start: Start, environ: Mapping[str, str], name: str) -> None:
        self._start = start
        self._environ = environ
        self._name = name
        self._every_seconds = _every_seconds(environ)
        self._limits = _limits(start.job)
        self._history: History | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._watcher: Callable[[Use, float], None] | None = None
        self._host: HostUse | None = None
        self._reader: Reader | None = None
        self._use: Use | None = None
        self._last_used = time.monotonic()
        self._began = time.time()
        self._next_store = 0
        self._last_stored = 0.0
        self._earlier: list[Reading] | None = None
        self.also: Callable[[], str] = str
        """Returns what else is said of the run, in words; empty for nothing."""

    def begin(self) -> None:
        """Begin to read, as the function is about to be called; once is enough."""
        if self._thread is None and (self._every_seconds or self._limits):
            self._began, self._last_used = time.time(), time.monotonic()
            self._last_stored = self._last_used
            self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)
            self._thread.start()

    def watch(self, watcher: Callable[[Use, float], None] | None) -> None:
        """Have what chips do told, with the moment by the monotonic clock; None to no more."""
        self._watcher = watcher

    def readings(self, last_seconds: float = 600.0) -> list[Reading]:
        """Return the readings of the last seconds, at most of the last ten minutes."""
        with self._lock:
            return self._history.recent(last_seconds) if self._history else []

    def idle_seconds(self) -> float | None:
        """Return how long the chips have done nothing; None where that is not known."""
        if self._use is None or self._use.state == "unknown":
            return None
        return time.monotonic() - self._last_used

    def document(self, *, ended: bool = False) -> dict[str, Any]:
        """Return all that is known, as it is stored.

        Args:
            ended: Whether nothing more is read.
        """
        from .measured import document_of

        with self._lock:
            points = self._history.all() if self._history else []
        host, reader = self._host, self._reader
        return document_of(
            points,
            host=self._start.host,
            start=self._start.attempt,
            began=self._began,
            ended=ended,
            scope=host.scope if host else "",
            cpus=host.cpus if host else None,
            chip_kind=reader.kind if reader else "",
            chip_name=reader.name if reader else "",
        )

    def markdown(self) -> str:
        """Return what was used as a section of the run's page; empty where that is nothing."""
        from .measured import as_markdown, told

        also = self.also()
        shown = as_markdown(told(self.document(), also), self._start.job["hosts"])
        return shown or (f"- {also}" if also else "")

    def end(self) -> None:
        """Read no more; what is known is stored meanwhile."""
        self._stop.set()

    def finish(self) -> None:
        """Wait a while for what is stored last."""
        self.end()
        if self._thread is not None:
            self._thread.join(END_SECONDS)

    def _work(self) -> None:
        pauses = [each / 10 for each in self._limits]
        pauses += [self._every_seconds] if self._every_seconds else []
        pause = max(min(pauses), LEAST_SECONDS)
        if self._stop.wait(min(pause, FIRST_SECONDS)):
            return
        from .chip_use import reader_of
        from .host_use import HostUse
        from .readings import History

        self._history = History(self._every_seconds or EVERY_SECONDS)
        if self._every_seconds:
            in_pod = POD_VARIABLE in self._start.environ
            self._host = HostUse(self._start.lasting, in_pod=in_pod).begin()
        self._reader = reader_of(self._environ)
        try:
            # Asked now, so that what was before the function is not taken for its doing.
            self._note(self._look_at_chips())
            while not self._stop.wait(pause):
                self._look(self._history)
                self._leave(self._history)
            if len(self._history):
                # One reading alone is not kept, and no run's end waits for it.
                self._look(self._history)
            if self._every_seconds and len(self._history) > 1:
                self._store(self._history, ended=True)
        finally:
            if self._reader is not None:
                self._reader.close()

    def _look_at_chips(self) -> Use | None:
        return self._reader.read() if self._reader is not None else None

    def _look(self, history: History) -> None:
        use = self._look_at_chips()
        if self._host is not None:
            reading = self._host.read(time.time())
            if reading.seconds > 0:
                with self._lock:
                    history.add(reading._replace(chips=use.chips if use else ()))
        self._note(use)

    def _note(self, use: Use | None) -> None:
        if use is None or self._stop.is_set():
            return
        now = time.monotonic()
        if use.state != "idle":
            self._last_used = now
        self._use = use
        if watcher := self._watcher:
            watcher(use, now)

    def _leave(self, history: History) -> None:
        """Leave what is known where it is looked for while the run goes on."""
        if not self._every_seconds:
            return
        path = os.path.join(self._start.lasting, METRICS_FILE)
        # A disk may be full; the scratch directory goes when the run ends.
        with suppress(OSError):
            with open(path + ".new", "w", encoding="utf-8") as file:
                json.dump(self.document(), file, separators=(",", ":"))
            os.replace(path + ".new", path)
        pause = STORE_SECONDS[min(self._next_store, len(STORE_SECONDS) - 1)]
        if time.monotonic() - self._last_stored >= pause:
            self._store(history, ended=False)
            self._next_store += 1
            self._last_stored = time.monotonic()

    def _store(self, history: History, *, ended: bool) -> None:
        """Store what is known; a store that is away has it at the next time."""
        from .measured import told

        with suppress(Fault, OSError, ValueError):
            if self._earlier is None:
                self._take_earlier(history)
            document = told(self.document(ended=ended), self.also())
            data = json.dumps(document, separators=(",", ":"))
            self._start.store.put(self._name, data.encode())

    def _take_earlier(self, history: History) -> None:
        """Go on with what an earlier start of the run has left."""
        from .measured import readings_of

        data = self._start.store.read(self._name) if self._start.attempt else None
        self._earlier = []
        # What cannot be read is replaced.
        with suppress(ValueError, KeyError, TypeError):
            self._earlier = readings_of(json.loads(data)) if data else []
        with self._lock:
            history.put_before(self._earlier)


def sampler_of(
    start: Start, environ: Mapping[str, str], handed: Mapping[str, Any], name: str
) -> Sampler:
    """Return what reads the use of a start, and is waited for when its process ends.

    Args:
        start: The start.
        environ: The variables of the function's process.
        handed: What that is told of variables besides, as those that its caller has set.
        name: Name of the object in which it is stored.
    """
    said = handed.get("variables", {}).get(METRICS_VARIABLE, environ.get(METRICS_VARIABLE, ""))
    sampler = Sampler(start, {**environ, METRICS_VARIABLE: said}, name)
    start.leaving.callback(sampler.finish)
    return sampler


def _every_seconds(environ: Mapping[str, str]) -> float | None:
    """Return how far readings are to be apart; None for none."""
    try:
        seconds = float(environ.get(METRICS_VARIABLE) or EVERY_SECONDS)
    except ValueError:
        return EVERY_SECONDS
    return min(max(seconds, LEAST_SECONDS), MOST_SECONDS) if seconds > 0 else None


def _limits(job: Mapping[str, Any]) -> list[float]:
    """Return the options for which the chips are looked at; earlier clients do not say."""
    options = (job.get("idle_timeout_seconds"), job.get("stuck_after_seconds"))
    return [float(each) for each in options if each]
