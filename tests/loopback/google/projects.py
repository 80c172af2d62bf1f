"""Resource Manager's projects and Cloud Billing's word on who pays for them.

https://cloud.google.com/resource-manager/reference/rpc/google.cloud.resourcemanager.v3
https://cloud.google.com/billing/docs/reference/rpc/google.cloud.billing.v1
"""

from __future__ import annotations

from typing import Any

from google.cloud import billing_v1, resourcemanager_v3
from google.iam.v1 import iam_policy_pb2

from loopback.google.answers import invalid
from loopback.google.policies import tested
from loopback.google.state import Caller, GoogleState, Project

PROJECTS = "google.cloud.resourcemanager.v3.Projects"
BILLING = "google.cloud.billing.v1.CloudBilling"


class Projects:
    """Projects and their policies."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "GetProject": (resourcemanager_v3.GetProjectRequest, self._get),
            "SearchProjects": (resourcemanager_v3.SearchProjectsRequest, self._search),
            "GetIamPolicy": (iam_policy_pb2.GetIamPolicyRequest, self._policy),
            "SetIamPolicy": (iam_policy_pb2.SetIamPolicyRequest, self._set_policy),
            "TestIamPermissions": (iam_policy_pb2.TestIamPermissionsRequest, self._test),
        }

    def _get(self, request: Any, caller: Caller) -> Any:
        project = self._state.project(request.name)
        self._state.require(caller, "resourcemanager.projects.get", project.resource)
        return _shown(project)

    def _search(self, request: Any, caller: Caller) -> Any:
        seen = [
            _shown(project)
            for project in self._state.projects.values()
            if self._state.allows(caller, "resourcemanager.projects.get", project.resource)
        ]
        return resourcemanager_v3.SearchProjectsResponse(projects=seen)

    def _policy(self, request: Any, caller: Caller) -> Any:
        project = self._state.project(request.resource)
        self._state.require(caller, "resourcemanager.projects.getIamPolicy", project.resource)
        return self._state.policies.read(project.resource, request.options)

    def _set_policy(self, request: Any, caller: Caller) -> Any:
        project = self._state.project(request.resource)
        self._state.require(caller, "resourcemanager.projects.setIamPolicy", project.resource)
        if not any(each.role == "roles/owner" and each.members for each in request.policy.bindings):
            raise invalid("The policy must have at least one owner.")
        return self._state.policies.write(project.resource, request.policy)

    def _test(self, request: Any, caller: Caller) -> Any:
        project = self._state.project(request.resource)
        return tested(request, lambda each: self._state.allows(caller, each, project.resource))


def _shown(project: Project) -> Any:
    return resourcemanager_v3.Project(
        name=f"projects/{project.number}",
        project_id=project.id,
        display_name=project.name,
        state=resourcemanager_v3.Project.State.ACTIVE,
        labels=project.labels,
        etag="etag-1",
    )


class Billing:
    """Who pays for a project."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "GetProjectBillingInfo": (billing_v1.GetProjectBillingInfoRequest, self._get),
        }

    def _get(self, request: Any, caller: Caller) -> Any:
        project = self._state.project(request.name)
        self._state.require(caller, "resourcemanager.projects.get", project.resource)
        return billing_v1.ProjectBillingInfo(
            name=f"{project.resource}/billingInfo",
            project_id=project.id,
            billing_account_name=project.billing_account or "",
            billing_enabled=project.billing_account is not None,
        )
