"""For how long a run had its chips, on its page where its runner could not say so."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.core.run_page import WHAT_IT_USED
from kinetic_flows.runs.insight.ended_run import EndedRun
from kinetic_flows.runs.usage import usage_of
from kinetic_flows.runs.usage_words import usage_rows


def chip_time(ended: EndedRun) -> Mapping[str, str]:
    """Return what a run's page says of its chips; empty for a run that had none, or returned.

    Most runs that return are short, and nothing more is asked of Prefect for them.

    Args:
        ended: The run.

    Raises:
        PrefectServerError: Prefect does not answer.
    """
    if ended.header is not None and ended.header.status == "returned":
        return {}
    usage = usage_of(ended.api.read_run(ended.run.run_id), {})
    told = dict(usage_rows(usage)).get("chips")
    return {WHAT_IT_USED: f"- chips: {told}"} if told else {}
