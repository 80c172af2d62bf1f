"""The flow `kinetic-rehearse`: compiling a function's steps for accelerators that are not there.

Accelerators with the same packages are one run, which is a child of the flow's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from kinetic_flows.clients.prefect.flow_names import (
    REHEARSAL_ARTIFACT,
    REHEARSE_FLOW,
    TASK_LOCK_DEPENDENCIES,
)
from kinetic_flows.core import markdown
from kinetic_flows.core.display import counted
from kinetic_flows.core.envelope import ResultEnvelope
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.errors import (
    KineticError,
    PrefectServerError,
    RunCancelled,
    RunError,
    RunFailed,
)
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.rehearsal_words import sentence, table_markdown, verdict
from kinetic_flows.core.rehearsals import RehearsalRecord, TargetReport
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.dependencies.wheels import stored_wheels
from kinetic_flows.flows.engine import current_flow_run_id, run_flow
from kinetic_flows.flows.run import execute
from kinetic_flows.flows.steps import step
from kinetic_flows.images.base_lookup import FoundBase, WantedBase, find_base
from kinetic_flows.images.inspection import ImageReport, ImageRequirements, check_image
from kinetic_flows.images.tags import local_image_reference
from kinetic_flows.plans.draft import Draft, lock_draft
from kinetic_flows.plans.rehearsal_look import records_of
from kinetic_flows.plans.rehearsal_plan import RehearsalPlan, Wanted, run_of
from kinetic_flows.plans.rehearsed import packages_digest
from kinetic_flows.platforms.image_sources import ImageSource, LockedImage, OwnImage
from kinetic_flows.runs.results import failure_summary, unpack_result
from kinetic_flows.runs.session import Session, session_of


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Accelerators that are one run, as their packages are the same.

    Attributes:
        packages: Digest of the packages; the image's reference where it has its own.
        image: Where the image of the run comes from.
        members: The accelerators.
    """

    packages: str
    image: ImageSource
    members: list[Wanted] = field(default_factory=list)


def rehearse(plan: RehearsalPlan, session: Session) -> RehearsalRecord:
    """Compile for each accelerator, keep what that tells, and return it.

    Args:
        plan: The rehearsal.
        session: Where Prefect is; its platform does not matter.

    Raises:
        KineticError: Nothing could be compiled for any accelerator.
        BaseException: It was interrupted; what it had started was cancelled.
    """
    own = session
    if session.platform is not plan.platform:
        progress, environ = session.progress, session.environ
        own = session_of(plan.settings, environ, progress, plan.platform, session.api)

    def kinetic_rehearse(
        function: str,  # noqa: ARG001 - shown in Prefect
        accelerators: list[str],  # noqa: ARG001
    ) -> RehearsalRecord:
        """Compile the steps of a Python function for accelerators that are not there."""
        return _Rehearsal(plan, own).run()

    shown = {
        "function": plan.name,
        "accelerators": [each.target.accelerator for each in plan.wanted],
    }
    return run_flow(
        kinetic_rehearse,
        REHEARSE_FLOW,
        shown,
        own,
        final_state=_final_state,
        run_name="rehearsal of {function}",
    )


