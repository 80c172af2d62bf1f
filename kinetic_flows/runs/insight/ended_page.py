"""What a client puts on a run's page once the run has ended and the client settles its state.

Where the run's own runner reaches the Prefect API it has put in what it knows itself, by
`runner_image/runner/run_page.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.artifacts import RunArtifacts
from kinetic_flows.clients.prefect.flow_names import RUN_ARTIFACT
from kinetic_flows.core.envelope import ResultHeader
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation
from kinetic_flows.core.run_page import with_sections
from kinetic_flows.platforms.base import Platform

TRIES = 3
"""How often sections are put in that another writer has overwritten meanwhile."""


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

MAKERS: tuple[SectionMaker, ...] = ()
"""Who has something to say on the page of a run that has ended; of one section, the last wins."""


def publish_end(ended: EndedRun) -> None:
    """Put on a run's page what is known of its end; the page stays as it was where that fails.

    Args:
        ended: The run.
    """
    sections: dict[str, str] = {}
    for make in MAKERS:
        with suppress(KineticError):
            sections |= make(ended)
    if sections:
        with suppress(KineticError):
            insert_sections(ended.api, ended.run.run_id, sections)


def insert_sections(api: PrefectApi, run_id: str, sections: Mapping[str, str]) -> None:
    """Put sections on a run's page; done again, this changes nothing.

    Args:
        api: Where the page is kept.
        run_id: The flow run.
        sections: Markdown by heading.

    Raises:
        PrefectServerError: Prefect refuses, or does not answer.
    """
    artifacts = RunArtifacts(api)
    for _ in range(TRIES):
        found = artifacts.read_markdown(run_id, RUN_ARTIFACT)
        if found is None:
            api.publish_markdown(run_id, RUN_ARTIFACT, with_sections("", sections))
            return
        page = with_sections(found.text, sections)
        if page == found.text:
            return
        artifacts.replace_markdown(found.id, page)
