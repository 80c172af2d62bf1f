"""Cloud Build and its long-running operations: real gRPC, real builds.

What a submitted build does is up to a worker: `loopback.build_worker` executes it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import grpc
from google.cloud.devtools import cloudbuild_v1 as api
from google.longrunning import operations_pb2
from google.rpc import status_pb2

from loopback.grpc_services import GrpcServer, Refusal
from loopback.secret_manager import SERVICE as SECRET_SERVICE
from loopback.secret_manager import SecretManager

Status = api.Build.Status
BUILD_SERVICE = "google.devtools.cloudbuild.v1.CloudBuild"
BUILD_ACCOUNT = "123456789-compute@developer.gserviceaccount.com"
OPERATIONS_SERVICE = "google.longrunning.Operations"
RUNNING = frozenset({Status.PENDING, Status.QUEUED, Status.WORKING})

_CONDITION = re.compile(r'\s*(\w+)\s*=\s*"?([^"]*?)"?\s*')


@dataclass(kw_only=True)
class RunningBuild:
    """A build on its way: what the service shows of it, and the wish to end it."""

    build: Any
    cancelled: threading.Event = field(default_factory=threading.Event)


Worker = Callable[[RunningBuild], Any]
"""Executes a build, updating it as it goes, and returns its final status."""


class CloudBuildServer:
    """Cloud Build and Secret Manager on one port.

    Args:
        worker: Executes builds, each in a thread of its own.
        others: Further services of the same port.
    """

    def __init__(
        self, worker: Worker, others: Mapping[str, Mapping[str, tuple[Any, Any]]] | None = None
    ) -> None:
        self.worker = worker
        self.secrets = SecretManager()
        self._builds: dict[str, RunningBuild] = {}
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self.server = GrpcServer(
            {
                BUILD_SERVICE: {
                    "CreateBuild": (api.CreateBuildRequest, self._create),
                    "GetBuild": (api.GetBuildRequest, self._get),
                    "ListBuilds": (api.ListBuildsRequest, self._list),
                    "CancelBuild": (api.CancelBuildRequest, self._cancel),
                    "GetDefaultServiceAccount": (
                        api.GetDefaultServiceAccountRequest,
                        self._default_account,
                    ),
                },
                OPERATIONS_SERVICE: {
                    "GetOperation": (operations_pb2.GetOperationRequest, self._operation),
                },
                SECRET_SERVICE: self.secrets.methods(),
                **(others or {}),
            }
        )
        self.endpoint = self.server.endpoint

    def start(self) -> CloudBuildServer:
        self.server.start()
        return self

    def stop(self) -> None:
        for running in list(self._builds.values()):
            running.cancelled.set()
        for thread in self._threads:
            thread.join(20)
        self.server.stop()

    @property
    def builds(self) -> list[Any]:
        """Every build that was submitted, oldest first."""
        with self._lock:
            return [running.build for running in self._builds.values()]

    def _create(self, request: Any) -> Any:
        build: Any = api.Build(request.build)
        _check(build)
        build.id = str(uuid4())
        build.project_id = request.project_id
        build.name = f"{request.parent}/builds/{build.id}"
        build.status = Status.QUEUED
        build.create_time = datetime.now(UTC)
        build.log_url = f"https://console.cloud.google.com/cloud-build/builds/{build.id}"
        running = RunningBuild(build=build)
        thread = threading.Thread(target=self._run, args=(running,), daemon=True)
        with self._lock:
            self._builds[build.id] = running
            self._threads.append(thread)
            operation = _operation_of(build)
        thread.start()
        return operation

    def _run(self, running: RunningBuild) -> None:
        running.build.start_time = datetime.now(UTC)
        running.build.status = Status.WORKING
        try:
            status = self.worker(running)
        except Exception as error:  # noqa: BLE001  # a worker that breaks is an internal error
            running.build.status_detail = f"{type(error).__name__}: {error}"
            status = Status.INTERNAL_ERROR
        with self._lock:
            running.build.finish_time = datetime.now(UTC)
            running.build.status = status

    def _find(self, build_id: str) -> RunningBuild:
        with self._lock:
            if build_id not in self._builds:
                raise Refusal(grpc.StatusCode.NOT_FOUND, f"build {build_id} not found")
            return self._builds[build_id]

    def _get(self, request: Any) -> Any:
        with self._lock:
            return api.Build(self._find(request.id or request.name.rpartition("/")[2]).build)

    def _list(self, request: Any) -> Any:
        with self._lock:
            chosen = [api.Build(b) for b in reversed(self.builds) if _fits(b, request.filter)]
        return api.ListBuildsResponse(builds=chosen[: request.page_size or 50])

    def _cancel(self, request: Any) -> Any:
        running = self._find(request.id)
        if running.build.status not in RUNNING:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "cannot cancel a finished build")
        running.cancelled.set()
        return api.Build(running.build)

    def _default_account(self, request: Any) -> Any:
        return api.DefaultServiceAccount(name=request.name, service_account_email=BUILD_ACCOUNT)

    def _operation(self, request: Any) -> Any:
        with self._lock:
            return _operation_of(self._find(request.name.rpartition("/")[2]).build)


def _check(build: Any) -> None:
    """Refuse what Cloud Build refuses."""
    problem = ""
    if not build.steps:
        problem = "invalid build: no build steps"
    for tag in build.tags:
        if not re.fullmatch(r"\w[\w.-]{0,127}", tag):
            problem = f"invalid build: invalid tag {tag!r}"
    for step in build.steps:
        for arg in step.args:
            if re.search(r"(?<!\$)\$(?!\$)\{?[A-Z]", arg.replace("$$", "")):
                problem = f"invalid build: invalid substitution in {arg!r}"
    if build.service_account and not (build.logs_bucket or build.options.logging):
        problem = "build.service_account requires logs_bucket or a logging option"
    if problem:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, problem)


def _fits(build: Any, wanted: str) -> bool:
    for part in filter(None, wanted.split(" AND ")):
        match = _CONDITION.fullmatch(part)
        if match is None or match[1] not in ("tags", "status"):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"invalid filter: {part}")
        values = build.tags if match[1] == "tags" else [build.status.name]
        if match[2] not in values:
            return False
    return True


def _operation_of(build: Any) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(
        name=f"operations/build/{build.project_id}/{build.id}", done=build.status not in RUNNING
    )
    metadata = api.BuildOperationMetadata(build=build)
    operation.metadata.Pack(api.BuildOperationMetadata.pb(metadata))
    if build.status == Status.SUCCESS:
        operation.response.Pack(api.Build.pb(build))
    elif operation.done:
        operation.error.CopyFrom(status_pb2.Status(code=2, message=build.status.name))
    return operation
