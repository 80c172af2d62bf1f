"""Waiting for what Google's APIs do in the background, with progress; Ctrl-C leaves it going on.

An operation goes on whoever waits for it: what was interrupted is found again by what it works on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.google.refusals import CloudRefusal, translated
from kinetic_flows.core.interruption import pause

if TYPE_CHECKING:
    from kinetic_flows.clients.google.apis import GoogleApis

Tell = Callable[[str], None]
"""Told how far an operation is: `create node pool l4: 40 %`."""

CLUSTER_SECONDS = 45 * 60.0
"""GKE makes a cluster in 5 to 10 minutes and a large node pool in up to 30."""

OPERATION_SECONDS = 15 * 60.0
"""For everything else, which takes seconds, or two minutes for APIs to come on."""

_TARGET = re.compile(r"/clusters/([^/]+)(?:/nodePools/([^/]+))?$")
"""What an operation of GKE works on, at the end of its link."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How an operation is waited for.

    Attributes:
        last_seconds: The longest pause.
        limit_seconds: For how long.
    """

    last_seconds: float = 5.0
    limit_seconds: float = OPERATION_SECONDS

    def pauses(self, what: str, seconds: float) -> Iterator[None]:
        """Pause between looks, each time for longer by half, for as long as there is time.

        Args:
            what: What is waited for, as it stands behind `cannot`.
            seconds: The first pause.

        Raises:
            CloudRefusal: The time is over; the operation goes on.
        """
        end = time.monotonic() + self.limit_seconds
        yield
        while time.monotonic() < end:
            pause(seconds)
            seconds = min(seconds * 1.5, self.last_seconds)
            yield
        raise CloudRefusal(
            f"cannot {what}: it is not done after {self.limit_seconds / 60:.0f} minutes",
            value=what,
            hint="it goes on; run the same again to wait for it",
        )


def wait_for_operation(
    apis: GoogleApis, operation: Any, what: str, tell: Tell, waiting: Waiting | None = None
) -> Any:
    """Wait for a long-running operation of Service Usage, Artifact Registry or Resource Manager.

    Args:
        apis: The clients.
        operation: What the client returned for the call.
        what: What is being done, as it stands behind `cannot`: `enable 3 APIs`.
        tell: Told while it goes on.
        waiting: How; None for the usual.

    Returns:
        What came of it.

    Raises:
        CloudRefusal: It failed, or takes too long.
    """
    for _ in (waiting or Waiting()).pauses(what, apis.poll_seconds):
        if apis.read(what, operation.done):
            break
        tell(what)
    # What the operation failed with is an error of the client, as that of a call is.
    return apis.call(what, lambda: operation.result(timeout=0.1))


def wait_for_cluster(
    apis: GoogleApis, operation: Any, what: str, tell: Tell, waiting: Waiting | None = None
) -> None:
    """Wait for an operation of GKE, on a cluster or a node pool.

    Args:
        apis: The clients.
        operation: What GKE answered, or what `find_cluster_operation` found.
        what: What is being done, as it stands behind `cannot`: `create node pool l4`.
        tell: Told how far it is.
        waiting: How; None for the usual.

    Raises:
        CloudRefusal: It failed, was ended by somebody, or takes too long.
    """
    name = operation_path(operation)
    usual = Waiting(limit_seconds=CLUSTER_SECONDS)
    for _ in (waiting or usual).pauses(what, apis.poll_seconds):
        found = apis.read(what, lambda: apis.container.get_operation(name=name))
        if found.status.name == "DONE":
            break
        tell(f"{what}: {_how_far(found)}" if _how_far(found) else what)
    if found.error.code or found.error.message:
        raise failure(found.error.code, found.error.message, what, apis.project)


def operation_path(operation: Any) -> str:
    """Return the full name of an operation of GKE, which its own name is not.

    The link to itself has it: https://container.googleapis.com/v1/projects/NUMBER/zones/...
    """
    link = str(operation.self_link)
    path = link[link.index("/projects/") + 1 :]
    return path.replace("/zones/", "/locations/").replace("/regions/", "/locations/")


def find_cluster_operation(
    apis: GoogleApis, location: str, cluster: str, node_pool: str | None = None
) -> Any | None:
    """Return an operation that is under way on a cluster; None when there is none.

    Args:
        apis: The clients, which have the project.
        location: The cluster's zone or region.
        cluster: Its name.
        node_pool: Only one on this node pool; None for any.

    Raises:
        CloudRefusal: GKE refuses to list them.
    """
    parent = f"projects/{apis.project}/locations/{location}"
    listed = apis.read(
        f"list the operations on cluster {cluster}",
        lambda: apis.container.list_operations(parent=parent),
    )
    return next(iter(_on(listed.operations, cluster, node_pool)), None)


def _on(operations: Iterable[Any], cluster: str, node_pool: str | None) -> Iterator[Any]:
    for operation in operations:
        target = _TARGET.search(str(operation.target_link))
        is_on = target is not None and target[1] == cluster and node_pool in (None, target[2])
        if is_on and operation.status.name in ("PENDING", "RUNNING", "ABORTING"):
            yield operation


def _how_far(operation: Any) -> str:
    """Return how far an operation of GKE is, in its own words or in parts done.

    Metrics come in pairs: `NODES_DONE` of `NODES_TOTAL`, and `CLUSTER_DEPLOYING` of
    `CLUSTER_DEPLOYING_TOTAL`.
    """
    stages = (operation.progress, *operation.progress.stages)
    counts = {metric.name: metric.int_value for stage in stages for metric in stage.metrics}
    totals = [name.removesuffix("_TOTAL") for name in counts if name.endswith("_TOTAL")]
    done = sum(counts.get(f"{name}_DONE", counts.get(name, 0)) for name in totals)
    of = sum(counts[f"{name}_TOTAL"] for name in totals)
    return f"{min(100 * done // of, 99)} %" if of else str(operation.detail)


def wait_for_compute(
    apis: GoogleApis,
    operation: Mapping[str, Any],
    what: str,
    tell: Tell,
    waiting: Waiting | None = None,
) -> None:
    """Wait for an operation of Compute Engine.

    Args:
        apis: The clients.
        operation: What Compute Engine answered.
        what: What is being done, as it stands behind `cannot`: `create router kn-x-nat`.
        tell: Told how far it is.
        waiting: How; None for the usual.

    Raises:
        CloudRefusal: It failed, or takes too long.
    """
    for _ in (waiting or Waiting()).pauses(what, apis.poll_seconds):
        if operation.get("status") == "DONE":
            break
        tell(f"{what}: {operation.get('progress', 0)} %")
        operation = apis.read(what, lambda: apis.compute.operation(operation))  # noqa: B023
    for error in (operation.get("error") or {}).get("errors") or ():
        from google.api_core.exceptions import from_http_status

        status = int(operation.get("httpErrorStatusCode") or 500)
        words = f"{error.get('code')}: {error.get('message') or error.get('code')}"
        raise translated(from_http_status(status, words), what=what, project=apis.project)


def failure(code: int, words: str, what: str, project: str | None) -> CloudRefusal:
    """Return what to raise for an operation that failed.

    Args:
        code: Its code of google.rpc.Code.
        words: Its message.
        what: What was being done, as it stands behind `cannot`.
        project: The project.
    """
    from google.api_core.exceptions import from_grpc_status

    return translated(from_grpc_status(code, words), what=what, project=project)
