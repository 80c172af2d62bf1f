"""The run that was started last, on a server where other tests have left schedules."""

from __future__ import annotations

from datetime import UTC, datetime

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.records import RunQuery, RunRecord


def newest_runs(api: PrefectApi) -> list[RunRecord]:
    """Return the newest run, if there is any; those that schedules have made for later are none."""
    return api.find_runs(RunQuery(until=datetime.now(UTC)), limit=1)


def newest_run(api: PrefectApi) -> RunRecord:
    """Return the newest run; those that schedules have made for later are none."""
    return newest_runs(api)[0]
