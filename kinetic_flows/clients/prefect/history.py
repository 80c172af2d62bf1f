"""How long earlier runs of a function took, and earlier builds of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.api import PrefectApi, connect
from kinetic_flows.clients.prefect.errors import translated
from kinetic_flows.clients.prefect.flow_names import TASK_BUILD_IMAGE
from kinetic_flows.clients.prefect.labels import ACCELERATOR_LABEL
from kinetic_flows.clients.prefect.records import RunQuery, RunRecord
from kinetic_flows.clients.prefect.timings import timings_of

LOOK_BACK = 10
"""How many of the last runs, and of the last builds, are looked at."""

BRIEF_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Took:
    """How long something took that ended well.

    Attributes:
        seconds: From its start to its end.
        ended: When it ended.
        phases: How long each phase of it took, of a run, by the names of `timings.PHASES`.
    """

    seconds: float
    ended: datetime
    phases: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def briefly(api_url: str) -> Iterator[PrefectApi]:
    """Connect to an API for questions that matter little: asked once, and not waited for long."""
    limits = {
        sdk.settings.PREFECT_CLIENT_MAX_RETRIES: 0,
        sdk.settings.PREFECT_API_REQUEST_TIMEOUT: BRIEF_SECONDS,
    }
    with sdk.settings.temporary_settings(limits), connect(api_url) as api:
        yield api


class RunHistory:
    """Earlier runs and builds, as a Prefect API has them.

    Args:
        api: The API.
    """

    def __init__(self, api: PrefectApi) -> None:
        self.url = api.url
        self._api = api

    def runs(self, function: str, accelerator: str) -> tuple[Took, ...]:
        """Return the last completed runs of a function on an accelerator, newest first.

        Args:
            function: The name of its runs.
            accelerator: The accelerator's canonical name.
        """
        query = RunQuery(flow=function, state_name="Completed", tag=accelerator)
        return tuple(
            Took(
                seconds=(run.ended - run.started).total_seconds(),
                ended=run.ended,
                phases=timings_of(run),
            )
            for run in self._api.find_runs(query, limit=LOOK_BACK)
            if run.started and run.ended and _ran_on(run, accelerator)
        )

    @translated
    def builds(self) -> tuple[Took, ...]:
        """Return the last images that were built, whoever's, newest first."""
        wanted = {
            "name": {"any_": [TASK_BUILD_IMAGE]},
            "state": {"name": {"any_": ["Completed"]}},
        }
        found = self._api.client.read_task_runs(
            task_run_filter=sdk.filters.TaskRunFilter.model_validate(wanted),
            sort=sdk.sorting.TaskRunSort.END_TIME_DESC,
            limit=LOOK_BACK,
        )
        return tuple(
            Took(seconds=run.total_run_time.total_seconds(), ended=run.end_time)
            for run in found
            if run.end_time
        )


def _ran_on(run: RunRecord, accelerator: str) -> bool:
    """Whether a run was on an accelerator: the tags of one with a list name all of it."""
    return bool(run.labels.get(ACCELERATOR_LABEL, accelerator) == accelerator)
