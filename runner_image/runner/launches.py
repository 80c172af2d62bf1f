"""Launches that Prefect workers start: each is a flow run of its own, shown below the run's.

A worker starts a flow run's process once, in one way. So a run that may go on several accelerators
has a flow run for each of their starts, with that accelerator's job variables; its process reports
to the run's own flow run as well, which people look at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .candidates import OUT_OF_MEMORY
from .prefect_api import TIMEOUT_SECONDS, ApiError, PrefectApi
from .rounds import DISTURBED, Seen

LAUNCH_FLOW = "kinetic-launch"
TERMINATED = "Terminated"
"""Name of the state of a launch that was stopped from outside; see `own_flow_run.py`."""

KEPT = ("kinetic.store", "kinetic.function")
"""Labels of a run that its launches have, too."""

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
KILLED = 137
"""Exit code of a container that was killed, as it is when its memory has run out."""

_GUESSED = re.compile(
    "No active or succeeded pods found for any job|Kubernetes job was deleted|"
    r"Flow run (?:infrastructure|process) exited with non-zero status code (?P<code>-?\d+)"
)
"""What workers write that know no more than that a process is over (Prefect 3.8.8)."""


class Planned(NamedTuple):
    """A launch as it is to be started.

    Attributes:
        key: What it is called: `r0c1`.
        name: Its flow run's name.
        job_variables: What its worker is told.
    """

    key: str
    name: str
    job_variables: Mapping[str, Any]


class Launches:
    """The flow runs of one run's launches.

    Args:
        api: Prefect, for the run.
        run_id: The run.
    """

    def __init__(self, api: PrefectApi, run_id: str) -> None:
        self._api = api
        self._run_id = run_id
        self._ids: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._over: dict[str, Seen] = {}
        self._cancelled: set[str] = set()
        self._where: Mapping[str, Any] | None = None

    def start(self, planned: Planned) -> None:
        """Create a launch's flow run for a worker to take; one that is there stays as it is.

        Raises:
            ApiError: Prefect does not answer.
        """
        try:
            self._ids[planned.key] = self._created(planned)
        except ApiError as error:
            if not error.is_final:
                raise
            self._refused[planned.key] = f"its flow run could not be created: {error}"

    def recall(self, keys: list[str]) -> None:
        """Find those of some launches that an earlier start of this process has created.

        Raises:
            ApiError: Prefect does not answer.
        """
        named = {f"{self._run_id}-{key}": key for key in keys if key not in self._ids}
        if not named:
            return
        which = {"flow_runs": {"idempotency_key": {"any_": sorted(named)}}}
        for each in self._api.create("flow_runs/filter", which, TIMEOUT_SECONDS):
            self._ids[named[each["idempotency_key"]]] = str(each["id"])

    def is_started(self, key: str) -> bool:
        """Whether a launch has a flow run, or can have none."""
        return key in self._ids or key in self._refused

    def see(self, key: str) -> Seen:
        """Return what Prefect knows of a launch.

        Raises:
            ApiError: It does not answer.
        """
        if key in self._refused:
            return Seen(is_final=True, message=self._refused[key])
        if key not in self._over:
            # Created, and taken, although the answer that said so was lost.
            self.recall([key])
            known = self._ids.get(key)
            seen = seen_of(self._api.read_state_of(known, TIMEOUT_SECONDS) if known else None)
            if not seen.is_final:
                return seen
            self._over[key] = seen
        return self._over[key]

    def cancel(self, key: str, why: str) -> None:
        """Have a launch not begin, and end its process if it has one.

        Workers look for what is to be cancelled of that which they have started. A process that
        starts all the same calls nothing, and says that it has ended.

        Args:
            key: The launch.
            why: What its flow run says.

        Raises:
            ApiError: Prefect does not answer.
        """
        if key in self._cancelled or self.see(key).is_final:
            return
        kind = self._api.state_of(self._ids[key], TIMEOUT_SECONDS)
        asked = "CANCELLED" if kind == "SCHEDULED" else "CANCELLING"
        self._api.set_state_of(self._ids[key], asked, asked.title(), why, TIMEOUT_SECONDS)
        self._cancelled.add(key)

    def _created(self, planned: Planned) -> str:
        where = self._where = self._where or self._own_place()
        flow = self._api.create("flows/", {"name": LAUNCH_FLOW}, TIMEOUT_SECONDS)
        shown_under = self._api.create(
            "task_runs/",
            {
                "flow_run_id": self._run_id,
                "task_key": LAUNCH_FLOW,
                "dynamic_key": planned.key,
                "name": planned.name,
                "state": {"type": "PENDING", "name": "Pending"},
            },
            TIMEOUT_SECONDS,
        )
        body = {
            "flow_id": flow["id"],
            "name": planned.name,
            "idempotency_key": f"{self._run_id}-{planned.key}",
            "parent_task_run_id": shown_under["id"],
            "state": {"type": "SCHEDULED", "name": "Scheduled"},
            "job_variables": dict(planned.job_variables),
            **where,
        }
        return str(self._api.create("flow_runs/", body, TIMEOUT_SECONDS)["id"])

    def _own_place(self) -> dict[str, Any]:
        """Return the run's work pool, and its work queue unless that bounds how many go on.

        This process holds one of its places for as long as the run goes on.
        """
        from urllib.parse import quote

        run = self._api.read_flow_run(TIMEOUT_SECONDS)
        labels = {name: value for name, value in (run.get("labels") or {}).items() if name in KEPT}
        pool, queue = run.get("work_pool_name"), run.get("work_queue_name")
        place = {"work_pool_name": pool, "labels": labels}
        path = f"work_pools/{quote(str(pool))}"
        if self._limit(path) in (0, 1):
            # No worker would ever take a launch while this process has the only place.
            how = f"kinetic prefect work-pool set-concurrency-limit {pool} 2"
            message = f"work pool {pool!r} lets one flow run go on at a time, which is what drives "
            raise ApiError(f"{message}the run; have it let at least two: `{how}`", is_final=True)
        if queue and self._limit(f"{path}/queues/{quote(str(queue))}") is None:
            place["work_queue_name"] = queue
        return place

    def _limit(self, path: str) -> int | None:
        """Return how many flow runs a work pool or a work queue lets go on at a time."""
        limit: int | None = self._api.get(path, TIMEOUT_SECONDS).get("concurrency_limit")
        return limit


def seen_of(state: Mapping[str, Any] | None) -> Seen:
    """Return what a flow run's state says of its launch; None for one that is not there."""
    if state is None:
        return Seen(is_final=True, message="its flow run was deleted")
    kind, message = state.get("type"), str(state.get("message") or "")
    if kind not in FINAL:
        return Seen(message="no worker has taken it yet" if kind == "SCHEDULED" else "")
    cause = _cause(state, message) if kind == "CRASHED" else ""
    return Seen(True, kind == "COMPLETED", cause, message or f"it is {str(kind).lower()}")


def _cause(state: Mapping[str, Any], message: str) -> str:
    """Return why a launch has crashed, where that is not the run's doing."""
    if state.get("name") == TERMINATED:
        return DISTURBED
    guessed = _GUESSED.match(message)
    if guessed is None:
        return ""
    return OUT_OF_MEMORY if guessed["code"] in (str(KILLED), "-9") else DISTURBED
