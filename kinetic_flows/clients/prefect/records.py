"""Flow runs and queries for them, as plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.prefect.labels import FUNCTION_LABEL, RUN_TAG
from kinetic_flows.core.errors import UsageError, suggest
from kinetic_flows.core.functions import FlowRetries

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, Log
    from prefect.client.schemas.responses import DeploymentResponse

FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})

_GUESSES = re.compile(
    "No active or succeeded pods found for any job|Kubernetes job was deleted|"
    "Flow run infrastructure exited with non-zero status code"
)
"""What workers write that watch Jobs (`prefect_kubernetes.observer` 0.8.0, Prefect 3.8.8)."""

_MADE_UP = re.compile("[a-z]+(-[a-z]+)+")
"""What Prefect names runs that nobody has named (`prefect.utilities.names`, 3.8.8)."""

STATE_TYPES = (
    "scheduled",
    "pending",
    "running",
    "completed",
    "failed",
    "cancelled",
    "crashed",
    "paused",
    "cancelling",
)
"""Prefect's state types (https://docs.prefect.io/v3/concepts/states), as people write them."""

STATE_NAMES = {"retrying": "Retrying", "timedout": "TimedOut", "cached": "Cached"}
"""States with a name of their own that runs can be in, by how people write them."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One flow run, as Prefect has it.

    Attributes:
        id: The flow run's id.
        name: Its name in the UI.
        state_type: Prefect's state type, such as `RUNNING`.
        state_name: The state's name, such as `Retrying`.
        message: The state's message; empty when there is none.
        created: When it was created.
        tags: Its tags.
        labels: Its labels, its deployment's included.
        job_variables: What its infrastructure was given, by its deployment too.
        parameters: Its parameters, as Prefect shows them.
        started: When it began to run; None before.
        ended: When it ended; None before.
        parent_task_run_id: The placeholder in its parent flow run; None without a parent.
        flow_id: The flow it belongs to.
        deployment_id: The deployment it is a run of; None for none.
        work_pool: The work pool it waits in or was taken from; None for none.
        state_since: When it came into its state; None when it has none.
        expected: When it was to begin, as Prefect orders runs.
    """

    id: str
    name: str
    state_type: str
    state_name: str
    message: str
    created: datetime
    tags: tuple[str, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None
    parent_task_run_id: str | None = None
    flow_id: str | None = None
    deployment_id: str | None = None
    work_pool: str | None = None
    state_since: datetime | None = None
    expected: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.state_type in FINAL_STATES

    @property
    def function(self) -> str:
        """The function's name; empty for runs of earlier versions, which do not have it."""
        return str(self.labels.get(FUNCTION_LABEL) or "")

    @property
    def shown_name(self) -> str:
        """The run's name, or its function's where Prefect has made one up, as for a schedule."""
        is_made_up = self.deployment_id and _MADE_UP.fullmatch(self.name)
        return self.function if is_made_up and self.function else self.name

    @property
    def is_guessed(self) -> bool:
        """Whether a Prefect worker has ended it, knowing no more than that its Job was over."""
        return self.state_type == "CRASHED" and bool(_GUESSES.match(self.message))


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line that a run logged.

    Attributes:
        id: The line's id.
        logger: Who logged it; `kinetic` is the run itself.
        timestamp: When.
        level: Python's logging level.
        message: What.
    """

    id: str
    logger: str
    timestamp: datetime
    level: int
    message: str


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A flow run to create.

    Attributes:
        flow: Name of the flow it belongs to: the function's.
        name: The run's own name; None lets Prefect choose.
        parent_flow_run_id: The flow run it is shown under; None for none.
        is_folded: Whether it is hidden with subflows though it has no parent.
        parameters: Shortened representations of the arguments.
        tags: Tags of the run.
        labels: Labels of the run.
        job_variables: What its infrastructure is given.
        work_pool: Name of its work pool; None where there is none.
        work_queue: Name of its work queue there, whose workers are to start it; None for the
            work pool's default, and where no worker is asked.
        state_type: Type of its first state.
        state_name: Name of its first state.
        message: What the UI shows beside it; empty for Pending's own.
        retries: How often Prefect's engine runs it again, for functions that are flows.
    """

    flow: str
    name: str | None
    parent_flow_run_id: str | None
    parameters: Mapping[str, Any]
    tags: tuple[str, ...]
    labels: Mapping[str, str | int | float]
    job_variables: Mapping[str, Any]
    work_pool: str | None = None
    work_queue: str | None = None
    state_type: str = "PENDING"
    state_name: str = "Pending"
    message: str = ""
    retries: FlowRetries = field(default_factory=FlowRetries)
    is_folded: bool = False


@dataclass(frozen=True, kw_only=True)
class RunQuery:
    """Which runs of remote functions to find.

    Attributes:
        state_types: State types to include; empty for all.
        state_name: Only runs in the state of this name; None for any.
        name: Part of the run's name; None for any.
        function: Part of its function's name; None for any.
        of_function: All of its function's name; None for any.
        since: Only runs created later; None for any time.
        until: Only runs that begin, or were to begin, earlier; None for any time.
        ended_since: Only runs that ended later; None for those that have not ended, too.
        parent: Only runs below this flow run; None for any.
        ids: Only runs of these ids; None for any.
        flow: Runs of this flow of ours, in place of runs of remote functions; None for those.
        tag: Only runs with this further tag; None for any.
        tags: Only runs with all of these tags, too.
        deployment: Only runs of this deployment; None for any.
    """

    state_types: tuple[str, ...] = ()
    state_name: str | None = None
    name: str | None = None
    function: str | None = None
    of_function: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ended_since: datetime | None = None
    parent: str | None = None
    ids: tuple[str, ...] | None = None
    flow: str | None = None
    tag: str | None = None
    tags: tuple[str, ...] = ()
    deployment: str | None = None

    def to_flow_filter(self) -> dict[str, Any] | None:
        """Return the part of the query that is Prefect's flow filter; None for none."""
        exact = self.flow or self.of_function
        if exact:
            return {"name": {"any_": [exact]}}
        return {"name": {"like_": self.function}} if self.function else None

    def to_filter(self) -> dict[str, Any]:
        """Return the query as Prefect's flow run filter."""
        tags = [tag for tag in (None if self.flow else RUN_TAG, self.tag, *self.tags) if tag]
        wanted: dict[str, Any] = {"tags": {"all_": tags}} if tags else {}
        if self.state_types:
            wanted["state"] = {"type": {"any_": list(self.state_types)}}
        if self.state_name:
            wanted["state"] = {"name": {"any_": [self.state_name]}}
        if self.name:
            wanted["name"] = {"like_": self.name}
        bounds = {"after_": self.since, "before_": self.until}
        given = {name: moment.isoformat() for name, moment in bounds.items() if moment}
        if given:
            wanted["expected_start_time"] = given
        if self.ended_since:
            wanted["end_time"] = {"after_": self.ended_since.isoformat()}
        if self.parent:
            wanted["parent_flow_run_id"] = {"any_": [self.parent]}
        if self.ids is not None:
            wanted["id"] = {"any_": list(self.ids)}
        if self.deployment:
            wanted["deployment_id"] = {"any_": [self.deployment]}
        return wanted


def query_of_state(state: str | None) -> RunQuery:
    """Return the query for a state as people write it, such as `running` or `TimedOut`.

    Raises:
        UsageError: There is no such state.
    """
    if state is None:
        return RunQuery()
    word = state.strip().lower()
    if word in STATE_TYPES:
        return RunQuery(state_types=(word.upper(),))
    if word in STATE_NAMES:
        return RunQuery(state_name=STATE_NAMES[word])
    raise UsageError(
        f"runs have no state {state!r}",
        value=state,
        hint=suggest(word, (*STATE_TYPES, *STATE_NAMES)),
    )


def environment_of(job_variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables among what a run's infrastructure is given, however they are written.

    Work pools of other kinds, and other people's runs, may have them as Kubernetes does.
    """
    env = job_variables.get("env")
    if isinstance(env, Mapping):
        return dict(env)
    entries = [each for each in env if isinstance(each, Mapping)] if isinstance(env, list) else []
    return {str(each["name"]): each.get("value") for each in entries if "name" in each}


def with_deployment(record: RunRecord, deployment: DeploymentResponse | None) -> RunRecord:
    """Add to a run what its deployment says of all its runs; None when that was deleted."""
    if deployment is None:
        return record
    given = deployment.job_variables or {}
    env = {**environment_of(given), **environment_of(record.job_variables)}
    return replace(
        record,
        labels={**deployment.labels, **record.labels},
        job_variables={**given, **record.job_variables, "env": env},
    )


def record_of(run: FlowRun) -> RunRecord:
    """Return what Prefect's client knows of a flow run as a plain value."""
    state = run.state
    return RunRecord(
        id=str(run.id),
        name=run.name,
        state_type=state.type.value if state else "PENDING",
        state_name=(state.name or "") if state else "Pending",
        message=(state.message or "") if state else "",
        created=run.created or run.expected_start_time or datetime.min.replace(tzinfo=UTC),
        tags=tuple(run.tags),
        labels=dict(run.labels),
        job_variables=dict(run.job_variables or {}),
        parameters=dict(run.parameters),
        started=run.start_time,
        expected=run.expected_start_time,
        ended=run.end_time,
        parent_task_run_id=str(run.parent_task_run_id) if run.parent_task_run_id else None,
        flow_id=str(run.flow_id),
        deployment_id=str(run.deployment_id) if run.deployment_id else None,
        work_pool=run.work_pool_name,
        state_since=state.timestamp if state else None,
    )


def log_line_of(log: Log) -> LogLine:
    """Return a log entry of Prefect's client as a plain value."""
    return LogLine(
        id=str(log.id),
        logger=log.name,
        timestamp=log.timestamp,
        level=log.level,
        message=log.message,
    )
