"""What was granted to people and accounts that are not the cluster's own, to take just that back.

Somebody who may launch runs may have had a role before; it is theirs, and stays when the cluster
goes. So what is added is noted, before it is: in the bucket of builds, by which a second person
knows of it, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.errors import CloudError
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.platforms.gke.setup.names import MANAGED_LABEL
from kinetic_flows.platforms.gke.setup.project.grants import ROLES_OF_OTHERS, Grant

OBJECT = "setup/granted.json"
TIMEOUT_SECONDS = 30.0
PAUSES_SECONDS = (0.1, 0.3, 1.0, 2.0, 4.0)

Noted = dict[str, set[Grant]]
"""Grants by the resource that they are on."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The notes of what was granted for a cluster.

    Attributes:
        apis: Google's APIs.
        bucket: Name of the bucket that they are in.
    """

    apis: GoogleApis
    bucket: str

    def on(self, resource: str) -> frozenset[Grant]:
        """Return what was granted on a resource; nothing where there is no bucket any more.

        Who may launch runs may write there, too: what could not have been granted is no note.

        Raises:
            CloudError: The notes cannot be read.
        """
        noted = self._read()[0].get(resource, set())
        return frozenset(grant for grant in noted if grant.role in ROLES_OF_OTHERS)

    def of_same_people(self, grants: Iterable[Grant]) -> frozenset[Grant]:
        """Return which of some grants are of those that were granted anything for this cluster."""
        people = {each.key[1] for noted in self._read()[0].values() for each in noted}
        return frozenset(grant for grant in grants if grant.key[1] in people)

    def others(self, project: str) -> tuple[Ledger, ...]:
        """Return the notes of a project's other clusters, which are in their buckets.

        Raises:
            CloudError: The buckets cannot be listed.
        """
        buckets = self.apis.read(
            f"list the buckets of project {project}",
            lambda: list(self.apis.storage.list_buckets(project=project, timeout=TIMEOUT_SECONDS)),
        )
        owners = {bucket.name: bucket.labels.get(MANAGED_LABEL, "") for bucket in buckets}
        return tuple(
            Ledger(apis=self.apis, bucket=name)
            for name, cluster in owners.items()
            if name == cloud_names.builds_bucket(project, cluster) and name != self.bucket
        )

    def note(self, resource: str, grants: Iterable[Grant]) -> None:
        """Note that grants are going to be made."""
        self._change(resource, lambda noted: noted | set(grants))

    def forget(self, resource: str, grants: Iterable[Grant]) -> None:
        """Note that grants were taken back; nothing where there is no bucket any more."""
        if self.on(resource):
            self._change(resource, lambda noted: noted - set(grants))

    def _change(self, resource: str, change: Callable[[set[Grant]], set[Grant]]) -> None:
        def attempt() -> None:
            noted, generation = self._read()
            before = noted.get(resource, set())
            after = change(before)
            if after == before:
                return
            try:
                self._write({**noted, resource: after}, generation)
            except CloudRefusal as error:
                if error.reason == "conflict":
                    raise Transient(error) from error
                raise

        insist(attempt, PAUSES_SECONDS)

    def _read(self) -> tuple[Noted, int]:
        """Return the notes, and the generation of their object; 0 for none."""
        blob = self._blob()
        data = self.apis.find(
            f"read {OBJECT} in gs://{self.bucket}",
            lambda: blob.download_as_bytes(timeout=TIMEOUT_SECONDS),
        )
        if data is None:
            return {}, 0
        return self._parsed(data), int(blob.generation)

    def _parsed(self, data: bytes) -> Noted:
        try:
            return {
                resource: {Grant(role=role, member=member) for role, member in grants}
                for resource, grants in json.loads(data)["granted"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CloudError(
                f"gs://{self.bucket}/{OBJECT}, which says who was granted what, is damaged",
                value=f"gs://{self.bucket}/{OBJECT}",
                hint="restore an earlier version of it, or delete it: what it noted then stays "
                "granted until somebody takes it back",
            ) from error

    def _write(self, noted: Noted, generation: int) -> None:
        granted = {
            resource: sorted([grant.role, grant.member] for grant in grants)
            for resource, grants in sorted(noted.items())
            if grants
        }
        text = json.dumps({"granted": granted}, indent=1)
        self.apis.call(
            f"write {OBJECT} in gs://{self.bucket}",
            lambda: self._blob().upload_from_string(
                text,
                content_type="application/json",
                if_generation_match=generation,
                timeout=TIMEOUT_SECONDS,
            ),
        )

    def _blob(self) -> Any:
        return self.apis.storage.bucket(self.bucket).blob(OBJECT)
