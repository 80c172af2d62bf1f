"""Artifact Registry's repositories and their policies; the images are in a registry's front.

https://cloud.google.com/artifact-registry/docs/reference/rpc/google.devtools.artifactregistry.v1
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from google.cloud import artifactregistry_v1 as api
from google.iam.v1 import iam_policy_pb2
from google.protobuf import empty_pb2

from loopback.google.answers import invalid, missing, taken
from loopback.google.cluster_rules import check_labels
from loopback.google.machines import REGIONS
from loopback.google.operations import Operations, long_running
from loopback.google.policies import tested
from loopback.google.state import Caller, GoogleState, Project

SERVICE = "google.devtools.artifactregistry.v1.ArtifactRegistry"
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_PLACES = frozenset((*REGIONS, "us", "europe", "asia"))


class Artifacts:
    """Repositories, by `projects/P/locations/L/repositories/R`.

    Attributes:
        state: What Google keeps.

    Args:
        state: What Google keeps.
        operations: What is on its way.
        served: The repositories that images may be pushed to, as `project/repository`.
    """

    def __init__(self, state: GoogleState, operations: Operations, served: set[str]) -> None:
        self.repositories: dict[str, Any] = {}
        self.state = state
        self._operations = operations
        self._served = served

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "GetRepository": (api.GetRepositoryRequest, self._get),
            "CreateRepository": (api.CreateRepositoryRequest, self._create),
            "DeleteRepository": (api.DeleteRepositoryRequest, self._delete),
            "GetIamPolicy": (iam_policy_pb2.GetIamPolicyRequest, self._policy),
            "SetIamPolicy": (iam_policy_pb2.SetIamPolicyRequest, self._set_policy),
            "TestIamPermissions": (iam_policy_pb2.TestIamPermissionsRequest, self._test),
        }

    def add(self, name: str, repository: Any) -> Any:
        """Keep a repository, and return it as it is shown."""
        made = api.Repository(repository)
        made.name = name
        made.create_time = datetime.now(UTC)
        self.repositories[name] = made
        self._served.add(_served(self.state.project(name), name.rpartition("/")[2]))
        return made

    def _create(self, request: Any, caller: Caller) -> Any:
        project = self.state.project(request.parent)
        place = request.parent.rpartition("/")[2]
        self.state.require(caller, "artifactregistry.repositories.create", project.resource)
        name = f"{project.resource}/locations/{place}/repositories/{request.repository_id}"
        if place not in _PLACES:
            raise invalid(f"location {place} is not supported")
        if not _NAME.fullmatch(request.repository_id):
            raise invalid(f"invalid repository id {request.repository_id!r}")
        if request.repository.format_ == api.Repository.Format.FORMAT_UNSPECIFIED:
            raise invalid("repository.format is required")
        check_labels(dict(request.repository.labels))
        if name in self.repositories:
            raise taken("the repository already exists")

        def finish() -> Any:
            return self.add(name, request.repository)

        where = f"{project.resource}/locations/{place}/operations/{{n}}"
        return long_running(self._operations.begin(where, finish))

    def _get(self, request: Any, caller: Caller) -> Any:
        return self._found(request.name, caller, "artifactregistry.repositories.get")

    def _delete(self, request: Any, caller: Caller) -> Any:
        self._found(request.name, caller, "artifactregistry.repositories.delete")
        project = self.state.project(request.name)
        place = request.name.split("/")[3]

        def finish() -> Any:
            del self.repositories[request.name]
            self.state.policies.forget(request.name)
            self._served.discard(_served(project, request.name.rpartition("/")[2]))
            return empty_pb2.Empty()

        where = f"{project.resource}/locations/{place}/operations/{{n}}"
        return long_running(self._operations.begin(where, finish))

    def _policy(self, request: Any, caller: Caller) -> Any:
        self._found(request.resource, caller, "artifactregistry.repositories.getIamPolicy")
        return self.state.policies.read(request.resource, request.options)

    def _set_policy(self, request: Any, caller: Caller) -> Any:
        self._found(request.resource, caller, "artifactregistry.repositories.setIamPolicy")
        return self.state.policies.write(request.resource, request.policy)

    def _test(self, request: Any, caller: Caller) -> Any:
        where = (request.resource, self.state.project(request.resource).resource)
        return tested(request, lambda each: self.state.allows(caller, each, *where))

    def _found(self, name: str, caller: Caller, permission: str) -> Any:
        project = self.state.project(name)
        self.state.require(caller, permission, name, project.resource)
        if name not in self.repositories:
            raise missing(f"Requested entity was not found: {name}")
        return self.repositories[name]


def _served(project: Project, repository: str) -> str:
    return f"{project.id}/{repository}"
