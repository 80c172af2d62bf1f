"""Work pools, as Prefect keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.clients.prefect.sdk import httpx
from kinetic_flows.core.errors import LaunchError, PrefectServerError
from kinetic_flows.core.launcher import WorkerPool

if TYPE_CHECKING:
    from prefect.client.schemas.objects import WorkPool, WorkQueue


LOCAL_WORK_POOL = "kinetic-local"
"""The process work pool that runs of deployments on this machine go to."""


class WorkPools:
    """The work pools of one Prefect API.

    Args:
        api_url: The API.
    """

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url

    def read_template(self, name: str, pool_type: str) -> dict[str, Any] | None:
        """Return a work pool's base job template; None when there is no such work pool.

        Args:
            name: The work pool.
            pool_type: The type it must have.

        Raises:
            PrefectServerError: It has another type, or Prefect does not answer.
        """
        pool = self.read(name, pool_type)
        return None if pool is None else dict(pool.base_job_template)

    def read(self, name: str, pool_type: str) -> WorkPool | None:
        """Return a work pool, as `read_template` finds it."""
        pool: WorkPool | None = self._ask(lambda client: _read(client, name))
        if pool is not None and pool.type != pool_type:
            raise PrefectServerError(
                f"the work pool {name!r} is of type {pool.type!r}, not {pool_type!r}",
                value=name,
                hint="choose another name for it, or delete that work pool",
            )
        return pool

    def type_of(self, name: str) -> str | None:
        """Return the type of a work pool's workers; None when there is no such work pool."""
        pool = self._ask(lambda client: _read(client, name))
        return None if pool is None else str(pool.type)

    def names(self) -> list[str]:
        """Return the names of all work pools."""
        return sorted(pool.name for pool in self._ask(lambda client: client.read_work_pools()))

    def create(self, name: str, pool_type: str, template: Mapping[str, Any]) -> bool:
        """Create a work pool; return whether this call was the one that did."""
        new = sdk.actions.WorkPoolCreate(
            name=name,
            type=pool_type,
            base_job_template=dict(template),
            description=f"Runs of Python functions ({pool_type}), made by kinetic-flows.",
        )
        try:
            self._ask(lambda client: client.create_work_pool(new))
        except sdk.exceptions.ObjectAlreadyExists:
            return False
        return True

    def update(self, name: str, template: Mapping[str, Any]) -> None:
        """Give a work pool another base job template."""
        changed = sdk.actions.WorkPoolUpdate(base_job_template=dict(template))
        self._ask(lambda client: client.update_work_pool(name, changed))

    def limit_queue(self, pool: str, name: str, limit: int) -> None:
        """Have a work queue that lets so many of its runs go on at a time, making it if need be.

        Args:
            pool: Its work pool, which there is.
            name: The work queue.
            limit: How many.
        """

        def change(client: Any) -> None:
            queue = _queue(client, pool, name, limit)
            if queue.concurrency_limit != limit:
                client.update_work_queue(queue.id, concurrency_limit=limit)

        self._ask(change)

    def _ask(self, question: Any) -> Any:
        try:
            with connect(self.api_url), sdk.prefect.get_client(sync_client=True) as client:
                return question(client)
        except sdk.exceptions.PrefectHTTPStatusError as error:
            raise PrefectServerError(
                f"the Prefect API at {self.api_url} answered {error.response.status_code}: "
                f"{error.response.text[:500]}",
                value=error.response.status_code,
                hint="may these credentials change work pools?",
            ) from error
        except httpx.TransportError as error:
            raise PrefectServerError(
                f"the Prefect API at {self.api_url} cannot be reached: {error}",
                value=self.api_url,
                hint="check PREFECT_API_URL, or unset it to use a background server",
            ) from error


def ensure_worker_pool(
    pool: WorkerPool, variables: Iterable[str], api_url: str, *, drives: bool = False
) -> bool:
    """Make a work pool unless it is there; what an administrator changed in it stays.

    Args:
        pool: The work pool.
        variables: Names of what its workers are to be told of a run.
        api_url: The Prefect API.
        drives: Whether a flow run of its own drives each run, and has a place while it does.

    Returns:
        Whether this call made it.

    Raises:
        PrefectServerError: There is one of another type, or Prefect refuses.
        LaunchError: Its template would leave out something of what workers are told, or it lets
            fewer flow runs go on.
    """
    pools = WorkPools(api_url)
    found = pools.read(pool.name, pool.type)
    if found is None:
        return pools.create(pool.name, pool.type, pool.template())
    known = (found.base_job_template.get("variables") or {}).get("properties") or {}
    unknown = sorted(set(variables) - known.keys())
    if unknown:
        # Such as the one that a worker makes which is started before the work pool is there.
        raise LaunchError(
            f"the template of work pool {pool.name!r} has no variable {', '.join(unknown)}",
            value=pool.name,
            hint="`kinetic pool create` installs the template that this version needs",
        )
    limit = found.concurrency_limit
    if drives and limit is not None and limit < 2:
        raise LaunchError(
            f"work pool {pool.name!r} lets {limit} flow run go on at a time, and a run with a list "
            "of accelerators is 2: one drives it, the other calls the function",
            value=limit,
            hint=f"`kinetic prefect work-pool set-concurrency-limit {pool.name} 2` or more, or "
            "name one accelerator",
        )
    return False


def process_job_template() -> dict[str, Any]:
    """Return the base job template of Prefect's process workers."""
    from prefect.workers.process import ProcessWorker

    return ProcessWorker.get_default_base_job_template()


def _queue(client: Any, pool: str, name: str, limit: int) -> WorkQueue:
    try:
        found: WorkQueue = client.read_work_queue_by_name(name, work_pool_name=pool)
    except sdk.exceptions.ObjectNotFound:
        try:
            found = client.create_work_queue(name, concurrency_limit=limit, work_pool_name=pool)
        except sdk.exceptions.ObjectAlreadyExists:
            found = client.read_work_queue_by_name(name, work_pool_name=pool)
    return found


def _read(client: Any, name: str) -> WorkPool | None:
    try:
        found: WorkPool = client.read_work_pool(name)
    except sdk.exceptions.ObjectNotFound:
        return None
    return found


def no_work_pool(pool: str) -> str:
    """Say what Jobs are made from where nobody has made the work pool."""
    return (
        f"there is no work pool {pool!r} yet: Jobs are made from the template that ships "
        "(`kinetic pool create` makes it)"
    )
