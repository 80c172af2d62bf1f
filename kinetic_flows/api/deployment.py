"""The handle of a deployment of a remote function, and how deployments are found."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kinetic_flows.api.run import Run
from kinetic_flows.clients.prefect.deployments import PrefectDeployments
from kinetic_flows.clients.prefect.labels import IMAGE_LABEL, PLATFORM_LABEL
from kinetic_flows.code.call_names import parameters_name
from kinetic_flows.core.api_boundary import at_api_boundary
from kinetic_flows.core.cards import Card
from kinetic_flows.core.errors import (
    DeploymentNotFoundError,
    PrefectServerError,
    UsageError,
    suggest,
)
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.platforms.choose import worker_type
from kinetic_flows.runs.deployment_objects import known_prefix, remove_objects, unfinished_runs
from kinetic_flows.runs.session import own_session
from kinetic_flows.runs.settle import ticket_of

if TYPE_CHECKING:
    from kinetic_flows.clients.prefect.deployments import DeploymentRecord
    from kinetic_flows.runs.session import Session

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Deployment(Generic[R]):
    """A Prefect deployment of a function, whose runs need nothing of this machine.

    Example:
        ```python
        nightly = train.deploy("nightly", cron="0 2 * * *", parameters={"rate": 0.1})
        print(nightly.worker_command)  # what has to run somewhere, once
        run = nightly.run(rate=0.2)  # besides its schedule
        ```

    Attributes:
        id: Its id.
        name: Its full name, as `kinetic deployments run` takes it.
        url: Where a browser shows it.
        change: What the call that returned it did: `created`, `updated` or `unchanged`; empty
            when it was merely found.
        image: The image of its runs, by digest.
        work_pool: The work pool whose workers start its runs.
        worker_type: Type of those workers.
        schedules: Its active schedules, in words.
        paused: Whether its schedules rest.
        parameters: What its runs are called with when nothing else is said.
        parameter_schema: JSON schema of what its runs can be called with.
        tags: Tags of its runs.
        concurrency_limit: How many of its runs go on at once; None for any number.
    """

    id: str
    name: str
    url: str
    change: str
    image: str
    work_pool: str
    worker_type: str
    schedules: tuple[str, ...]
    paused: bool
    parameters: dict[str, Any]
    parameter_schema: dict[str, Any]
    tags: tuple[str, ...]
    concurrency_limit: int | None

    def __repr__(self) -> str:
        rest = ", paused" if self.paused else ""
        when = "; ".join(self.schedules) or "on demand"
        return (
            f"<Deployment {self.name}: {when}{rest}\n"
            f"  work pool {self.work_pool}, image {self.image}\n"
            f"  {self.url}>"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what there is to say of it as plain JSON values, for machines."""
        plain = {name: value for name, value in asdict(self).items() if name != "change"}
        return {**plain, "worker_command": self.worker_command}

    @property
    def worker_command(self) -> str:
        """The command that starts a worker for its runs."""
        return f"kinetic worker start {shlex.quote(self.work_pool)}"

    @at_api_boundary
    def run(self, **parameters: Any) -> Run[R]:
        """Start a run at once, as a worker gets to it, and return its handle.

        Args:
            **parameters: What it is called with besides the deployment's own.

        Raises:
            UsageError: They do not fit the function's signature.
        """
        with _session() as (session, deployments):
            function = self.name.partition("/")[0]
            name = parameters_name(function, {**self.parameters, **parameters})
            try:
                run_id = deployments.run(self.id, parameters, name)
            except PrefectServerError as error:
                if error.value != CONFLICT:
                    raise
                raise UsageError(
                    f"the parameters do not fit {self.name}: {error.message}",
                    value=parameters,
                    hint=f"`kinetic deployments show {self.name}` prints what it takes",
                ) from error
            record = session.api.read_run(run_id)
            return Run(ticket=ticket_of(record), url=session.api.run_url(run_id))

    @at_api_boundary
    def _card(self) -> Card:
        given = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        rows = (
            ("schedules", f"{', '.join(self.schedules)}{' (paused)' if self.paused else ''}"),
            ("parameters", given),
            ("image", self.image),
            ("work pool", f"{self.work_pool}, whose workers `{self.worker_command}` starts"),
            ("page", self.url),
        )
        return Card(kind="Deployment", title=self.name, rows=rows)

    def _repr_html_(self) -> str:
        return self._card().html()

    def delete(self) -> None:
        """Delete it with its objects; results of its runs cannot be read afterwards.

        Raises:
            UsageError: Runs of it are not over.
        """
        delete_deployment(self.name)


CONFLICT = 409
"""What Prefect answers to parameters that do not satisfy their schema."""


@at_api_boundary
def list_deployments() -> list[Deployment[Any]]:
    """Return every deployment of a remote function, by name."""
    with _session() as (_, deployments):
        return [deployment_of(each, deployments) for each in deployments.list()]


@at_api_boundary
def find_deployment(name: str) -> Deployment[Any]:
    """Return a deployment.

    Args:
        name: `function/name`, or the name alone where no other function has one of that name.

    Raises:
        DeploymentNotFoundError: None fits, or several do.
    """
    with _session() as (_, deployments):
        return deployment_of(_found(name, deployments), deployments)


@at_api_boundary
def delete_deployment(name: str) -> None:
    """Delete a deployment and what its runs needed.

    Args:
        name: As `find_deployment` takes it.

    Raises:
        DeploymentNotFoundError: None fits, or several do.
        UsageError: Runs of it are not over.
    """
    with _session() as (session, deployments):
        record = _found(name, deployments)
        running = unfinished_runs(record.id, session.api)
        if running:
            raise UsageError(
                f"{len(running)} runs of {record.full_name} are not over",
                value=tuple(running),
                hint="wait for them, or cancel them: kinetic runs cancel " + " ".join(running[:3]),
            )
        deployments.delete(record.id)
        store = session.platform.store
        prefix = known_prefix(record.job_variables, store.uri)
        if prefix:
            remove_objects(store, prefix, api=session.api)


def deployment_of(
    record: DeploymentRecord, deployments: PrefectDeployments, change: str = ""
) -> Deployment[Any]:
    """Return the handle of a deployment, and what the call that asks for it did about it."""
    return Deployment(
        id=record.id,
        name=record.full_name,
        url=deployments.url_of(record.id),
        change=change,
        image=str(record.labels.get(IMAGE_LABEL, "")),
        work_pool=record.work_pool or "",
        worker_type=worker_type(str(record.labels.get(PLATFORM_LABEL, ""))),
        schedules=record.schedules,
        paused=record.paused,
        parameters=dict(record.parameters),
        parameter_schema=dict(record.parameter_schema),
        tags=record.tags,
        concurrency_limit=record.concurrency_limit,
    )


def _found(name: str, deployments: PrefectDeployments) -> DeploymentRecord:
    records = deployments.list()
    fits = [each for each in records if name in (each.full_name, each.name)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DeploymentNotFoundError(
            f"{len(fits)} deployments are called {name!r}",
            value=name,
            hint="name its function too: " + ", ".join(each.full_name for each in fits),
        )
    names = [each.full_name for each in records]
    raise DeploymentNotFoundError(
        f"there is no deployment {name!r}",
        value=name,
        hint=suggest(name, names) if names else "train.deploy(...) makes one",
    )


@contextmanager
def _session() -> Iterator[tuple[Session, PrefectDeployments]]:
    """Open a session with this process's settings."""
    with own_session(NullProgress()) as session:
        yield session, PrefectDeployments(session.api)
