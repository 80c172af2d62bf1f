"""Service Usage: which APIs a project has switched on.

https://cloud.google.com/service-usage/docs/reference/rpc/google.api.serviceusage.v1
"""

from __future__ import annotations

import re
from typing import Any

from google.cloud import service_usage_v1 as api

from loopback.google.answers import Code, GoogleRefusal, info, invalid, no_billing
from loopback.google.operations import Operations, long_running
from loopback.google.state import Caller, GoogleState, Project

SERVICE = "google.api.serviceusage.v1.ServiceUsage"
KNOWN = frozenset(
    (
        *("artifactregistry", "autoscaling", "bigquery", "cloudapis", "cloudbilling"),
        *("cloudbuild", "cloudresourcemanager", "cloudtrace", "compute", "container"),
        *("containerfilesystem", "containerregistry", "datastore", "dns", "iam"),
        *("iamcredentials", "logging", "monitoring", "networkconnectivity", "oslogin", "pubsub"),
        *("secretmanager", "servicemanagement", "serviceusage", "storage", "storage-api"),
        *("storage-component", "sts", "tpu"),
    )
)
_PAID = frozenset({"artifactregistry", "cloudbuild", "compute", "container", "secretmanager"})
_BRINGS = {
    "compute": {"oslogin"},
    "container": {"compute", "autoscaling", "iam", "iamcredentials", "artifactregistry", "dns"},
    "cloudbuild": {"logging", "pubsub", "storage-api", "storage-component"},
}
"""What comes on with an API."""

_MAX_ENABLED, _MAX_READ = 20, 30
_NAME = re.compile(r"projects/[^/]+/services/([a-z-]+)\.googleapis\.com")


class ServiceUsage:
    """Switches APIs on and off, and says which are on."""

    def __init__(self, state: GoogleState, operations: Operations) -> None:
        self._state = state
        self._operations = operations

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "ListServices": (api.ListServicesRequest, self._list),
            "BatchEnableServices": (api.BatchEnableServicesRequest, self._enable_all),
            "BatchGetServices": (api.BatchGetServicesRequest, self._get_all),
        }

    def _enable_all(self, request: Any, caller: Caller) -> Any:
        project = self._project(request.parent, caller, "serviceusage.services.enable")
        ids = list(request.service_ids)
        if not 0 < len(ids) <= _MAX_ENABLED:
            raise invalid(f"service_ids must name 1 to {_MAX_ENABLED} services")
        wanted = [_api(f"{project.resource}/services/{each}") for each in ids]

        def enabled() -> Any:
            shown = [_shown(project, each) for each in wanted]
            return api.BatchEnableServicesResponse(services=shown)

        return long_running(self._begin(project, wanted, enabled))

    def _begin(self, project: Project, wanted: list[str], made: Any) -> Any:
        off = [each for each in wanted if each not in project.apis]
        unpaid = [f"{each}.googleapis.com" for each in off if each in _PAID]
        if unpaid and project.billing_account is None:
            raise no_billing(project.number, ",".join(unpaid))

        def finish() -> Any:
            self.switch_on(project, off)
            return made()

        name = f"operations/acat.p2-{project.number}-{{n}}" if off else "operations/noop.{n}"
        return self._operations.begin(name, finish, steps=None if off else 0)

    def switch_on(self, project: Project, wanted: list[str]) -> None:
        """Switch APIs on, with what comes with them."""
        for each in [one for name in wanted for one in (name, *_BRINGS.get(name, ()))]:
            if each not in project.apis:
                project.apis.add(each)
                project.coming[each] = self._state.api_lag
        if "compute" in project.apis and not project.networks:
            # https://cloud.google.com/vpc/docs/vpc#default-network
            project.networks["default"] = {"name": "default", "autoCreateSubnetworks": True}

    def _get_all(self, request: Any, caller: Caller) -> Any:
        project = self._project(request.parent, caller, "serviceusage.services.get")
        if not 0 < len(request.names) <= _MAX_READ:
            raise invalid(f"names must name 1 to {_MAX_READ} services")
        shown = [_shown(project, _api(name)) for name in request.names]
        return api.BatchGetServicesResponse(services=shown)

    def _list(self, request: Any, caller: Caller) -> Any:
        project = self._project(request.parent, caller, "serviceusage.services.list")
        if request.filter not in ("", "state:ENABLED", "state:DISABLED"):
            raise invalid(f"Invalid filter: {request.filter}")
        shown = [_shown(project, each) for each in sorted(KNOWN)]
        wanted = request.filter.removeprefix("state:")
        return api.ListServicesResponse(
            services=[each for each in shown if wanted in ("", each.state.name)]
        )

    def _project(self, name: str, caller: Caller, permission: str) -> Project:
        project = self._state.project(name)
        self._state.require(caller, permission, project.resource)
        return project


def _api(name: str) -> str:
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in KNOWN:
        service = name.rpartition("/")[2]
        raise GoogleRefusal(
            Code.PERMISSION_DENIED,
            f"Not found or permission denied for service(s): {service}.",
            info(
                "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED",
                "serviceusage.googleapis.com",
                {"services": service},
            ),
        )
    return match[1]


def _shown(project: Project, name: str) -> Any:
    service = f"{name}.googleapis.com"
    return api.Service(
        name=f"projects/{project.number}/services/{service}",
        parent=f"projects/{project.number}",
        config={"name": service, "title": f"{name} API"},
        state=api.State.ENABLED if name in project.apis else api.State.DISABLED,
    )
