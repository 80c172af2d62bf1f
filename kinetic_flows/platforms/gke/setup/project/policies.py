"""Roles on things: read, changed and written back, so that nobody's change is lost.

What others wrote stays: their members, bindings with conditions, audit configurations.
https://cloud.google.com/iam/docs/policies#etag
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.platforms.gke.setup.project.buckets import bucket_taken
from kinetic_flows.platforms.gke.setup.project.grants import Grant

TIMEOUT_SECONDS = 30.0
POLICY_VERSION = 3
"""The version that shows conditions; one that does not would lose them when it is written back."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Who has a role.

    Attributes:
        role: The role.
        members: Who has it.
        condition: When they have it, in the API's own type; None for always.
    """

    role: str
    members: tuple[str, ...]
    condition: Any = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The roles on something.

    Attributes:
        bindings: Who has which role.
        original: The policy in its API's own type, with its etag.
    """

    bindings: tuple[Binding, ...]
    original: Any

    def grants(self) -> tuple[Grant, ...]:
        """Return every role that somebody has without a condition."""
        return tuple(
            Grant(role=binding.role, member=member)
            for binding in self.bindings
            if binding.condition is None
            for member in binding.members
        )

    def lacks(self, grants: Iterable[Grant]) -> tuple[Grant, ...]:
        """Return those that are not in it."""
        held = {grant.key for grant in self.grants()}
        return tuple(grant for grant in grants if grant.key not in held)


def with_grants(bindings: Sequence[Binding], grants: Iterable[Grant]) -> tuple[Binding, ...]:
    """Return bindings with grants added, each to the binding of its role that has no condition."""
    found = list(bindings)
    for grant in grants:
        index = next((at for at, each in enumerate(found) if _is_of(each, grant)), None)
        if index is None:
            found.append(Binding(role=grant.role, members=(grant.member,)))
        elif grant.member not in found[index].members:
            members = (*found[index].members, grant.member)
            found[index] = Binding(role=grant.role, members=members)
    return tuple(found)


def without_grants(bindings: Sequence[Binding], grants: Iterable[Grant]) -> tuple[Binding, ...]:
    """Return bindings without grants; one that nobody has any more is left out."""
    gone = set(grants)
    kept = []
    for binding in bindings:
        if binding.condition is not None:
            kept.append(binding)
            continue
        left = tuple(
            member
            for member in binding.members
            if Grant(role=binding.role, member=member) not in gone
        )
        if left:
            kept.append(Binding(role=binding.role, members=left))
    return tuple(kept)


def _is_of(binding: Binding, grant: Grant) -> bool:
    return binding.role == grant.role and binding.condition is None


class Holder(Protocol):
    """Something that people have roles on."""

    @property
    def title(self) -> str:
        """What it is, in words."""
        ...

    @property
    def resource(self) -> str:
        """Its name in Google's APIs."""
        ...

    def read(self) -> Policy:
        """Return its policy.

        Raises:
            CloudRefusal: It may not be looked at, or the thing is not there.
        """
        ...

    def write(self, policy: Policy, bindings: Sequence[Binding]) -> None:
        """Replace its bindings, unless its policy is not the one given any more.

        Raises:
            CloudRefusal: It is not (`conflict`), or may not be changed.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class GrpcHolder:
    """A project, a service account or a repository: their APIs have policies alike.

    Attributes:
        apis: Google's APIs.
        title: What it is, in words.
        resource: Its name.
        client: Returns the client of its API.
        is_known: Tells whether it is there, where its API says of what is not, or not yet, that
            one has no right to it; None where the API tells the two apart.
    """

    apis: GoogleApis
    title: str
    resource: str
    client: Callable[[], Any]
    is_known: Callable[[], bool] | None = None

    def read(self) -> Policy:
        """Return its policy."""
        found = self._read()
        bindings = tuple(
            Binding(
                role=each.role,
                members=tuple(each.members),
                condition=each.condition if each.HasField("condition") else None,
            )
            for each in found.bindings
        )
        return Policy(bindings=bindings, original=found)

    def write(self, policy: Policy, bindings: Sequence[Binding]) -> None:
        """Replace its bindings."""
        changed = type(policy.original)()
        changed.CopyFrom(policy.original)
        del changed.bindings[:]
        for each in bindings:
            changed.bindings.add(role=each.role, members=each.members, condition=each.condition)
        request = {"resource": self.resource, "policy": changed}
        self.apis.call(
            f"change the roles on {self.title}",
            lambda: self.client().set_iam_policy(request=request, timeout=TIMEOUT_SECONDS),
        )

    def _read(self) -> Any:
        options = {"requested_policy_version": POLICY_VERSION}
        request = {"resource": self.resource, "options": options}
        try:
            return self.apis.read(
                f"look at the roles on {self.title}",
                lambda: self.client().get_iam_policy(request=request, timeout=TIMEOUT_SECONDS),
            )
        except CloudRefusal as error:
            if error.reason == "permission" and self.is_known and not self.is_known():
                error.reason = "missing"
            raise


@dataclass(frozen=True, kw_only=True)
class BucketHolder:
    """A bucket.

    Attributes:
        apis: Google's APIs.
        bucket: Its name.
        project: The project that it should be in: what it refuses is told as what another's
            bucket does; None to tell it as it is.
    """

    apis: GoogleApis
    bucket: str
    project: str | None = None

    @property
    def title(self) -> str:
        """What it is, in words."""
        return f"bucket gs://{self.bucket}"

    @property
    def resource(self) -> str:
        """Its URL."""
        return f"gs://{self.bucket}"

    def read(self) -> Policy:
        """Return its policy."""
        found = self._read()
        bindings = tuple(
            Binding(
                role=each["role"],
                members=tuple(sorted(each.get("members", ()))),
                condition=each.get("condition"),
            )
            for each in found.bindings
        )
        return Policy(bindings=bindings, original=found)

    def write(self, policy: Policy, bindings: Sequence[Binding]) -> None:
        """Replace its bindings."""
        original = policy.original
        changed = type(original)(etag=original.etag, version=original.version)
        changed.bindings = [
            {"role": each.role, "members": list(each.members)}
            | ({"condition": each.condition} if each.condition else {})
            for each in bindings
        ]
        self.apis.call(
            f"change the roles on {self.title}",
            lambda: self.apis.storage.bucket(self.bucket).set_iam_policy(
                changed, timeout=TIMEOUT_SECONDS
            ),
        )

    def _read(self) -> Any:
        try:
            return self.apis.read(
                f"look at the roles on {self.title}",
                lambda: self.apis.storage.bucket(self.bucket).get_iam_policy(
                    requested_policy_version=POLICY_VERSION, timeout=TIMEOUT_SECONDS
                ),
            )
        except CloudRefusal as error:
            if error.reason == "permission" and self.project:
                raise bucket_taken(self.bucket, self.project) from error
            raise
