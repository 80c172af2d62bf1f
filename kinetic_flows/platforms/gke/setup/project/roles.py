"""Roles on one thing as a resource: those that lack are granted, and taken back on removal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.platforms.gke.setup.model import Change, Tell
from kinetic_flows.platforms.gke.setup.project.grants import EVERY_ROLE, Grant
from kinetic_flows.platforms.gke.setup.project.ledger import Ledger
from kinetic_flows.platforms.gke.setup.project.policies import (
    Holder,
    Policy,
    with_grants,
    without_grants,
)

PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Before a policy is read and written again: somebody was faster, or an account that was made
just now is not known everywhere, which takes up to a minute.
https://cloud.google.com/iam/docs/service-accounts-create
"""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Roles that people have on one thing.

    Attributes:
        holder: What they have them on.
        grants: Tells which; may ask Google who somebody is.
        own: Members that were made for the cluster, all of whose roles are its own.
        ledger: Where it is noted what others were granted.
        sharing: Returns the notes of other clusters that have roles there, too.
        kind: What this is.
    """

    holder: Holder
    grants: Callable[[], tuple[Grant, ...]]
    own: frozenset[str]
    ledger: Ledger
    sharing: Callable[[], tuple[Ledger, ...]] = tuple
    kind: str = "roles on"

    @property
    def name(self) -> str:
        """What they are on."""
        return self.holder.title

    def creation(self) -> Change:
        """Return that all of them are granted."""
        return self._change(self.grants())

    def compare(self) -> Change:
        """Look which lack."""
        return self._change(self.holder.read().lacks(self.grants()))

    def apply(self, tell: Tell) -> None:
        """Grant those that lack; written anew when somebody changed the policy meanwhile."""
        grants = self.grants()

        def attempt() -> None:
            policy = self._read()
            lacking = policy.lacks(grants)
            if not lacking:
                return
            others = [grant for grant in lacking if grant.member not in self.own]
            if others:
                self.ledger.note(self.holder.resource, others)
            self._write(lambda: self.holder.write(policy, with_grants(policy.bindings, lacking)))

        tell("granting")
        insist(attempt, PAUSES_SECONDS)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002
        """Look which there are of those that were granted here."""
        noted = self.ledger.on(self.holder.resource)
        noted = noted.difference(*self._shared(noted).values())
        held = self._granted(self.holder.read(), noted)
        return Change(
            kind=self.kind,
            name=self.name,
            action="remove" if held else "keep",
            details=tuple(str(grant) for grant in held),
        )

    def remove(self, tell: Tell) -> None:
        """Take back what was granted here, and nothing else.

        What another cluster's people need is that cluster's from now on.
        """
        noted = self.ledger.on(self.holder.resource)
        shared = self._shared(noted)
        for other, grants in shared.items():
            other.note(self.holder.resource, grants)
        gone = noted.difference(*shared.values())

        def attempt() -> None:
            policy = self.holder.read()
            held = self._granted(policy, gone)
            if held:
                left = without_grants(policy.bindings, held)
                self._write(lambda: self.holder.write(policy, left))

        tell("taking back")
        insist(attempt, PAUSES_SECONDS)
        self.ledger.forget(self.holder.resource, noted)

    def _shared(self, noted: frozenset[Grant]) -> dict[Ledger, frozenset[Grant]]:
        """Return what those need who launch runs on other clusters, too, by the clusters' notes."""
        others = self.sharing() if noted else ()
        return {other: other.of_same_people(noted) for other in others}

    def _granted(self, policy: Policy, noted: frozenset[Grant]) -> tuple[Grant, ...]:
        """Return what of a policy was granted here: to whom, does not depend on today's options."""
        granted = {grant.key for grant in noted}
        return tuple(
            grant
            for grant in policy.grants()
            if grant.key in granted or (grant.member in self.own and grant.role in EVERY_ROLE)
        )

    def _change(self, lacking: tuple[Grant, ...]) -> Change:
        return Change(
            kind=self.kind,
            name=self.name,
            action="change" if lacking else "keep",
            details=tuple(str(grant) for grant in lacking),
        )

    def _read(self) -> Policy:
        """Return the policy of something that is there, which not every machine of Google knows."""
        try:
            return self.holder.read()
        except CloudRefusal as error:
            if error.reason == "missing":
                raise Transient(error) from error
            raise

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except CloudRefusal as error:
            if error.reason in ("conflict", "busy") or self._is_too_early(error):
                raise Transient(error) from error
            raise

    def _is_too_early(self, error: CloudRefusal) -> bool:
        """Whether an account of the cluster's, which is there, is not known yet."""
        emails = (member.partition(":")[2] for member in self.own)
        return error.reason == "invalid" and any(email in error.words for email in emails)
