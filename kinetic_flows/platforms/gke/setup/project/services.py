"""The project, which must be there and have billing, and its APIs, which are turned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.operations import wait_for_operation
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.errors import CloudError
from kinetic_flows.platforms.gke.setup.model import Change, Tell

APIS = (
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "container.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "storage.googleapis.com",
)
"""What runs and setting up ask. IAM Credentials is asked by the pods, which become their Google
service account through it.

https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity
"""

_UNTOLD = ("api-off", "permission", "missing")
"""Why it cannot be told whether a project has billing: then Google says it when it matters."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """The project: it is looked at, and neither made, changed nor removed.

    Attributes:
        apis: Google's APIs.
        name: The project's id.
    """

    apis: GoogleApis
    name: str
    kind: str = "project"

    def creation(self) -> Change:
        """Return that it is taken as it is: an API that is off does not tell of it."""
        return Change(kind=self.kind, name=self.name, action="keep")

    def compare(self) -> Change:
        """Look whether it is there and has billing.

        Raises:
            CloudError: It is not, it has not, or we may not look.
        """
        project = self._find()
        if project is not None:
            self._require_billing()
        return self.creation()

    def apply(self, tell: Tell) -> None:
        """Do nothing: it is looked at before anything is done."""

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002
        """Look whether it is there; it is not removed, with billing or without."""
        self._find()
        return self.creation()

    def remove(self, tell: Tell) -> None:
        """Do nothing."""

    def _find(self) -> Any | None:
        """Return the project; None where the API that tells of it is off."""
        try:
            found = self.apis.read(
                f"look at project {self.name}",
                lambda: self.apis.projects.get_project(name=f"projects/{self.name}"),
            )
        except CloudRefusal as error:
            if error.reason == "api-off":
                return None
            if error.reason in ("missing", "permission"):
                raise _no_project(self.name) from error
            raise
        if found.state.name == "DELETE_REQUESTED":
            raise CloudError(
                f"project {self.name} is being deleted",
                value=self.name,
                hint=f"`gcloud projects undelete {self.name}` brings it back; or take another",
            )
        return found

    def _require_billing(self) -> None:
        name = f"projects/{self.name}"
        try:
            billing = self.apis.read(
                f"look at the billing of project {self.name}",
                lambda: self.apis.billing.get_project_billing_info(name=name),
            )
        except CloudRefusal as error:
            if error.reason in _UNTOLD:
                return
            raise
        if not billing.billing_enabled:
            raise CloudError(
                f"project {self.name} has no billing account, without which Google makes no "
                "cluster and no bucket",
                value=self.name,
                hint=f"`gcloud billing projects link {self.name} --billing-account=ACCOUNT` links "
                "one; `gcloud billing accounts list` lists yours",
            )


def _no_project(project: str) -> CloudError:
    # Google answers alike for both, so that nobody can find out what projects there are.
    return CloudError(
        f"there is no project {project!r}, or you may not look at it",
        value=project,
        hint="list yours with: gcloud projects list; make one with: gcloud projects create "
        f"{project}; or ask its owner for roles/editor and roles/resourcemanager.projectIamAdmin",
    )


@dataclass(frozen=True, kw_only=True)
class Services:
    """The APIs that runs need, which are turned on and never off: others may use them.

    https://cloud.google.com/service-usage/docs/enable-disable

    Attributes:
        apis: Google's APIs.
        project: The project.
        services: Names of the APIs.
    """

    apis: GoogleApis
    project: str
    services: tuple[str, ...] = APIS
    kind: str = "APIs"

    @property
    def name(self) -> str:
        """The project that they are turned on in."""
        return self.project

    def creation(self) -> Change:
        """Return that all of them are turned on."""
        return self._change(self.services)

    def compare(self) -> Change:
        """Look which are off."""
        return self._change(self.off())

    def apply(self, tell: Tell) -> None:
        """Turn on those that are off, and wait until they are on."""
        off = self.off()
        if not off:
            return
        tell(f"turning on {_listed(off)}")
        request = {"parent": f"projects/{self.project}", "service_ids": list(off)}
        what = f"turn on {_listed(off)} in project {self.project}"
        operation = self.apis.call(
            what, lambda: self.apis.services.batch_enable_services(request=request)
        )
        wait_for_operation(self.apis, operation, what, tell)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002
        """Return that they stay on."""
        return Change(
            kind=self.kind,
            name=self.name,
            action="leave",
            why="they stay on: others may use them, and being on costs nothing",
        )

    def remove(self, tell: Tell) -> None:
        """Do nothing."""

    def off(self) -> tuple[str, ...]:
        """Look which of them are off.

        Raises:
            CloudError: They cannot be looked at.
        """
        parent = f"projects/{self.project}"
        request = {
            "parent": parent,
            "names": [f"{parent}/services/{service}" for service in self.services],
        }
        try:
            answer = self.apis.read(
                f"look which APIs are on in project {self.project}",
                lambda: self.apis.services.batch_get_services(request=request),
            )
        except CloudRefusal as error:
            if error.reason == "api-off":  # it cannot be turned on through itself
                raise CloudError(error.message, value=error.value, hint=error.hint) from error
            named = (error.subject or "").startswith("serviceusage.")
            if error.reason in ("missing", "permission") and not named:
                # Nobody else has told: the API of projects is off where these calls count.
                raise _no_project(self.project) from error
            raise
        on = {
            service.name.rpartition("/")[2]
            for service in answer.services
            if service.state.name == "ENABLED"
        }
        return tuple(service for service in self.services if service not in on)

    def _change(self, off: tuple[str, ...]) -> Change:
        return Change(
            kind=self.kind,
            name=self.name,
            action="change" if off else "keep",
            details=(f"turn on {_listed(off)}",) if off else (),
        )


def _listed(services: tuple[str, ...]) -> str:
    """Return APIs by the first words of their hosts, as people call them."""
    return ", ".join(service.partition(".")[0] for service in services)
