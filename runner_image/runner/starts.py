"""The starts of a run on one host: their numbers, and for how long each of them had its host.

The first start of a run tells nothing of that: its flow run has when it began to run and when it
ended. Of what starts again, the first host adds to the flow run's labels for how long earlier
starts had their chips and since when the last one has them: what is between is no one's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .contract import (
    DEVICES_VARIABLE,
    Fault,
    candidates_object,
    claim_object,
    round_object,
    start_end_object,
    start_object,
    starts_prefix,
)
from .course import elapsed
from .stores import BucketStore, DirectoryStore

if TYPE_CHECKING:
    from .candidates import Launch

SINCE_LABEL = "kinetic.seconds.since"
"""When the last start of a run began, in seconds since 1970."""

USED_LABEL = "kinetic.seconds.used."
"""Beginning of the labels with for how long earlier starts had chips, by round and accelerator."""

SECONDS_AN_HOUR = 3600.0
FEW_HOURS = 0.1


class Launched(NamedTuple):
    """What a run's processes were started on.

    Attributes:
        accelerator: Its name; empty where the job does not say.
        round: Which round of a list it is; 0 where there is one accelerator.
    """

    accelerator: str
    round: int = 0

    @classmethod
    def of(cls, job: Mapping[str, Any], launch: Launch | None) -> Launched:
        """Return what a job's process was started on.

        Args:
            job: The job.
            launch: Which launch it is, of a run that may go on several accelerators.
        """
        if launch is not None:
            return cls(launch.accelerator, launch.round)
        # Jobs that cannot be started again do not say how they were started.
        return cls((job.get("launch") or {}).get("accelerator", ""))

    @property
    def used_label(self) -> str:
        """The label with for how long its chips were used."""
        return f"{USED_LABEL}{self.round}.{self.accelerator}"


class Starts:
    """The starts of a run on one host.

    Args:
        store: Where the marks of starts are.
        prefix: Where below `runs/`; see `contract.starts_prefix`.
        host: The host.
    """

    def __init__(self, store: DirectoryStore | BucketStore, prefix: str, host: int) -> None:
        self._store = store
        self._prefix = prefix
        self._host = host
        self._began = time.monotonic()

    def claim(self, settled: Callable[[int], int]) -> int:
        """Take the first number that no start of this run has taken.

        Args:
            settled: Returns the number that every host of the slice begins with.
        """
        record = {"started": time.time(), "python": sys.version.split()[0]}
        number, data = 0, json.dumps(record).encode()
        while not self._store.put_if_absent(self._object(number), data):
            number += 1
        newest = settled(number)
        for missed in range(number + 1, newest + 1):
            self._store.put_if_absent(self._object(missed), data)
        return newest

    def has_begun(self, number: int) -> bool:
        """Whether a start has begun here."""
        return self._store.read(self._object(number)) is not None

    def tell_end(self, number: int) -> None:
        """Leave when a start ended that was stopped from outside, on the first host."""
        if self._host:
            return
        try:
            data = json.dumps({"ended": time.time()}).encode()
            self._store.put_if_absent(start_end_object(self._prefix, number), data)
        except Fault:
            # Its time then counts until the next one begins.
            return

    def seconds_before(self, number: int, until: float | None = None) -> float:
        """Return for how long the starts before one had their host, as far as that was told.

        A start that left no end counts until the next one began.

        Args:
            number: The start.
            until: When the last of them had ended, in seconds since 1970; None for this moment.
        """
        began = [self._moment(self._object(each), "started") for each in range(number)]
        total, following = 0.0, time.time() if until is None else until
        for each in reversed(range(number)):
            since = began[each]
            if since is None:
                continue
            ended = self._moment(start_end_object(self._prefix, each), "ended") or following
            total += max(min(ended, following) - since, 0.0)
            following = since
        return total

    def seconds(self, until: float) -> float:
        """Return for how long all starts had their host that have begun here.

        Args:
            until: When the last of them had ended, in seconds since 1970.
        """
        number = 0
        while self.has_begun(number):
            number += 1
        return self.seconds_before(number, until)

    def labels(self, number: int, launched: Launched, run_id: str) -> dict[str, float | str]:
        """Return the labels of a run whose function is begun again.

        Args:
            number: The start that begins.
            launched: What it is on.
            run_id: The run.
        """
        used = dict(self._of_rounds(launched.round, run_id))
        if number:
            used[launched.used_label] = self.seconds_before(number)
        told = {label: round(seconds, 3) for label, seconds in used.items()}
        return {**told, SINCE_LABEL: round(time.time(), 3)}

    def _of_rounds(self, before: int, run_id: str) -> Iterator[tuple[str, float]]:
        """Return for how long the rounds before one had the accelerators that claimed them."""
        listed = self._read(candidates_object(run_id)).get("candidates") if before else None
        for number in range(before):
            candidate = self._read(claim_object(run_id, number)).get("candidate")
            began = self._moment(round_object(run_id, number + 1), "began")
            if listed is not None and candidate is not None and began is not None:
                starts = Starts(self._store, starts_prefix(run_id, number), self._host)
                launched = Launched(listed[candidate]["accelerator"], number)
                yield launched.used_label, starts.seconds(began)

    def on_page(
        self,
        number: int,
        job: Mapping[str, Any],
        environ: Mapping[str, str],
        more: Callable[[], str],
    ) -> str:
        """Return what the run's page says that it used, in Markdown: chips and their time first.

        Args:
            number: The start that ends.
            job: The job.
            environ: This process's environment.
            more: Returns what else there is to say.
        """
        seconds = self.seconds_before(number) + time.monotonic() - self._began
        chips = int(environ.get(DEVICES_VARIABLE, "").partition(":")[2] or 0) * job["hosts"]
        return "\n\n".join(each for each in (_chip_time(chips, seconds, job), more()) if each)

    def _object(self, number: int) -> str:
        return start_object(self._prefix, number, self._host)

    def _moment(self, name: str, field: str) -> float | None:
        try:
            return float(self._read(name)[field])
        except (ValueError, KeyError, TypeError):
            return None

    def _read(self, name: str) -> dict[str, Any]:
        """Return a mark; an empty one where there is none, or it cannot be read."""
        try:
            found = json.loads(self._store.read(name) or b"{}")
        except (ValueError, Fault):
            return {}
        return found if isinstance(found, dict) else {}


def _chip_time(chips: int, seconds: float, job: Mapping[str, Any]) -> str:
    if not chips:
        return ""
    hours = chips * seconds / SECONDS_AN_HOUR
    digits = 3 if hours < FEW_HOURS else 2
    counted = f"{chips} chip{'s' if chips > 1 else ''}"
    told = f"- {counted} for {elapsed(seconds)}: {hours:,.{digits}f} chip-hours"
    # Only a run with a limit is told what an hour costs.
    cost = job.get("cost")
    if not cost:
        return told
    usd = cost["hourly"] * seconds / SECONDS_AN_HOUR
    return f"{told}, about \\${usd:,.2f} (an estimate)"
