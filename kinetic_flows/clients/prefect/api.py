"""Prefect's API as this library needs it: runs, their states and their logs.

Prefect is imported when a connection is made, not before: its import takes seconds.
"""

from __future__ import annotations

import json
import logging
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.access import api_settings
from kinetic_flows.clients.prefect.errors import translated
from kinetic_flows.clients.prefect.internals import early_retries, send_events_to
from kinetic_flows.clients.prefect.labels import CLIENT_LOGGER
from kinetic_flows.clients.prefect.records import (
    FINAL_STATES,
    LogLine,
    NewRun,
    RunQuery,
    RunRecord,
    log_line_of,
    record_of,
    with_deployment,
)
from kinetic_flows.clients.prefect.server_access import access_to
from kinetic_flows.core.streams import LogEntry, entries_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

__all__ = ["LogLine", "NewRun", "PrefectApi", "RunQuery", "RunRecord", "connect"]

PAGE_SIZE = 200


class PrefectApi:
    """A connection to one Prefect API.

    Args:
        client: An open client of Prefect's, for the other modules of this package.
        url: The API's URL.
        ui_url: Where its UI is; None when unknown.
    """

    def __init__(self, client: SyncPrefectClient, url: str, ui_url: str | None) -> None:
        self.client = client
        self._flow_ids: dict[str, str] = {}
        self._deployments: dict[UUID, DeploymentResponse | None] = {}
        self.url = url
        self.ui_url = ui_url

    def run_url(self, run_id: str) -> str:
        """Return where a browser shows a run; the API's URL of it when there is no UI."""
        if self.ui_url:
            return f"{self.ui_url.rstrip('/')}/runs/flow-run/{run_id}"
        return f"{self.url}/flow_runs/{run_id}"

    @translated
    def create_run(self, new: NewRun) -> str:
        """Create a Pending flow run, shown under its parent, and return its id.

        This is one request, one more for a parent, and one for the first run of a flow.
        """
        is_subflow = new.parent_flow_run_id or new.is_folded
        placeholder = self._create_placeholder(new) if is_subflow else None
        body = {
            "flow_id": self.flow_id(new.flow),
            "flow_version": "1",
            "name": new.name,
            "parameters": dict(new.parameters),
            "tags": list(new.tags),
            "labels": dict(new.labels),
            "parent_task_run_id": placeholder and str(placeholder),
            "state": {
                "type": new.state_type,
                "name": new.state_name,
                "message": new.message or "waiting to be launched",
            },
            "empirical_policy": {
                "retries": new.retries.count,
                "retry_delay": int(new.retries.delay_seconds),
            },
            "work_pool_name": new.work_pool,
            "work_queue_name": new.work_queue,
            "job_variables": dict(new.job_variables),
        }
        # Prefect's own method asks for the flow each time and takes no labels (3.8.8).
        sent = {name: value for name, value in body.items() if value is not None}
        created: dict[str, Any] = self.client.request("POST", "/flow_runs/", json=sent).json()
        return str(created["id"])

    def flow_id(self, name: str) -> str:
        """Return the id of a flow, which is made if it has to be."""
        if name not in self._flow_ids:
            self._flow_ids[name] = str(self.client.create_flow_from_name(name))
        return self._flow_ids[name]

    def _create_placeholder(self, new: NewRun) -> UUID:
        """Create the task run by which Prefect shows a flow run under its parent."""
        task: sdk.prefect.Task[..., None] = sdk.prefect.Task(
            _nothing, name=new.flow, version="1", retries=0, retry_delay_seconds=0
        )
        run = self.client.create_task_run(
            task,
            flow_run_id=UUID(new.parent_flow_run_id) if new.parent_flow_run_id else None,
            dynamic_key=uuid4().hex,
            name=new.name or new.flow,
        )
        return run.id

    @translated
    def publish_markdown(
        self, run_id: str, key: str, markdown: str, *, description: str | None = None
    ) -> None:
        """Show a Markdown text among a run's artifacts.

        Args:
            run_id: The flow run.
            key: What the artifact is called.
            markdown: The text.
            description: Markdown that is shown with its key; None for none.
        """
        artifact = sdk.actions.ArtifactCreate(
            key=key,
            type="markdown",
            data=markdown,
            description=description,
            flow_run_id=UUID(run_id),
        )
        self.client.create_artifact(artifact)

    @translated
    def publish_table(
        self, run_id: str, key: str, *, table: list[dict[str, Any]], description: str
    ) -> None:
        """Show a table among a run's artifacts.

        Args:
            run_id: The flow run.
            key: What the artifact is called.
            table: The rows, with the columns' names.
            description: Markdown above it.
        """
        artifact = sdk.actions.ArtifactCreate(
            key=key,
            type="table",
            data=json.dumps(table),
            description=description,
            flow_run_id=UUID(run_id),
        )
        self.client.create_artifact(artifact)

    @translated
    def add_labels(self, run_id: str, labels: Mapping[str, str | int | float]) -> None:
        """Give a run further labels; those of the same names are replaced."""
        self.client.update_flow_run_labels(UUID(run_id), dict(labels))

    @translated
    def set_tags(self, run_id: str, tags: Iterable[str]) -> None:
        """Give a run these tags, in place of those it has."""
        self.client.update_flow_run(UUID(run_id), tags=list(tags))

    @translated
    def read_run(self, run_id: str) -> RunRecord:
        """Return what is known of a run.

        Raises:
            RunNotFoundError: No flow run has this id.
        """
        return self._record(self.client.read_flow_run(UUID(run_id)))

    @translated
    def set_state(
        self, run_id: str, state_type: str, *, name: str | None = None, message: str = ""
    ) -> bool:
        """Set a run's state; a final state is never overwritten but for a worker's guess.

        Args:
            run_id: The flow run.
            state_type: Prefect's state type, such as `CRASHED`.
            name: The state's name; None for the type's own.
            message: What the UI shows beside it.

        Returns:
            Whether it was set.
        """
        kind = sdk.objects.StateType(state_type)
        state: sdk.objects.State[Any] = sdk.objects.State(
            type=kind, name=name, message=message or None
        )
        record, is_final = self.read_run(run_id), state_type in FINAL_STATES
        if record.is_final and not (is_final and record.is_guessed):
            return False
        self.client.set_flow_run_state(run_id, state, force=is_final)
        return True

    @translated
    def find_runs(
        self, query: RunQuery | None = None, *, limit: int | None = None
    ) -> list[RunRecord]:
        """Return runs of remote functions, newest first.

        Args:
            query: Which runs; None for all.
            limit: How many at most; None for all.
        """
        return list(islice(self._pages(query or RunQuery(), limit), limit))

    def _pages(self, query: RunQuery, limit: int | None) -> Iterator[RunRecord]:
        flow = query.to_flow_filter()
        wanted = sdk.filters.FlowRunFilter.model_validate(query.to_filter())
        size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit)
        offset = 0
        while size:
            page = self.client.read_flow_runs(
                flow_filter=sdk.filters.FlowFilter.model_validate(flow) if flow else None,
                flow_run_filter=wanted,
                sort=sdk.sorting.FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=size,
                offset=offset,
            )
            yield from map(self._record, page)
            offset += len(page)
            if len(page) < size:
                return

    @translated
    def log(
        self,
        run_id: str,
        *lines: str | LogEntry,
        level: int = logging.INFO,
        at: datetime | None = None,
    ) -> None:
        """Write lines into a run's log.

        Args:
            run_id: The flow run.
            *lines: The lines, in order: a client's own, or entries of the run itself.
            level: Level of the client's own, as `logging` has it.
            at: When the first of them was read; None for now.
        """
        at = at or datetime.now(UTC)
        self.client.create_logs(
            {
                "name": entry.logger,
                "level": entry.level,
                "message": entry.text,
                # Prefect orders lines by their time.
                "timestamp": (at + timedelta(microseconds=number)).isoformat(),
                "flow_run_id": run_id,
            }
            for number, entry in enumerate(entries_of(lines, CLIENT_LOGGER, level))
        )

    def _record(self, run: FlowRun) -> RunRecord:
        """Describe a flow run; its deployment is read once for all its runs."""
        record, deployment_id = record_of(run), run.deployment_id
        if deployment_id is None:
            return record
        if deployment_id not in self._deployments:
            try:
                self._deployments[deployment_id] = self.client.read_deployment(deployment_id)
            except sdk.exceptions.ObjectNotFound:
                self._deployments[deployment_id] = None
        return with_deployment(record, self._deployments[deployment_id])

    @translated
    def schedule(self, run_id: str) -> None:
        """Hand a run over to the workers of its work pool."""
        self.client.set_flow_run_state(UUID(run_id), sdk.states.Scheduled(), force=True)

    @translated
    def logs(self, run_id: str, offset: int = 0) -> list[LogLine]:
        """Return a run's log lines, oldest first, from an offset on."""
        wanted = sdk.filters.LogFilter.model_validate({"flow_run_id": {"any_": [run_id]}})
        lines: list[LogLine] = []
        while True:
            page = self.client.read_logs(
                log_filter=wanted,
                sort=sdk.sorting.LogSort.TIMESTAMP_ASC,
                limit=PAGE_SIZE,
                offset=offset + len(lines),
            )
            lines += [log_line_of(log) for log in page]
            if len(page) < PAGE_SIZE:
                return lines


