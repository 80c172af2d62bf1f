"""Deployments, as Prefect keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.errors import translated
from kinetic_flows.clients.prefect.labels import RUN_TAG

if TYPE_CHECKING:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.responses import DeploymentResponse

PAGE_SIZE = 200


@dataclass(frozen=True, kw_only=True)
class NewDeployment:
    """A deployment to create, or to bring up to date.

    Attributes:
        flow: Name of the flow its runs belong to: the function's.
        name: Its own name.
        description: What the UI shows of it.
        version: What the UI shows as its version.
        tags: Tags of its runs.
        labels: Labels of its runs.
        parameters: What its runs are called with when nothing else is said.
        parameter_schema: JSON schema that parameters must satisfy.
        schedules: When it runs.
        paused: Whether its schedules rest; None to leave that as it is.
        concurrency_limit: How many of its runs go on at once; None for any number.
        work_pool: Whose workers start its runs.
        job_variables: What its runs' infrastructure is given.
    """

    flow: str
    name: str
    description: str
    version: str
    tags: tuple[str, ...]
    labels: Mapping[str, str | int]
    parameters: Mapping[str, Any]
    parameter_schema: Mapping[str, Any]
    schedules: tuple[DeploymentScheduleCreate, ...]
    paused: bool | None
    concurrency_limit: int | None
    work_pool: str
    job_variables: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DeploymentRecord:
    """One deployment, as Prefect has it.

    Attributes:
        id: Its id.
        flow: Name of its flow.
        name: Its own name.
        tags: Tags of its runs.
        labels: Labels of its runs.
        parameters: What its runs are called with when nothing else is said.
        parameter_schema: JSON schema that parameters must satisfy.
        schedules: Its active schedules, in words.
        paused: Whether its schedules rest.
        concurrency_limit: How many of its runs go on at once; None for any number.
        work_pool: Whose workers start its runs; None for none.
        job_variables: What its runs' infrastructure is given.
        updated: When it was changed last; None when unknown.
    """

    id: str
    flow: str
    name: str
    tags: tuple[str, ...]
    labels: Mapping[str, Any]
    parameters: Mapping[str, Any]
    parameter_schema: Mapping[str, Any]
    schedules: tuple[str, ...]
    paused: bool
    concurrency_limit: int | None
    work_pool: str | None
    job_variables: Mapping[str, Any]
    updated: datetime | None

    @property
    def full_name(self) -> str:
        """The name by which `kinetic deployments run` knows it."""
        return f"{self.flow}/{self.name}"


class PrefectDeployments:
    """The deployments of remote functions behind one Prefect API.

    Args:
        api: The API.
    """

    def __init__(self, api: PrefectApi) -> None:
        self._api = api
        self.url = api.url

    @translated
    def save(self, new: NewDeployment) -> str:
        """Create a deployment, or change the one of that name, and return its id."""
        body = sdk.actions.DeploymentCreate(
            flow_id=UUID(self._api.flow_id(new.flow)),
            name=new.name,
            description=new.description,
            version=new.version,
            tags=list(new.tags),
            labels=dict(new.labels),
            parameters=dict(new.parameters),
            parameter_openapi_schema=dict(new.parameter_schema),
            enforce_parameter_schema=True,
            schedules=list(new.schedules),
            concurrency_limit=new.concurrency_limit,
            work_pool_name=new.work_pool,
            job_variables=dict(new.job_variables),
        )
        if new.paused is not None:
            body.paused = new.paused
        # Prefect's own method takes no labels (3.8.8).
        sent = body.model_dump(mode="json", exclude_unset=True)
        answer = self._api.client.request("POST", "/deployments/", json=sent)
        return str(answer.json()["id"])

    @translated
    def find(self, flow: str, name: str) -> DeploymentRecord | None:
        """Return the deployment of a name; None when there is none."""
        try:
            found = self._api.client.read_deployment_by_name(f"{flow}/{name}")
        except sdk.exceptions.ObjectNotFound:
            return None
        return _record(found, flow)

    @translated
    def read(self, deployment_id: str) -> DeploymentRecord:
        """Return the deployment of an id."""
        found = self._api.client.read_deployment(UUID(deployment_id))
        return _record(found, self._api.client.read_flow(found.flow_id).name)

    @translated
    def list(self) -> list[DeploymentRecord]:
        """Return every deployment of a remote function, by name."""
        wanted = sdk.filters.DeploymentFilter.model_validate({"tags": {"all_": [RUN_TAG]}})
        found: list[DeploymentResponse] = []
        while True:
            page = self._api.client.read_deployments(
                deployment_filter=wanted,
                sort=sdk.sorting.DeploymentSort.NAME_ASC,
                limit=PAGE_SIZE,
                offset=len(found),
            )
            found += page
            if len(page) < PAGE_SIZE:
                break
        flows = self._flow_names({each.flow_id for each in found})
        records = [_record(each, flows[each.flow_id]) for each in found]
        return sorted(records, key=lambda each: each.full_name)

    @translated
    def delete(self, deployment_id: str) -> None:
        """Delete a deployment; its runs stay."""
        self._api.client.delete_deployment(UUID(deployment_id))

    @translated
    def run(self, deployment_id: str, parameters: Mapping[str, Any], name: str) -> str:
        """Schedule a run of a name at once, and return its id."""
        made = self._api.client.create_flow_run_from_deployment(
            UUID(deployment_id), parameters=dict(parameters), name=name
        )
        return str(made.id)

    def url_of(self, deployment_id: str) -> str:
        """Return where a browser shows a deployment; the API's URL of it when there is no UI."""
        if self._api.ui_url:
            return f"{self._api.ui_url.rstrip('/')}/deployments/deployment/{deployment_id}"
        return f"{self._api.url}/deployments/{deployment_id}"

    def _flow_names(self, ids: set[UUID]) -> dict[UUID, str]:
        return {each: self._api.client.read_flow(each).name for each in ids}


def _record(found: DeploymentResponse, flow: str) -> DeploymentRecord:
    limit = found.global_concurrency_limit
    return DeploymentRecord(
        id=str(found.id),
        flow=flow,
        name=found.name,
        tags=tuple(found.tags),
        labels=dict(found.labels),
        parameters=dict(found.parameters),
        parameter_schema=dict(found.parameter_openapi_schema or {}),
        schedules=tuple(
            describe_schedule(each.schedule.model_dump(mode="json"))
            for each in found.schedules
            if each.active
        ),
        paused=found.paused,
        concurrency_limit=limit.limit if limit else None,
        work_pool=found.work_pool_name,
        job_variables=dict(found.job_variables or {}),
        updated=found.updated,
    )


def describe_schedule(schedule: Mapping[str, Any]) -> str:
    """Say when a schedule runs."""
    zone = schedule.get("timezone")
    suffix = f" ({zone})" if zone and zone != "UTC" else ""
    if "interval" in schedule:
        return f"every {schedule['interval']:g} s{suffix}"
    return f"{schedule.get('cron') or schedule.get('rrule')}{suffix}"
