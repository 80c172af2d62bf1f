"""The Artifact Registry repository of a cluster's images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.operations import wait_for_operation
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.errors import CloudError
from kinetic_flows.platforms.gke.setup import costs, names
from kinetic_flows.platforms.gke.setup.model import Change, Tell

DOCKER = "DOCKER"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """An Artifact Registry repository for images.

    It has no cleanup policy: which images runs and deployments still use, only Prefect knows, and
    `kinetic images` removes the others.

    Attributes:
        apis: Google's APIs.
        project: The project it is in.
        region: The region it is in.
        cluster: The cluster it is for.
    """

    apis: GoogleApis
    project: str
    region: str
    cluster: str
    kind: str = "image repository"

    @property
    def name(self) -> str:
        """Its id."""
        return f"kn-{self.cluster}"

    @property
    def resource(self) -> str:
        """Its name in Google's API."""
        return f"{self._parent}/repositories/{self.name}"

    def creation(self) -> Change:
        """Return that it is made."""
        return Change(
            kind=self.kind,
            name=self.name,
            action="create",
            details=(f"in {self.region}, for Docker images",),
            cost=costs.registry_cost(),
        )

    def compare(self) -> Change:
        """Look whether it is there, and for images.

        Raises:
            CloudError: A repository of this name holds something else.
        """
        found = self._find()
        if found is None:
            return self.creation()
        self._require_images(found)
        return self._change("keep")

    def apply(self, tell: Tell) -> None:
        """Make it, and wait until it is there."""
        found = self._find()
        if found is not None:
            self._require_images(found)
            return
        what = f"create repository {self.name} in {self.region}"
        try:
            operation = self.apis.call(what, self._ask_for_it)
            wait_for_operation(self.apis, operation, what, tell)
        except CloudRefusal as error:
            if error.reason != "name-taken":  # by a run of this at the same time
                raise

    def plan_removal(self, *, purge: bool) -> Change:
        """Look whether it is there, was made here, and may go with its images."""
        found = self._find()
        if found is None:
            return self._change("keep")
        if not self._is_ours(found):
            return self._change("leave", why="it was not made by kinetic up")
        if not purge:
            return self._change("leave", why="it holds images; --purge removes it with them")
        return self._change("remove", details=("with all its images",))

    def remove(self, tell: Tell) -> None:
        """Remove it with its images, if it was made here, and wait until it is gone."""
        found = self._find()
        if found is None or not self._is_ours(found):
            return
        what = f"delete repository {self.name}"
        operation = self.apis.find(
            what, lambda: self.apis.artifacts.delete_repository(name=self.resource)
        )
        if operation is not None:
            wait_for_operation(self.apis, operation, what, tell)

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    def _find(self) -> Any | None:
        return self.apis.find(
            f"look at repository {self.name}",
            lambda: self.apis.artifacts.get_repository(name=self.resource),
        )

    def _is_ours(self, repository: Any) -> bool:
        return bool(repository.labels.get(names.MANAGED_LABEL) == self.cluster)

    def _require_images(self, repository: Any) -> None:
        if repository.format_.name != DOCKER:
            raise CloudError(
                f"the Artifact Registry repository {self.name} in {self.region} holds "
                f"{repository.format_.name.lower()} packages, not images",
                value=self.resource,
                hint="take another name for the cluster, after which it is named: --cluster",
            )

    def _ask_for_it(self) -> Any:
        from google.cloud.artifactregistry_v1 import Repository as Message

        repository = Message(
            format_=Message.Format.DOCKER,
            description=f"images of kinetic runs on {self.cluster}",
            labels=names.labels(self.cluster),
        )
        return self.apis.artifacts.create_repository(
            parent=self._parent, repository_id=self.name, repository=repository
        )

    def _change(self, action: Any, details: tuple[str, ...] = (), why: str = "") -> Change:
        return Change(kind=self.kind, name=self.name, action=action, details=details, why=why)