def _nothing() -> None:
    """Stand in for a function that runs elsewhere; Prefect only wants its name."""


@contextmanager
def connect(api_url: str) -> Iterator[PrefectApi]:
    """Make a Prefect API current for this thread, and yield a connection to it.

    Args:
        api_url: The API to use, with the credentials of `api_settings`.
    """
    connection = PrefectConnection(api_url)
    try:
        with connection.current() as api:
            yield api
    finally:
        connection.close()


class PrefectConnection:
    """A connection to a Prefect API that is open until nobody holds it any more.

    Args:
        api_url: The API, with the credentials of `api_settings`.
    """

    def __init__(self, api_url: str) -> None:
        self._url = api_url
        self._auth_string = access_to(api_url)
        self._outer = sdk.context.get_settings_context()
        # What Prefect makes of its settings takes it a tenth of a second and more.
        with sdk.settings.temporary_settings(api_settings(api_url)) as self._settings:
            client = sdk.prefect.get_client(sync_client=True, httpx_settings=early_retries())
        self.close = weakref.finalize(self, _close, client.__enter__(), os.getpid())
        """Close it at once."""
        self._client = client

    def is_to(self, api_url: str) -> bool:
        """Whether it is one to an API, with the credentials and settings that are in force now."""
        is_same = (api_url, access_to(api_url)) == (self._url, self._auth_string)
        # Closed already where a program's own `atexit` hook asks, which runs after ours.
        is_same = is_same and self.close.alive
        return is_same and sdk.context.get_settings_context().settings is self._outer.settings

    @contextmanager
    def current(self) -> Iterator[PrefectApi]:
        """Make the API current for this thread; several threads may do so at a time."""
        settings, profile = self._settings, self._outer.profile
        send_events_to(self._url)
        with sdk.context.SettingsContext(profile=profile, settings=settings):
            yield PrefectApi(self._client, self._url, sdk.settings.PREFECT_UI_URL.value())


def _close(client: SyncPrefectClient, process_id: int) -> None:
    """Close a client in the process that opened it: in a forked one its locks may be held."""
    if os.getpid() == process_id:
        client.__exit__()


@contextmanager
def short_retries(retries: int = 1) -> Iterator[None]:
    """Let requests that cannot reach the API fail after seconds, not after a minute.

    For those who have something else to do meanwhile, and ask again.

    Args:
        retries: How often a request is tried again: the pauses are 2, 4, 8, ... seconds.
    """
    with sdk.settings.temporary_settings({sdk.settings.PREFECT_CLIENT_MAX_RETRIES: retries}):
        yield
