"""The buckets of a cluster: one for runs, and one for the sources and logs of image builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.lifecycle import (
    Rule,
    abandoned_uploads_rule,
    expire_rule,
    with_rules,
)
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.compile_cache import EXPIRE_AFTER_DAYS
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.object_names import BUILD_LOGS, BUILD_SOURCES, COMPILE_CACHE, RUNS
from kinetic_flows.platforms.gke.setup import costs, names
from kinetic_flows.platforms.gke.setup.model import Action, Change, Cost, Tell

if TYPE_CHECKING:
    from google.cloud.storage import Bucket as Found

TIMEOUT_SECONDS = 30.0
DELETIONS_AT_ONCE = 500
DELETING_THREADS = 16
ENFORCED = "enforced"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket: closed to the public, with access by IAM alone, whose old objects expire.

    One that was there before and was not made here is used as it is.
    https://cloud.google.com/storage/docs/json_api/v1/buckets

    Attributes:
        apis: Google's APIs.
        project: The project it is in.
        region: Where it is.
        cluster: The cluster it is for.
        bucket: Its name.
        rules: By which objects expire.
        kind: What it is.
    """

    apis: GoogleApis
    project: str
    region: str
    cluster: str
    bucket: str
    rules: tuple[Rule, ...]
    kind: str = "bucket"

    @property
    def name(self) -> str:
        """Its URL: `gs://...`."""
        return f"gs://{self.bucket}"

    def creation(self) -> Change:
        """Return that it is made."""
        details = (f"in {self.region}, closed to the public", *map(_in_words, self.rules))
        return self._change("create", details=details, cost=costs.bucket_cost())

    def compare(self) -> Change:
        """Look whether it is there, and what differs.

        Raises:
            CloudRefusal: Its name is taken by another project.
        """
        found = self._find()
        if found is None:
            return self.creation()
        if not self._is_ours(found):
            return self._change("keep", why="it was there before: its settings stay as they are")
        details = self._differences(found)
        return self._change("change" if details else "keep", details=details)

    def apply(self, tell: Tell) -> None:
        """Make it, or change what differs."""
        found = self._find()
        if found is None:
            self._create()
        elif self._is_ours(found) and self._differences(found):
            tell("changing its settings")
            self._set(found)
            self._call(f"change bucket {self.name}", lambda: found.patch(timeout=TIMEOUT_SECONDS))

    def plan_removal(self, *, purge: bool) -> Change:
        """Look whether it is there, was made here, and may go with what it holds."""
        found = self._find()
        if found is None:
            return self._change("keep")
        if not self._is_ours(found):
            return self._change("leave", why="it was not made by kinetic up")
        if not purge:
            why = "it holds data of runs; --purge removes it with all of it"
            return self._change("leave", why=why)
        return self._change("remove", details=("with everything in it",))

    def remove(self, tell: Tell) -> None:
        """Remove it with what it holds, if it was made here."""
        found = self._find()
        if found is None or not self._is_ours(found):
            return
        removed = 0
        for page in self._pages(found):
            in_threads(self._delete, page, threads=DELETING_THREADS)
            removed += len(page)
            tell(f"{removed} objects removed")
        what = f"delete bucket {self.name}"
        self.apis.find(what, lambda: found.delete(timeout=TIMEOUT_SECONDS))

    def _pages(self, bucket: Found) -> Iterator[list[Any]]:
        """Yield what there is until there is nothing; others may write meanwhile."""
        while True:
            page = self._call(
                f"list the objects of {self.name}",
                lambda: list(islice(bucket.list_blobs(versions=True), DELETIONS_AT_ONCE)),
            )
            if not page:
                return
            yield page

    def _delete(self, blob: Any) -> None:
        self.apis.find(
            f"delete {self.name}/{blob.name}",
            lambda: blob.delete(timeout=TIMEOUT_SECONDS, if_generation_match=blob.generation),
        )

    def _find(self) -> Found | None:
        """Return the bucket; None where there is none.

        Raises:
            CloudRefusal: It is another project's.
        """
        try:
            found: Found | None = self.apis.find(
                f"look at bucket {self.name}",
                lambda: self.apis.storage.get_bucket(self.bucket, timeout=TIMEOUT_SECONDS),
            )
        except CloudRefusal as error:
            if error.reason == "permission":
                raise bucket_taken(self.bucket, self.project) from error
            raise
        if found is not None and not self._is_of_project(found):
            raise bucket_taken(self.bucket, self.project)
        return found

    def _is_of_project(self, found: Found) -> bool:
        project = self._call(
            f"look at project {self.project}",
            lambda: self.apis.projects.get_project(name=f"projects/{self.project}"),
        )
        return bool(found.project_number == int(project.name.rpartition("/")[2]))

    def _create(self) -> None:
        bucket = self.apis.storage.bucket(self.bucket)
        self._set(bucket)
        bucket.labels = names.labels(self.cluster)
        try:
            self.apis.call(
                f"create bucket {self.name}",
                lambda: bucket.create(
                    project=self.project, location=self.region, timeout=TIMEOUT_SECONDS
                ),
            )
        except CloudRefusal as error:
            if error.reason != "name-taken":
                raise
            if self._find() is None:  # else it was made by a run of this at the same time
                raise bucket_taken(self.bucket, self.project) from error

    def _set(self, bucket: Found) -> None:
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = ENFORCED
        rules = with_rules(bucket.lifecycle_rules, self.rules)
        if rules is not None:
            bucket.lifecycle_rules = rules

    def _differences(self, found: Found) -> tuple[str, ...]:
        access = found.iam_configuration
        details = []
        if not access.uniform_bucket_level_access_enabled:
            details.append("have access decided by IAM alone")
        if access.public_access_prevention != ENFORCED:
            details.append("close it to the public")
        if with_rules(found.lifecycle_rules, self.rules) is not None:
            existing = [dict(rule) for rule in found.lifecycle_rules]
            details += [_in_words(rule) for rule in self.rules if rule not in existing]
        return tuple(details)

    def _is_ours(self, found: Found) -> bool:
        return bool(found.labels.get(names.MANAGED_LABEL) == self.cluster)

    def _call(self, what: str, ask: Any) -> Any:
        return self.apis.read(what, ask)

    def _change(
        self,
        action: Action,
        *,
        details: tuple[str, ...] = (),
        why: str = "",
        cost: Cost | None = None,
    ) -> Change:
        return Change(
            kind=self.kind, name=self.name, action=action, details=details, why=why, cost=cost
        )


