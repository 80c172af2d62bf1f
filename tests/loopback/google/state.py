"""What the loopback Google keeps: projects, who may do what, and what there is of each kind."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from google.cloud import iam_admin_v1

from loopback.google.answers import missing, no_permission
from loopback.google.policies import Policies
from loopback.google.roles import permissions_of

OWNER = "owner@example.com"
PROJECT = "loopback"
BILLING_ACCOUNT = "billingAccounts/01AB23-CD45EF-678901"

DEFAULT_APIS = frozenset(
    (
        *("bigquery", "cloudapis", "cloudtrace", "datastore", "logging", "monitoring"),
        *("servicemanagement", "serviceusage", "storage-api", "storage-component", "storage"),
    )
)
"""What a new project has on: https://cloud.google.com/service-usage/docs/enabled-service#default."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who makes a call.

    Attributes:
        email: The address.
        consumer: The project that the call counts for.
    """

    email: str
    consumer: str

    @property
    def member(self) -> str:
        """Who it is, as IAM writes it."""
        return member_of(self.email)


def member_of(email: str) -> str:
    """Return an address as IAM writes it."""
    kind = "serviceAccount" if email.endswith(".gserviceaccount.com") else "user"
    return f"{kind}:{email}"


@dataclass(kw_only=True)
class Project:
    """A project.

    Attributes:
        id: Its id.
        number: Its number.
        name: Its display name.
        apis: The APIs that are on, by the first word of their host.
        coming: APIs that are on, and go on refusing so many calls.
        billing_account: Who pays; None for nobody.
        limits: Quotas of Compute Engine of every region, by metric.
        used: How much of them is used.
        networks: The VPC networks.
    """

    id: str
    number: str
    name: str = ""
    apis: set[str] = field(default_factory=lambda: set(DEFAULT_APIS))
    coming: dict[str, int] = field(default_factory=dict)
    billing_account: str | None = BILLING_ACCOUNT
    limits: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_LIMITS))
    used: dict[str, float] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        """Its name in the APIs."""
        return f"projects/{self.id}"

    def answers(self, api: str) -> bool:
        """Whether an API answers for it."""
        if self.coming.get(api, 0) > 0:
            self.coming[api] -= 1
            return False
        return api in self.apis


DEFAULT_LIMITS: Mapping[str, float] = {
    "CPUS": 72.0,
    "A2_CPUS": 12.0,
    "A3_CPUS": 0.0,
    "C2_CPUS": 24.0,
    "DISKS_TOTAL_GB": 4096.0,
    "SSD_TOTAL_GB": 500.0,
    "IN_USE_ADDRESSES": 8.0,
    "ROUTERS": 10.0,
    "NVIDIA_L4_GPUS": 4.0,
    "NVIDIA_T4_GPUS": 4.0,
    "NVIDIA_A100_GPUS": 1.0,
    "NVIDIA_A100_80GB_GPUS": 0.0,
    "NVIDIA_H100_GPUS": 0.0,
    "NVIDIA_V100_GPUS": 1.0,
    "PREEMPTIBLE_CPUS": 0.0,
    "PREEMPTIBLE_NVIDIA_L4_GPUS": 4.0,
    "PREEMPTIBLE_NVIDIA_T4_GPUS": 4.0,
    "PREEMPTIBLE_NVIDIA_A100_GPUS": 1.0,
    "PREEMPTIBLE_NVIDIA_H100_GPUS": 0.0,
}
"""About what a project has that has asked for no more."""


class GoogleState:
    """Everything that Google keeps, behind one lock.

    Attributes:
        tokens: Whose access tokens there are.
        denied: Permissions that callers lack, whatever their roles: pairs of an address (`*` for
            everybody) and a pattern of permissions.
        account_lag: So many policies that name a new service account are refused, as it takes a
            while until it is known everywhere.
        api_lag: So many calls to an API are refused after it was switched on.
        lacking: What zones lack: pairs of a zone and a machine type or an accelerator's label.
        reservations: Reservations by zone and name, as Compute Engine has them.
        steps: How many looks at an operation it takes to end.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.projects: dict[str, Project] = {}
        self.tokens: dict[str, str] = {}
        self.denied: set[tuple[str, str]] = set()
        self.policies = Policies(self.account_exists)
        self.accounts: dict[str, iam_admin_v1.ServiceAccount] = {}
        self.account_lag = 0
        self.api_lag = 0
        self.lacking: set[tuple[str, str]] = set()
        self.reservations: dict[tuple[str, str], dict[str, Any]] = {}
        self.steps = 2
        self._numbers = itertools.count(100_000_000_001)
        self._young: dict[str, int] = {}

    def add_project(self, project_id: str, owner: str = OWNER, **changes: Any) -> Project:
        """Make a project, as somebody's own."""
        with self.lock:
            made = Project(id=project_id, number=str(next(self._numbers)), **changes)
            made.name = made.name or project_id
            self.projects[project_id] = made
            self.policies.grant(made.resource, "roles/owner", member_of(owner))
            return made

    def project(self, name: str) -> Project:
        """Return a project by its id, its number or its name in the APIs.

        Raises:
            GoogleRefusal: There is none.
        """
        wanted = name.removeprefix("projects/").split("/")[0]
        for project in self.projects.values():
            if wanted in (project.id, project.number):
                return project
        # Whether there is none is told to nobody who may not know.
        raise no_permission("resourcemanager.projects.get", f"projects/{wanted}")

    def has(self, zone: str, what: str) -> bool:
        """Whether a zone has a machine type or an accelerator."""
        return (zone, what) not in self.lacking

    def new_number(self) -> str:
        """Return a number that nothing else has."""
        return str(next(self._numbers))

    def allows(self, caller: Caller, permission: str, *resources: str) -> bool:
        """Whether somebody has a permission on one of some resources."""
        for who, pattern in self.denied:
            if who in ("*", caller.email) and fnmatchcase(permission, pattern):
                return False
        return any(
            any(fnmatchcase(permission, pattern) for pattern in permissions_of(role))
            for resource in resources
            for role in self.policies.roles(resource, caller.member)
        )

    def require(self, caller: Caller, permission: str, *resources: str) -> None:
        """Refuse what somebody may not do.

        Args:
            caller: Who.
            permission: The permission.
            resources: What it is about, and what that belongs to.

        Raises:
            GoogleRefusal: It is not allowed.
        """
        if not self.allows(caller, permission, *resources):
            raise no_permission(permission, resources[0])

    def account_exists(self, email: str) -> bool:
        """Whether there is a service account, as far as policies are concerned."""
        if self._young.get(email, 0) > 0:
            self._young[email] -= 1
            return False
        if email in self.accounts or not email.endswith(".iam.gserviceaccount.com"):
            return True
        return email.partition("@")[2].removesuffix(".iam.gserviceaccount.com") not in self.projects

    def add_account(self, account: iam_admin_v1.ServiceAccount) -> None:
        """Keep a service account."""
        self.accounts[account.email] = account
        self._young[account.email] = self.account_lag

    def account(self, name: str) -> iam_admin_v1.ServiceAccount:
        """Return a service account by its name in the API, its address or its number.

        Raises:
            GoogleRefusal: There is none.
        """
        wanted = name.rpartition("/")[2]
        for account in self.accounts.values():
            if wanted in (account.email, account.unique_id):
                return account
        raise missing(f"Unknown service account: {wanted}")
