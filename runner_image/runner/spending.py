"""What a run has cost, over all its starts, and its end when that is what `max_cost` says.

A run that starts again goes on counting: what its earlier starts have cost is an object in the
store, which the first host overwrites now and then. It is written for runs with a limit only.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping

from .contract import COSTLY, Fault, spending_object
from .stores import BucketStore, DirectoryStore

SECONDS_AN_HOUR = 3600.0

PARTS = 100
"""What is lost where a node is gone without a word, is about this part of the limit."""

CENT = 0.01

LEAST_SECONDS, MOST_SECONDS = 10.0, 300.0
"""Between two writes."""


def dollars(amount: float) -> str:
    """Return an amount of US dollars, of less than a cent with two more digits."""
    return f"${amount:,.2f}" if amount >= CENT else f"${amount:.4f}"


class Spending:
    """Counts what a run with a limit costs.

    Args:
        limit: `hourly` and `limit` of its job, in US dollars.
        run_id: The run.
        store: Where what earlier starts have cost is, and is left for later ones.
        clock: Tells seconds that only increase.
    """

    def __init__(
        self,
        limit: Mapping[str, float],
        run_id: str,
        store: DirectoryStore | BucketStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hourly, self._limit = limit["hourly"], limit["limit"]
        self._name, self._store, self._clock = spending_object(run_id), store, clock
        self._began = clock()
        self._before = 0.0
        self._stop = threading.Event()
        self._has_begun = False

    def begin(self, *, again: bool) -> None:
        """Begin to count, on top of what earlier starts have cost; again, go on.

        Args:
            again: Whether there were any.

        Raises:
            Fault: The store cannot be read.
        """
        if self._has_begun:
            return
        self._has_begun = True
        self._before = self._read() if again else 0.0
        threading.Thread(target=self._keep, daemon=True).start()

    def end(self) -> None:
        """Leave what it has cost for a later start."""
        self._stop.set()
        if self._has_begun:
            self._write()

    @property
    def spent(self) -> float:
        """What the run has cost by now, in US dollars."""
        return self._before + self._hourly * (self._clock() - self._began) / SECONDS_AN_HOUR

    @property
    def deadline(self) -> float | None:
        """When it will have cost as much as it may, by the clock; None for never."""
        if not self._hourly:
            return None
        left = (self._limit - self._before) / self._hourly * SECONDS_AN_HOUR
        return self._began + left

    @property
    def is_over(self) -> bool:
        """Whether it has cost as much as it may."""
        return self.deadline is not None and self._clock() >= self.deadline

    @property
    def message(self) -> str:
        """What is said of a run that is ended."""
        spent = max(self.spent, self._limit)
        told = f"{COSTLY} {dollars(spent)} by the prices that are known"
        return f"{told}, and max_cost is {dollars(self._limit)}"

    def _keep(self) -> None:
        """Write what it has cost now and then."""
        pause = MOST_SECONDS
        if self._hourly:
            pause = self._limit / self._hourly * SECONDS_AN_HOUR / PARTS
        pause = min(max(pause, LEAST_SECONDS), MOST_SECONDS)
        while not self._stop.wait(pause):
            self._write()

    def _write(self) -> None:
        try:
            _, generation = self._store.read_generation(self._name)
            data = json.dumps({"usd": self.spent}).encode()
            self._store.replace(self._name, data, generation)
        except Fault:
            # It is written again soon, and what it says is an estimate.
            return

    def _read(self) -> float:
        data = self._store.read(self._name)
        try:
            return max(float(json.loads(data or b"{}").get("usd", 0.0)), 0.0)
        except (ValueError, AttributeError, TypeError):
            return 0.0
