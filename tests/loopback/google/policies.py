"""IAM policies: who has which role on what, with etags against lost changes.

https://cloud.google.com/iam/docs/reference/rest/v1/Policy
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from google.iam.v1 import iam_policy_pb2, options_pb2, policy_pb2

from loopback.google.answers import GoogleRefusal, invalid, stale_policy

_MEMBER = re.compile(
    r"allUsers|allAuthenticatedUsers|"
    r"(?:user|serviceAccount|group|domain|principal|principalSet|project(?:Owner|Editor|Viewer)):"
    r"\S+|deleted:(?:user|serviceAccount|group):\S+\?uid=\d+"
)
_ROLE = re.compile(r"(?:(?:projects|organizations)/[^/]+/)?roles/[\w.]+")


@dataclass(kw_only=True)
class _Kept:
    """A policy as it is kept."""

    bindings: list[policy_pb2.Binding] = field(default_factory=list)
    version: int = 1
    changes: int = 1

    @property
    def etag(self) -> bytes:
        return f"etag-{self.changes}".encode()


class Policies:
    """The policies of everything, by the resource's name.

    Attributes:
        identity_pools: The pools of Kubernetes service accounts that there are: a project's comes
            with its first cluster that has Workload Identity, and stays.

    Args:
        exists: Whether there is a service account of an address.
    """

    def __init__(self, exists: Callable[[str], bool]) -> None:
        self._exists = exists
        self._kept: dict[str, _Kept] = {}
        self.identity_pools: set[str] = set()

    def read(self, resource: str, options: options_pb2.GetPolicyOptions) -> policy_pb2.Policy:
        """Return a policy; who does not ask for version 3 sees no conditions."""
        kept = self._of(resource)
        whole = options.requested_policy_version >= 3 or kept.version < 3
        bindings = kept.bindings if whole else [_without_condition(each) for each in kept.bindings]
        return policy_pb2.Policy(
            version=kept.version if whole else 1, etag=kept.etag, bindings=bindings
        )

    def write(self, resource: str, policy: policy_pb2.Policy) -> policy_pb2.Policy:
        """Take a policy, unless another was written since it was read.

        Raises:
            GoogleRefusal: It is stale, or cannot be.
        """
        kept = self._of(resource)
        if policy.etag and policy.etag != kept.etag:
            raise stale_policy()
        if policy.etag and kept.version == 3 and policy.version < 3:
            raise invalid("Policies with conditions must have version 3.")
        for binding in policy.bindings:
            self._check(binding, policy.version)
        conditions = any(binding.HasField("condition") for binding in policy.bindings)
        self._kept[resource] = _Kept(
            bindings=[_as_accounts_have_it(each) for each in policy.bindings],
            version=3 if conditions else 1,
            changes=kept.changes + 1,
        )
        return self.read(resource, options_pb2.GetPolicyOptions(requested_policy_version=3))

    def grant(self, resource: str, role: str, *members: str) -> None:
        """Give members a role, as somebody else does it."""
        kept = self._of(resource)
        kept.changes += 1
        for binding in kept.bindings:
            if binding.role == role and not binding.HasField("condition"):
                binding.members.extend(set(members) - set(binding.members))
                return
        kept.bindings.append(policy_pb2.Binding(role=role, members=members))

    def roles(self, resource: str, member: str) -> list[str]:
        """Return the roles that a member has on a resource."""
        mine = {member, "allUsers", "allAuthenticatedUsers"}
        kept = self._kept.get(resource)
        return [each.role for each in kept.bindings if mine & {*each.members}] if kept else []

    def members(self, resource: str, role: str) -> set[str]:
        """Return who has a role on a resource."""
        kept = self._kept.get(resource) or _Kept()
        return {who for each in kept.bindings if each.role == role for who in each.members}

    def bindings(self, resource: str) -> dict[str, set[str]]:
        """Return who has which role on a resource."""
        kept = self._kept.get(resource) or _Kept()
        return {each.role: {*each.members} for each in kept.bindings}

    def forget(self, resource: str) -> None:
        """Forget the policy of what is gone."""
        self._kept.pop(resource, None)

    def mark_deleted(self, member: str, unique_id: str) -> None:
        """Have policies say that a member of theirs is gone.

        https://cloud.google.com/iam/docs/troubleshooting-policies#deleted-principals
        """
        for kept in self._kept.values():
            for binding in kept.bindings:
                if member in binding.members:
                    others = [each for each in binding.members if each != member]
                    del binding.members[:]
                    binding.members.extend([*others, f"deleted:{member}?uid={unique_id}"])
                    kept.changes += 1

    def _of(self, resource: str) -> _Kept:
        return self._kept.setdefault(resource, _Kept())

    def _check(self, binding: policy_pb2.Binding, version: int) -> None:
        if not _ROLE.fullmatch(binding.role):
            raise invalid(f"Role {binding.role} is not supported for this resource.")
        if binding.HasField("condition") and version != 3:
            raise invalid("Conditions are supported by policies of version 3 only.")
        for member in binding.members:
            if not _MEMBER.fullmatch(member):
                raise invalid(f"Invalid member {member}.")
            kind, _, email = member.partition(":")
            pool = email.partition("[")[0]
            if "[" in email and pool not in self.identity_pools:
                # https://github.com/terraform-google-modules/terraform-google-kubernetes-engine/issues/916
                raise invalid(
                    f"Identity Pool does not exist ({pool}). Please check that you specified a "
                    "valid resource name as returned in the `name` attribute in the configuration "
                    "API."
                )
            if kind == "serviceAccount" and "[" not in email and not self._exists(email):
                raise invalid(f"Service account {email} does not exist.")


def _as_accounts_have_it(binding: policy_pb2.Binding) -> policy_pb2.Binding:
    """Return a binding with addresses as accounts have them, which here is in lower case.

    https://github.com/hashicorp/terraform-provider-google/issues/5107
    """
    kept = policy_pb2.Binding()
    kept.CopyFrom(binding)
    kept.members[:] = [
        each.lower() if each.startswith(("user:", "group:")) else each for each in binding.members
    ]
    return kept


def _without_condition(binding: policy_pb2.Binding) -> policy_pb2.Binding:
    """Return a binding as those see it who ask for version 1."""
    if not binding.HasField("condition"):
        return binding
    return policy_pb2.Binding(
        role=f"{binding.role}_withcond_0123456789abcdef", members=binding.members
    )


def tested(
    request: iam_policy_pb2.TestIamPermissionsRequest, allowed: Callable[[str], bool]
) -> iam_policy_pb2.TestIamPermissionsResponse:
    """Answer which of some permissions the caller has.

    Raises:
        GoogleRefusal: One has wildcards, or there are too many.
    """
    asked: Iterable[str] = request.permissions
    if not asked or len(request.permissions) > 100 or any("*" in each for each in asked):
        raise _bad_permissions()
    return iam_policy_pb2.TestIamPermissionsResponse(
        permissions=[each for each in asked if allowed(each)]
    )


def _bad_permissions() -> GoogleRefusal:
    return invalid("Permissions must be named, without wildcards, and at most 100 of them.")
