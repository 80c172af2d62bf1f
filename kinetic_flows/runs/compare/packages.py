"""Which packages a run has found installed, as far as somebody has kept that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from kinetic_flows.clients.prefect.artifact_tables import ArtifactTables
from kinetic_flows.clients.prefect.flow_names import ENVIRONMENT_ARTIFACT
from kinetic_flows.clients.prefect.labels import PARENT_LABEL, RETRY_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import KineticError, LockError
from kinetic_flows.core.job import JobTemplate, sha256_hex
from kinetic_flows.core.object_names import requirements_object
from kinetic_flows.dependencies.lockfile import parse_lock
from kinetic_flows.images.labels import LABEL_DEPENDENCY_HASH, LABEL_LOCK_DIGEST
from kinetic_flows.runs.session import Session

Versions = Mapping[str, str]

UNKNOWN = "nobody has kept what was installed"
OWN_IMAGE = "they are what its own image has"


@dataclass(frozen=True)
class InstalledPackages:
    """The packages of a run.

    Attributes:
        record: Its flow run.
        job: Its job.
        store: Where its lock may be.
        session: Who asks Prefect.
    """

    record: RunRecord
    job: JobTemplate
    store: ArtifactStore
    session: Session

    @property
    def identity(self) -> tuple[str, ...]:
        """What two runs have in common whose packages are the same; empty where nobody knows."""
        launch = self.job.launch
        labels = launch.image.get("labels") or {} if launch else {}
        known = (
            str(labels.get(LABEL_DEPENDENCY_HASH) or (launch.image["digest"] if launch else "")),
            str(self.job.requirements.lock.sha256) if self.job.requirements else "",
            self.job.packages.identity if self.job.packages else "",
        )
        return known if any(known) else ()

    @cached_property
    def lock(self) -> str | None:
        """The lock of what is installed; None where it was not kept, or has expired."""
        digest = self._lock_digest
        if not digest:
            return None
        try:
            text = self.store.get(requirements_object(digest)).data
        except KineticError:
            return None
        return text.decode() if sha256_hex(text) == digest else None

    @property
    def _lock_digest(self) -> str:
        if self.job.requirements:
            return self.job.requirements.lock.sha256
        if self.job.packages or self.job.launch is None:
            return ""
        labels = self.job.launch.image.get("labels") or {}
        return str(labels.get(LABEL_LOCK_DIGEST) or "").removeprefix("sha256:")

    @cached_property
    def of_lock(self) -> Versions | None:
        """The packages as the lock has them; None where there is none to read."""
        try:
            packages = None if self.lock is None else parse_lock(self.lock)
        except LockError:
            return None
        return None if packages is None else {each.name: each.version for each in packages}

    @cached_property
    def of_page(self) -> Versions | None:
        """The packages as the run's page in Prefect lists them; None where it has no list.

        A run of a group has its group's, and one that repeats another has that one's.
        """
        labels = self.record.labels
        above = (str(labels.get(name) or "") for name in (PARENT_LABEL, RETRY_LABEL))
        asked = [self.record.id, *(each for each in above if each)]
        rows = ArtifactTables(self.session.api).read(asked, ENVIRONMENT_ARTIFACT)
        return None if rows is None else {row["package"]: row["version"] for row in rows}


def versions_of_both(
    before: InstalledPackages, after: InstalledPackages
) -> tuple[Versions, Versions] | None:
    """Return the packages of two runs by what both have: locks, or lists on their pages.

    Returns:
        None where nobody knows those of one of them.
    """
    if before.identity and before.identity == after.identity:
        return {}, {}
    old, new = before.of_lock, after.of_lock
    if old is not None and new is not None:
        return old, new
    old, new = before.of_page, after.of_page
    return None if old is None or new is None else (old, new)
