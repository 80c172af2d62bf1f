"""A run that has ended, as those know it who have something to say on its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core.envelope import ResultHeader
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation
from kinetic_flows.platforms.base import Platform


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """A run whose end a client has told Prefect of.

    Attributes:
        run: The run.
        platform: Where it ran.
        api: Where its state is kept.
        header: Its result's header; None where it left none.
        seen: Its process, as it was last seen.
    """

    run: RunTicket
    platform: Platform
    api: PrefectApi
    header: ResultHeader | None
    seen: Observation


SectionMaker = Callable[[EndedRun], Mapping[str, str]]
"""Returns Markdown by heading, one of `core.run_page.SECTIONS`; empty where it knows nothing."""
