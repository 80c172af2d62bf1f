"""Artifact Registry's own API: repositories and their policies.

https://cloud.google.com/artifact-registry/docs/reference/rpc
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.cloud import artifactregistry_v1 as api
from google.iam.v1 import iam_policy_pb2
from google.protobuf import empty_pb2

from loopback.google.answers import invalid, missing, taken
from loopback.google.operations import Operations, long_running
from loopback.google.policies import tested
from loopback.google.state import Caller, GoogleState

SERVICE = "google.devtools.artifactregistry.v1.ArtifactRegistry"
_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Artifacts:
    """Repositories of Artifact Registry.

    Args:
        state: What Google keeps.
        operations: What is on its way.
        made: Told of each repository that is made, as `project/name`, and whether it is there.
    """

    def __init__(
        self,
        state: GoogleState,
        operations: Operations,
        made: Callable[[str, bool], None] = lambda *_: None,
    ) -> None:
        self.repositories: dict[str, api.Repository] = {}
        self._state = state
        self._operations = operations
        self._made = made

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "GetRepository": (api.GetRepositoryRequest, self._get),
            "CreateRepository": (api.CreateRepositoryRequest, self._create),
            "DeleteRepository": (api.DeleteRepositoryRequest, self._delete),
            "GetIamPolicy": (iam_policy_pb2.GetIamPolicyRequest, self._policy),
            "SetIamPolicy": (iam_policy_pb2.SetIamPolicyRequest, self._set_policy),
            "TestIamPermissions": (iam_policy_pb2.TestIamPermissionsRequest, self._test),
        }

    def _get(self, request: Any, caller: Caller) -> Any:
        return self._find(request.name, caller, "get")

    def _create(self, request: Any, caller: Caller) -> Any:
        project = self._state.project(request.parent)
        self._state.require(caller, "artifactregistry.repositories.create", project.resource)
        if not _ID.fullmatch(request.repository_id):
            raise invalid(f"invalid repository ID {request.repository_id!r}")
        if not request.repository.format_:
            raise invalid("a format is required")
        name = f"{request.parent}/repositories/{request.repository_id}"
        if name in self.repositories:
            raise taken("the repository already exists")
        request.repository.name = name

        def finish() -> Any:
            self.repositories[name] = request.repository
            self._made(f"{project.id}/{request.repository_id}", True)
            return request.repository

        work = self._operations.begin(f"{request.parent}/operations/{{n}}", finish)
        return long_running(work)

    def _delete(self, request: Any, caller: Caller) -> Any:
        self._find(request.name, caller, "delete")

        def finish() -> Any:
            self.repositories.pop(request.name, None)
            self._state.policies.forget(request.name)
            _, project, _, _, _, repository = request.name.split("/")
            self._made(f"{project}/{repository}", False)
            return empty_pb2.Empty()

        parent = request.name.rpartition("/repositories/")[0]
        return long_running(self._operations.begin(f"{parent}/operations/{{n}}", finish))

    def _policy(self, request: Any, caller: Caller) -> Any:
        self._find(request.resource, caller, "getIamPolicy")
        return self._state.policies.read(request.resource, request.options)

    def _set_policy(self, request: Any, caller: Caller) -> Any:
        self._find(request.resource, caller, "setIamPolicy")
        return self._state.policies.write(request.resource, request.policy)

    def _test(self, request: Any, caller: Caller) -> Any:
        where = (request.resource, self._state.project(request.resource).resource)
        return tested(request, lambda each: self._state.allows(caller, each, *where))

    def _find(self, name: str, caller: Caller, verb: str) -> api.Repository:
        project = self._state.project(name)
        permission = f"artifactregistry.repositories.{verb}"
        self._state.require(caller, permission, name, project.resource)
        if name not in self.repositories:
            raise missing(f"Requested entity was not found: {name}")
        return self.repositories[name]
