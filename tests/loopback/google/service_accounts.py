"""IAM's service accounts.

https://cloud.google.com/iam/docs/reference/rpc/google.iam.admin.v1
"""

from __future__ import annotations

import re
from typing import Any

from google.cloud import iam_admin_v1 as api
from google.iam.v1 import iam_policy_pb2
from google.protobuf import empty_pb2

from loopback.google.answers import invalid, taken
from loopback.google.policies import tested
from loopback.google.state import Caller, GoogleState, member_of

SERVICE = "google.iam.admin.v1.IAM"
_ID = re.compile(r"[a-z](?:[-a-z0-9]{4,28}[a-z0-9])")
MAX_DESCRIPTION_BYTES = 256
MAX_NAME_BYTES = 100


class ServiceAccounts:
    """Service accounts and their policies."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "CreateServiceAccount": (api.CreateServiceAccountRequest, self._create),
            "GetServiceAccount": (api.GetServiceAccountRequest, self._get),
            "ListServiceAccounts": (api.ListServiceAccountsRequest, self._list),
            "EnableServiceAccount": (api.EnableServiceAccountRequest, self._enable),
            "DeleteServiceAccount": (api.DeleteServiceAccountRequest, self._delete),
            "GetIamPolicy": (iam_policy_pb2.GetIamPolicyRequest, self._policy),
            "SetIamPolicy": (iam_policy_pb2.SetIamPolicyRequest, self._set_policy),
            "TestIamPermissions": (iam_policy_pb2.TestIamPermissionsRequest, self._test),
        }

    def _create(self, request: Any, caller: Caller) -> Any:
        project = self._state.project(request.name)
        self._state.require(caller, "iam.serviceAccounts.create", project.resource)
        if not _ID.fullmatch(request.account_id):
            raise invalid(
                "Invalid account ID: must be 6 to 30 lowercase letters, digits and dashes, "
                f"beginning with a letter: {request.account_id!r}"
            )
        email = f"{request.account_id}@{project.id}.iam.gserviceaccount.com"
        if email in self._state.accounts:
            raise taken(
                f"Service account {request.account_id} already exists within project "
                f"{project.resource}."
            )
        _check(request.service_account)
        account = api.ServiceAccount(
            name=f"{project.resource}/serviceAccounts/{email}",
            project_id=project.id,
            unique_id=self._state.new_number(),
            email=email,
            display_name=request.service_account.display_name,
            description=request.service_account.description,
        )
        self._state.add_account(account)
        return account

    def _get(self, request: Any, caller: Caller) -> Any:
        return self._account(request.name, caller, "iam.serviceAccounts.get")

    def _list(self, request: Any, caller: Caller) -> Any:
        project = self._state.project(request.name)
        self._state.require(caller, "iam.serviceAccounts.list", project.resource)
        accounts = [a for a in self._state.accounts.values() if a.project_id == project.id]
        return api.ListServiceAccountsResponse(accounts=accounts)

    def _enable(self, request: Any, caller: Caller) -> Any:
        self._account(request.name, caller, "iam.serviceAccounts.enable").disabled = False
        return empty_pb2.Empty()

    def _delete(self, request: Any, caller: Caller) -> Any:
        account = self._account(request.name, caller, "iam.serviceAccounts.delete")
        del self._state.accounts[account.email]
        self._state.policies.forget(account.name)
        self._state.policies.mark_deleted(member_of(account.email), account.unique_id)
        return empty_pb2.Empty()

    def _policy(self, request: Any, caller: Caller) -> Any:
        account = self._account(request.resource, caller, "iam.serviceAccounts.getIamPolicy")
        return self._state.policies.read(account.name, request.options)

    def _set_policy(self, request: Any, caller: Caller) -> Any:
        account = self._account(request.resource, caller, "iam.serviceAccounts.setIamPolicy")
        return self._state.policies.write(account.name, request.policy)

    def _test(self, request: Any, caller: Caller) -> Any:
        account = self._state.account(request.resource)
        where = (account.name, f"projects/{account.project_id}")
        return tested(request, lambda each: self._state.allows(caller, each, *where))

    def _account(self, name: str, caller: Caller, permission: str) -> Any:
        account = self._state.account(name)
        self._state.require(caller, permission, account.name, f"projects/{account.project_id}")
        return account


def _check(account: Any) -> None:
    if len(account.display_name.encode()) > MAX_NAME_BYTES:
        raise invalid(f"The display name has more than {MAX_NAME_BYTES} bytes.")
    if len(account.description.encode()) > MAX_DESCRIPTION_BYTES:
        raise invalid(f"The description has more than {MAX_DESCRIPTION_BYTES} bytes.")
