"""Google service accounts: what nodes, builds, pods and the worker are to Google Cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.model import Change, Tell

Purpose = Literal["nodes", "builds", "pods", "launch"]

_TITLES: dict[str, str] = {
    "nodes": "nodes of {cluster}",
    "builds": "image builds for {cluster}",
    "pods": "pods of runs on {cluster}",
    "launch": "the worker that launches runs on {cluster}",
}
MAX_TITLE_CHARACTERS = 100


@dataclass(frozen=True, kw_only=True)
class ServiceAccount:
    """A Google service account of a cluster; it has no keys.

    https://cloud.google.com/iam/docs/service-accounts-create

    Attributes:
        apis: Google's APIs.
        project: The project it is in.
        cluster: The cluster it is for.
        purpose: What is this account.
    """

    apis: GoogleApis
    project: str
    cluster: str
    purpose: Purpose
    kind: str = "service account"

    @property
    def name(self) -> str:
        """Its id, which is the first part of its address."""
        return names.account_id(self.cluster, self.purpose)

    @property
    def email(self) -> str:
        """Its address."""
        return names.account_email(self.project, self.cluster, self.purpose)

    @property
    def resource(self) -> str:
        """Its name in Google's API."""
        return f"projects/{self.project}/serviceAccounts/{self.email}"

    def creation(self) -> Change:
        """Return that it is made."""
        return Change(
            kind=self.kind, name=self.name, action="create", details=(f"for {self._title}",)
        )

    def compare(self) -> Change:
        """Look whether it is there and enabled."""
        found = self._find()
        if found is None:
            return self.creation()
        if found.disabled and self._is_ours(found):
            return self._change("change", details=("enable it: it is disabled",))
        return self._change("keep")

    def apply(self, tell: Tell) -> None:
        """Make it, or enable it."""
        found = self._find()
        if found is None:
            self._create()
        elif found.disabled and self._is_ours(found):
            tell("enabling it")
            request = {"name": self.resource}
            self.apis.call(
                f"enable service account {self.email}",
                lambda: self.apis.iam.enable_service_account(request=request),
            )

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002
        """Look whether it is there, and was made here."""
        found = self._find()
        if found is None:
            return self._change("keep")
        if not self._is_ours(found):
            return self._change("leave", why="it was not made by kinetic up")
        return self._change("remove")

    def remove(self, tell: Tell) -> None:  # noqa: ARG002
        """Remove it, if it was made here."""
        found = self._find()
        if found is None or not self._is_ours(found):
            return
        what = f"delete service account {self.email}"
        self.apis.find(what, lambda: self.apis.iam.delete_service_account(name=self.resource))

    def is_known(self) -> bool:
        """Return whether IAM knows it: of one that it does not, it says that nobody may look.

        https://github.com/hashicorp/terraform-provider-google/issues/11208
        """
        try:
            return self._get() is not None
        except CloudRefusal as error:
            if error.reason != "permission":
                raise
            return False

    @property
    def _title(self) -> str:
        return _TITLES[self.purpose].format(cluster=self.cluster)

    def _change(self, action: Any, details: tuple[str, ...] = (), why: str = "") -> Change:
        return Change(kind=self.kind, name=self.name, action=action, details=details, why=why)

    def _is_ours(self, account: Any) -> bool:
        return names.is_marked(account.description, self.cluster)

    def _get(self) -> Any | None:
        return self.apis.find(
            f"look at service account {self.email}",
            lambda: self.apis.iam.get_service_account(name=self.resource),
        )

    def _find(self) -> Any | None:
        try:
            return self._get()
        except CloudRefusal as error:
            # IAM says so of accounts that are not there, too.
            if error.reason != "permission":
                raise
            return self._listed(error)

    def _listed(self, refused: CloudRefusal) -> Any | None:
        """Return it from the list of all, where that may be looked at."""
        request = {"name": f"projects/{self.project}", "page_size": 100}
        try:
            found = self.apis.read(
                f"list the service accounts of project {self.project}",
                lambda: list(self.apis.iam.list_service_accounts(request=request)),
            )
        except CloudRefusal as error:
            raise refused from error
        return next((account for account in found if account.email == self.email), None)

    def _create(self) -> None:
        request = {
            "name": f"projects/{self.project}",
            "account_id": self.name,
            "service_account": {
                "display_name": f"kinetic: {self._title}"[:MAX_TITLE_CHARACTERS],
                "description": names.description(self.cluster),
            },
        }
        try:
            self.apis.call(
                f"create service account {self.name}",
                lambda: self.apis.iam.create_service_account(request=request),
            )
        except CloudRefusal as error:
            if error.reason != "name-taken":  # by a run of this at the same time
                raise
