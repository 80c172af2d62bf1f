"""What the runs of a sweep have cost by now, for one that may cost so much."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from kinetic_flows.clients.prefect.api import RunQuery, RunRecord
from kinetic_flows.core.accelerators.prices import price_of
from kinetic_flows.core.errors import PrefectServerError
from kinetic_flows.core.money import dollars
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.usage import SECONDS_AN_HOUR, usage_of

LEAST_SECONDS, MOST_SECONDS = 1.0, 30.0
"""Between two looks at what goes on."""

AT_A_TIME = 100


class SweepCost:
    """Counts what the runs of a sweep cost.

    Args:
        limit: What they may cost, in US dollars.
        hourly: What an hour of one of them costs, of the dearest accelerator of a list.
        session: Where they run and report.
        clock: Tells seconds that only increase.
    """

    def __init__(
        self,
        limit: float,
        hourly: float,
        session: Session,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._hourly = limit, hourly
        self._session, self._clock = session, clock
        self._ended: dict[str, float] = {}
        self._next_look = clock() + LEAST_SECONDS
        self.words = ""
        """That they have cost enough; empty as long as that is not so."""

    def ended(self, record: RunRecord) -> None:
        """Take what a run has cost that has ended.

        Args:
            record: Its flow run.
        """
        self._ended[record.id] = self._of(record)

    def over(self, going_on: Sequence[str]) -> str:
        """Return that the runs have cost enough; empty as long as that is not so, or not known.

        Args:
            going_on: The runs that have not ended.
        """
        if not self.words and self._clock() >= self._next_look:
            self._look(going_on)
        return self.words

    def _look(self, going_on: Sequence[str]) -> None:
        spent = sum(self._ended.values())
        try:
            for ids in _batches(going_on):
                found = self._session.api.find_runs(RunQuery(ids=ids))
                spent += sum(self._of(record) for record in found)
        except PrefectServerError as error:
            # What goes on is not known for a while; how it ends will be.
            self._session.api_availability.failed(error)
        if spent >= self._limit:
            self.words = (
                f"the sweep has cost about {dollars(spent)} by the prices that are known, "
                f"and max_cost is {dollars(self._limit)}"
            )
        rate = self._hourly * max(len(going_on), 1) / SECONDS_AN_HOUR
        # Half of the way to the earliest moment at which it could be over.
        pause = (self._limit - spent) / rate / 2 if rate else MOST_SECONDS
        self._next_look = self._clock() + min(max(pause, LEAST_SECONDS), MOST_SECONDS)

    def _of(self, record: RunRecord) -> float:
        return usage_of(record, self._session.settings.own_prices).usd or 0.0


def counting(limit: float, draft: Draft, session: Session) -> SweepCost | None:
    """Return what counts what the runs of a sweep cost; None on a machine that costs nothing.

    Args:
        limit: What they may cost, in US dollars.
        draft: A call of the function.
        session: Where they run and report.
    """
    own, is_here = session.settings.own_prices, session.platform.sees_files
    accelerators = draft.candidates or (draft.accelerator,)
    prices = [price_of(each, own, is_here=is_here) for each in accelerators]
    known = [each.hourly for each in prices if each is not None]
    return SweepCost(limit, max(known), session) if known else None


def _batches(ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for position in range(0, len(ids), AT_A_TIME):
        yield tuple(ids[position : position + AT_A_TIME])
