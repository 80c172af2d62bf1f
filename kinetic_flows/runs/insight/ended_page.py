"""What a client puts on a run's page once the run has ended and the client settles its state.

Where the run's own runner reaches the Prefect API it has put in what it knows itself, by
`runner_image/runner/run_page.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.artifacts import RunArtifacts
from kinetic_flows.clients.prefect.flow_names import RUN_ARTIFACT
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.run_page import with_sections
from kinetic_flows.runs.insight.chip_time import chip_time
from kinetic_flows.runs.insight.ended_run import EndedRun, SectionMaker
from kinetic_flows.runs.insight.ended_why import why_it_ended
from kinetic_flows.runs.insight.how_it_went import how_it_went
from kinetic_flows.runs.insight.metrics import what_it_used

TRIES = 3
"""How often sections are put in that another writer has overwritten meanwhile."""


MAKERS: tuple[SectionMaker, ...] = (why_it_ended, chip_time, what_it_used)
"""Who has something to say on the page of a run that has ended; of one section, in this order."""


def publish_end(ended: EndedRun) -> None:
    """Put on a run's page what is known of its end; the page stays as it was where that fails.

    Args:
        ended: The run.
    """
    sections: dict[str, str] = {}
    for make in MAKERS:
        for heading, text in _made(make, ended).items():
            sections[heading] = f"{sections.get(heading, '')}\n\n{text}".strip()
    has_returned = ended.header is not None and ended.header.status == "returned"
    if has_returned and not sections:
        # It was short, and its state says it all.
        return
    sections = {**_made(how_it_went, ended), **sections}
    with suppress(KineticError):
        insert_sections(ended.api, ended.run.run_id, sections)


def publish_why(ended: EndedRun) -> None:
    """Put on the page of a run, whose runner has told of its end, what its cluster adds to that.

    Args:
        ended: The run.
    """
    with suppress(KineticError):
        insert_sections(ended.api, ended.run.run_id, why_it_ended(ended))


def _made(make: SectionMaker, ended: EndedRun) -> Mapping[str, str]:
    """Return what somebody has to say; nothing where the store or the cluster cannot be asked."""
    with suppress(KineticError):
        return make(ended)
    return {}


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