class _Rehearsal:
    """A rehearsal at work.

    Args:
        plan: What is decided of it.
        session: Where its runs are, and report.
    """

    def __init__(self, plan: RehearsalPlan, session: Session) -> None:
        self._plan = plan
        self._session = session
        self._reports: dict[str, TargetReport] = {}
        self._run_ids: list[str] = []
        self._failures: dict[str, KineticError] = {}
        self._told: set[str] = set()

    def run(self) -> RehearsalRecord:
        """Lock, compile and keep; return what is known."""
        groups = self._groups()
        for group in groups:
            self._compile(group)
        if len(self._failures) == len(self._plan.wanted):
            raise next(iter(self._failures.values()))
        record = RehearsalRecord(
            function=self._plan.function,
            code_sha256=self._plan.code_sha256,
            environments={
                each.target.accelerator: group.packages
                for group in groups
                for each in group.members
            },
            made_at=time.time(),
            reports=tuple(self._reports[each.target.accelerator] for each in self._plan.wanted),
            run_ids=tuple(self._run_ids),
        )
        self._show(record)
        self._keep(record)
        return record

    def _groups(self) -> list[_Group]:
        """Return the accelerators by their packages, which are locked as a call locks them."""
        groups: dict[str, _Group] = {}
        for wanted in self._plan.wanted:
            try:
                group = self._group_of(wanted)
            except KineticError as error:
                self._failed([wanted], error)
            else:
                groups.setdefault(group.packages, group).members.append(wanted)
        return list(groups.values())

    def _group_of(self, wanted: Wanted) -> _Group:
        draft = wanted.draft
        if isinstance(draft.image, OwnImage):
            return _Group(packages=draft.image.reference, image=draft.image)
        ask = _Questions(draft=draft, session=self._session)
        decided = draft.image.decide(ask)
        if decided.lock is None:
            raise LookupError("only an image of the person's own has no lock")
        for warning in decided.lock.warnings:
            if warning not in self._told:
                self._told.add(warning)
                self._session.progress.warning(warning)
        packages = packages_digest(decided.lock)
        if not self._plan.compiles_here:
            return _Group(packages=packages, image=draft.image)
        self._bring_wheels(decided.lock, decided.environment, draft)
        image = LockedImage(
            target=decided.lock.target,
            name_of=_name_here,
            built_by="uv",
            lock=decided.lock,
            locked=decided.environment,
        )
        return _Group(packages=packages, image=image)

    def _bring_wheels(self, lock: Lock, environment: EnvironmentSpec, draft: Draft) -> None:
        """Have wheels that ship with the project where environments of this machine find them."""
        store = self._session.platform.store
        missing = store.missing([ref.name for ref in environment.wheels])
        here = {wheel.sha256: wheel.path for wheel in lock.wheels if wheel.path.is_file()}
        for ref in environment.wheels:
            if ref.name in missing and ref.sha256 in here:
                store.put_if_absent(ref.name, here[ref.sha256])
        if any(ref.name in missing and ref.sha256 not in here for ref in environment.wheels):
            for name, data in _named(environment, stored_wheels(draft.platform.store, environment)):
                store.put_if_absent(name, data)

    def _compile(self, group: _Group) -> None:
        """Have one run compile for a group of accelerators."""
        draft = run_of(group.members, self._plan, group.image, self._session.environ)
        try:
            launched = execute(draft, self._session, wait=True)
            self._run_ids.append(launched.ticket.run_id)
            if launched.envelope is None:
                raise LookupError("a run that was waited for has no result envelope")
            told = _told(launched.envelope, launched.ticket)
        except RunCancelled:
            raise
        except KineticError as error:
            self._failed(group.members, error)
            return
        reports = [TargetReport.from_json(each) for each in told]
        self._reports |= {report.accelerator: report for report in reports}

    def _failed(self, members: Sequence[Wanted], error: KineticError) -> None:
        """Note that nothing is known of accelerators; others may have more luck."""
        for wanted in members:
            name = wanted.target.accelerator
            self._failures[name] = error
            self._reports[name] = TargetReport(
                accelerator=name,
                problem="died" if isinstance(error, RunError) else "no-compiler",
                message=error.message,
                hint=error.hint or "",
                devices=wanted.target.devices,
            )

    def _show(self, record: RehearsalRecord) -> None:
        """Show what came out of it, on the page of the flow run and in the last line here."""
        api, flow_run_id = self._session.api, current_flow_run_id()
        self._session.progress.launched(api.run_url(flow_run_id), verdict(record))
        try:
            api.publish_markdown(
                flow_run_id,
                REHEARSAL_ARTIFACT,
                table_markdown(record),
                description=f"Rehearsal of {markdown.text(self._plan.name)}",
            )
        except PrefectServerError as error:  # what was compiled is known here all the same
            self._session.api_availability.failed(error)

    def _keep(self, record: RehearsalRecord) -> None:
        """Keep a record for later plans and calls."""
        try:
            records_of(self._plan.wanted[0].draft).keep(record)
        except KineticError as error:
            self._session.progress.warning(f"others do not find it: {error.message}")
        except OSError as error:
            self._session.progress.warning(f"later calls do not find it: {error}")


@dataclass(frozen=True, kw_only=True)
class _Questions:
    """Asks what the packages of an accelerator are, and nothing of its image.

    Attributes:
        draft: The rehearsal with that image.
        session: Where it reports.
    """

    draft: Draft
    session: Session

    def lock(self, base: ResolvedImage | None = None) -> Lock:
        """Lock the packages; the lock is stored when something runs with it."""
        progress = self.session.progress
        with step(progress, TASK_LOCK_DEPENDENCIES) as current:
            lock = lock_draft(self.draft, self.session.environ, base=base, write=False)
            count = counted(len(lock.packages), "package")
            how = "stored lock" if lock.from_cache else "resolved"
            current.finish(
                f"{self.draft.source.label} for {self.draft.accelerator}: {count} ({how})",
                "cached" if lock.from_cache else "done",
            )
            return lock

    def resolve(self, request: ImageRequest) -> None:
        """Return nothing: nobody asks whether the accelerator's own image is there."""

    def find_base(self, wanted: WantedBase) -> FoundBase:
        """Look for a base image, which has to be there."""
        return find_base(self.draft.platform.registry, wanted)

    def check(self, reference: str, required: ImageRequirements) -> ImageReport:
        """Look at an image of the person's own, which has to be there and to fit."""
        return check_image(self.draft.platform.registry, reference, required)


def _told(envelope: ResultEnvelope, run: RunTicket) -> list[dict[str, Any]]:
    """Return the reports of a run.

    Raises:
        RunError: It has none.
    """
    if envelope.header.status == "raised":
        # Not the rehearsal, whose exceptions are told in reports.
        raise RunFailed(
            f"the run that compiles failed: {failure_summary(envelope.header)}",
            value=run.run_id,
            hint=f"`kinetic runs logs {run.run_id}` shows what it printed",
        )
    told: list[dict[str, Any]] = unpack_result(envelope, run)
    return told


def _named(environment: EnvironmentSpec, wheels: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Return wheels by their names in a store."""
    for ref in environment.wheels:
        yield ref.name, wheels[ref.name.rpartition("/")[2]]


def _name_here(environment: EnvironmentSpec) -> str:
    return local_image_reference(environment.category, environment.dependency_hash)


def _final_state(record: RehearsalRecord) -> State[RehearsalRecord]:
    """Return the final state of a rehearsal: it has failed where nothing is known to fit."""
    message = "; ".join(sentence(report) for report in record.reports)
    if any(report.fits for report in record.reports):
        return Completed(message=message)
    return Failed(message=message)