def bucket_taken(bucket: str, project: str) -> CloudRefusal:
    """Return the error for a bucket that is somebody else's, or looks so.

    Args:
        bucket: Its name.
        project: The project that it should be in.
    """
    error = CloudRefusal(
        f"the bucket gs://{bucket} belongs to another project, or you may not look at it; "
        "names of buckets are shared by all the world",
        value=bucket,
        hint="take another name for the cluster with --cluster, after which its buckets are "
        f"named; or, if it is yours, have roles/storage.admin on project {project}",
    )
    error.reason, error.subject = "name-taken", bucket
    return error


def jobs_rules(days: int) -> tuple[Rule, ...]:
    """Return the rules of the bucket of runs, whose own objects expire after so many days."""
    return (
        # Runs write those programs anew that they use.
        expire_rule(COMPILE_CACHE, EXPIRE_AFTER_DAYS),
        expire_rule(f"{RUNS}/", days),
        abandoned_uploads_rule(),
    )


def builds_rules(days: int) -> tuple[Rule, ...]:
    """Return the rules of the bucket of builds, whose sources and logs expire after so long."""
    return (
        expire_rule(f"{BUILD_SOURCES}/", days),
        expire_rule(f"{BUILD_LOGS}/", days),
        abandoned_uploads_rule(),
    )


def _in_words(rule: Rule) -> str:
    age = rule["condition"]["age"]
    prefixes = rule["condition"].get("matchesPrefix")
    if not prefixes:
        return f"uploads that were never finished are removed after {age} days"
    return f"objects below {', '.join(prefixes)} are removed after {age} days"
