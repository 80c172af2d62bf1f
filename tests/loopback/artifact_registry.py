"""Artifact Registry's own API, of a registry front: its repositories and their policies."""

from __future__ import annotations

from typing import Any

import grpc
from google.cloud import artifactregistry_v1 as api
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.longrunning import operations_pb2

from loopback.grpc_services import Refusal
from loopback.registry import RegistryFront

SERVICE = "google.devtools.artifactregistry.v1.ArtifactRegistry"


class ArtifactRegistryApi:
    """Answers for the repositories that a front has.

    Attributes:
        policies: Who has which role, by `project/repository` and role.
        closed: Projects in which nobody may make repositories.

    Args:
        front: Whose repositories.
    """

    def __init__(self, front: RegistryFront) -> None:
        self.policies: dict[str, dict[str, set[str]]] = {}
        self.closed: set[str] = set()
        self._front = front

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "GetRepository": (api.GetRepositoryRequest, self._get),
            "CreateRepository": (api.CreateRepositoryRequest, self._create),
            "GetIamPolicy": (iam_policy_pb2.GetIamPolicyRequest, self._policy),
        }

    def _create(self, request: Any) -> Any:
        """Make a repository at once; Google's takes seconds, and tells it by an operation, too."""
        _, project, _, _ = request.parent.split("/")
        made = f"{project}/{request.repository_id}"
        if project in self.closed:
            raise Refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                f"Permission 'artifactregistry.repositories.create' denied on '{request.parent}'",
            )
        if made in self._front.repositories:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, "the repository already exists")
        if request.repository.format_ != api.Repository.Format.DOCKER:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "only for images here")
        self._front.repositories.add(made)
        operation = operations_pb2.Operation(name=f"{request.parent}/operations/1", done=True)
        name = f"{request.parent}/repositories/{request.repository_id}"
        repository = api.Repository(name=name, format_=api.Repository.Format.DOCKER)
        operation.response.Pack(api.Repository.pb(repository))
        return operation

    def _get(self, request: Any) -> Any:
        self._find(request.name)
        return api.Repository(name=request.name, format_=api.Repository.Format.DOCKER)

    def _policy(self, request: Any) -> Any:
        roles = self.policies.get(self._find(request.resource), {})
        bindings = [
            policy_pb2.Binding(role=role, members=sorted(members))
            for role, members in roles.items()
        ]
        return policy_pb2.Policy(bindings=bindings)

    def _find(self, name: str) -> str:
        _, project, _, _, _, repository = name.split("/")
        found = f"{project}/{repository}"
        if found not in self._front.repositories:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"repository {name} not found")
        return found
