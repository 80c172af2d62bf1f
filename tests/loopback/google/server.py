"""Google's APIs on loopback: one port, gRPC and REST.

`LoopbackGoogle` starts with an empty project: there is nothing in it but what every new
project has, and the service account that the key file is of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from google.auth import external_account_authorized_user as person
from google.cloud import container_v1, iam_admin_v1
from google.oauth2 import service_account

from kinetic_flows.clients.google.apis import Endpoints, GoogleApis
from kinetic_flows.clients.google.identity import SCOPES
from loopback.google import (
    artifacts,
    container,
    operations,
    projects,
    service_accounts,
    service_usage,
)
from loopback.google.answers import GoogleRefusal
from loopback.google.buckets import BucketsApi, Objects
from loopback.google.calls import Calls, GoogleFault
from loopback.google.compute import Compute
from loopback.google.login import Login
from loopback.google.rest import Rest, Route
from loopback.google.rpc import GrpcServices, Service
from loopback.google.serving import Serving
from loopback.google.state import OWNER, PROJECT, Caller, GoogleState, Project, member_of
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.storage_wire import WireStorage
from loopback.wire import WireServer

APIS = (
    *("cloudbilling", "cloudresourcemanager", "compute", "container", "iam"),
    *("oauth2", "serviceusage"),
)


class LoopbackGoogle:
    """Google's APIs, for one project at first.

    Attributes:
        state: What Google keeps; a test may change it.
        calls: Every call that was made, by method and caller.
        clusters: GKE's clusters.
        compute: Routers.
        buckets: Cloud Storage's buckets.
        artifacts: Artifact Registry's repositories.
        serving: Their Kubernetes APIs.
        login: Keys and tokens.
        url: Where it is.

    Args:
        directory: Where key files and clusters are kept.
        serve: Makes a cluster that keeps what it is told in a directory; None for one whose
            containers are child processes.
        objects: URL of the storage server that has the objects; None for one of its own.
        served: The repositories that images may be pushed to, which it keeps; None for nobody's.
        project: Id of the project.
    """

    def __init__(
        self,
        directory: Path,
        *,
        serve: Callable[[Path], LoopbackCluster] | None = None,
        objects: str | None = None,
        served: set[str] | None = None,
        project: str = PROJECT,
    ) -> None:
        self.directory = directory
        self.state = GoogleState()
        self.calls = Calls(self.state)
        self.project: Project = self.state.add_project(project)
        self.operations = operations.Operations(self.state)
        self.serving = Serving(directory, self.state.tokens, self.state.reservations, serve=serve)
        self.clusters = container.Container(self.state, self.operations, self.serving)
        self.services = service_usage.ServiceUsage(self.state, self.operations)
        self.compute = Compute(self.state, self.operations)
        self._own_objects = None if objects else WireStorage()
        where = objects or str(self._own_objects and self._own_objects.url)
        self.buckets = BucketsApi(self.state, Objects(where))
        self.served = set() if served is None else served
        self.artifacts = artifacts.Artifacts(self.state, self.operations, self.served)
        self._grpc = GrpcServices(self.calls, self._services(), self._caller)
        self._rest = Rest(self.calls, self._routes(), self._caller)
        self._wire = WireServer(self._rest.answer, self._grpc.port)
        self.url = self._wire.url
        self.login = Login(self.state, self.url)
        self._rest.first = self.buckets.answer_objects
        self._rest.open["/token"] = self.login.token
        self._rest.open["/tokeninfo"] = self.login.token_info
        self.admin = self._add_admin()

    def __enter__(self) -> Self:
        """Start answering."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._own_objects:
            self._own_objects.start()
        self._grpc.start()
        self._wire.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop answering, and every cluster."""
        self._wire.stop()
        self._grpc.stop()
        if self._own_objects:
            self._own_objects.stop()
        self.serving.stop_all()

    @property
    def endpoints(self) -> str:
        """The value of `KINETIC_API_ENDPOINTS`."""
        return ",".join(f"{api}={self.url}" for api in APIS)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point the product's clients here, as the project's owner."""
        return {
            "KINETIC_API_ENDPOINTS": self.endpoints,
            "KINETIC_ARTIFACT_REGISTRY_ENDPOINT": self.url,
            "STORAGE_EMULATOR_HOST": self.url,
            # A person's: for a service account, Google's library asks Google itself, too.
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.person_file()),
            "GOOGLE_CLOUD_PROJECT": self.project.id,
        }

    def key_file(self, email: str | None = None) -> Path:
        """Write a service account's key file, and return where it is.

        Args:
            email: Its address; None for the one that owns the project.
        """
        email = email or self.admin
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.login.key_file(self.directory / f"{email}.json", email, self.project.id)

    def person_file(self, email: str = OWNER, quota_project: str | None = None) -> Path:
        """Write a person's login as gcloud leaves it, and return where it is.

        Args:
            email: Who; the project's owner where nobody else is said.
            quota_project: The project that calls count for; None for none.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.login.person_file(self.directory / f"{email}.json", email, quota_project)

    def fault(
        self,
        method: str,
        refusal: GoogleRefusal | None = None,
        *,
        times: int = 1,
        handled: bool = False,
        stall_seconds: float = 0.0,
        operation: str | None = None,
        who: str | None = None,
    ) -> AbstractContextManager[GoogleFault]:
        """Spoil calls of a method as long as the block runs; see `GoogleFault`."""
        return self.calls.fault(
            GoogleFault(
                method=method,
                refusal=refusal,
                times=times,
                handled=handled,
                stall_seconds=stall_seconds,
                operation=operation,
                who=who,
            )
        )

    def apis(self, key_file: Path | None = None) -> GoogleApis:
        """Return the product's clients of these APIs, as the project's owner or as somebody else.

        They do not wait between looks.

        Args:
            key_file: Whose; None for the owner's.
        """
        document = json.loads((key_file or self.person_file()).read_text())
        if document["type"] == "service_account":
            load: Any = service_account.Credentials.from_service_account_info
            credentials = load(document, scopes=list(SCOPES))
        else:
            credentials = person.Credentials.from_info(document)
        return GoogleApis(
            self.project.id,
            endpoints=Endpoints(
                apis=dict.fromkeys(APIS, self.url), artifact_registry=self.url, storage=self.url
            ),
            credentials=credentials,
            pauses_seconds=(0.01, 0.01),
            poll_seconds=0.01,
        )

    def cluster(self, name: str) -> LoopbackCluster:
        """Return the Kubernetes cluster that serves a GKE cluster of this name."""
        found = [each for path, each in self.serving.running.items() if path.endswith(f"/{name}")]
        assert found, f"no cluster {name} is running"
        return found[0]

    def switch_on(self, *apis: str) -> None:
        """Switch APIs of the project on, as somebody did before."""
        with self.state.lock:
            self.services.switch_on(self.project, list(apis))

    def _add_admin(self) -> str:
        email = f"admin@{self.project.id}.iam.gserviceaccount.com"
        self.state.add_account(
            iam_admin_v1.ServiceAccount(
                name=f"{self.project.resource}/serviceAccounts/{email}",
                project_id=self.project.id,
                unique_id=self.state.new_number(),
                email=email,
            )
        )
        self.state.policies.grant(self.project.resource, "roles/owner", member_of(email))
        return email

    def _services(self) -> list[Service]:
        resources = projects.Projects(self.state)
        bills = projects.Billing(self.state)
        accounts = service_accounts.ServiceAccounts(self.state)
        return [
            Service(api="container", name=container.SERVICE, methods=self.clusters.methods()),
            Service(
                api="serviceusage", name=service_usage.SERVICE, methods=self.services.methods()
            ),
            Service(
                api="cloudresourcemanager", name=projects.PROJECTS, methods=resources.methods()
            ),
            Service(api="cloudbilling", name=projects.BILLING, methods=bills.methods()),
            Service(api="iam", name=service_accounts.SERVICE, methods=accounts.methods()),
            Service(
                api="artifactregistry", name=artifacts.SERVICE, methods=self.artifacts.methods()
            ),
            Service(api="operations", name=operations.SERVICE, methods=self.operations.methods()),
        ]

    def _routes(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path=r"/v1/(projects/[^/]+/(?:locations|zones)/[^/]+/clusters/[^/]+)",
                name="clusters.get",
                api="container",
                act=lambda asked: container_v1.Cluster.to_dict(
                    self.clusters.described(asked.parts[0], asked.caller),
                    preserving_proto_field_name=False,
                    use_integers_for_enums=False,
                    always_print_fields_with_no_presence=False,
                ),
            ),
            *self.compute.routes(),
            *self.buckets.routes(),
        ]

    def _caller(self, headers: Callable[[str], str | None]) -> Caller:
        return self.login.caller(
            headers("authorization"), headers("x-goog-user-project"), self.project.id
        )
