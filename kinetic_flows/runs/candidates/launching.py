"""Launching a run that may go on one of several accelerators, from this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.prefect.labels import CANDIDATES_LABEL
from kinetic_flows.core.candidates import Candidate, Candidates
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.job import (
    CANCEL_GRACE_SECONDS,
    Job,
    JobTemplate,
    RunTicket,
    sha256_hex,
)
from kinetic_flows.core.job_parts import CandidateSpec
from kinetic_flows.core.object_names import (
    candidate_job_object,
    candidates_object,
    payload_object,
)
from kinetic_flows.plans.draft import Draft, job_request
from kinetic_flows.platforms.base import JobRequest
from kinetic_flows.runs.candidates.processes import candidate_runs
from kinetic_flows.runs.candidates.starting import own_credentials
from kinetic_flows.runs.job_template import Prepared, PreparedCandidate, job_template
from kinetic_flows.runs.sealed_values import seal_for_worker
from kinetic_flows.runs.session import Session

if TYPE_CHECKING:
    from kinetic_flows.runs.launch import PlannedRun

_NAMES = ("name", "job_name")


@dataclass(frozen=True, kw_only=True)
class PlannedCandidate:
    """One of the accelerators that a run may go on, with what is started there.

    Attributes:
        request: What its process is asked for, without a run id.
        template: Its job.
    """

    request: JobRequest
    template: JobTemplate

    @property
    def memory_gb(self) -> int:
        """Memory of all its chips together."""
        return self.request.accelerator.total_memory_gb

    def job_variables(self, session: Session) -> Mapping[str, Any]:
        """Return what the work pool's job template is given, but for what names a launch.

        A launch that is disturbed is not started again by its Job: the run goes back to its list.
        """
        options = replace(self.request.options, max_preemptions=0)
        request = replace(
            self.request.of_job(self.template),
            options=options,
            template=session.base_job_template,
        )
        variables = session.platform.job_variables(request)
        return {name: value for name, value in variables.items() if name not in _NAMES}


def planned_candidates(
    draft: Draft,
    prepared: Prepared,
    session: Session,
    *,
    owner: str,
    takes_parameters: bool = False,
) -> tuple[PlannedCandidate, ...]:
    """Return what is started on each accelerator of a call; nothing for a call that has one.

    Args:
        draft: The call, with its arguments.
        prepared: What runs of the function share.
        session: Where they run and report.
        owner: Whose the pieces of the call are.
        takes_parameters: Whether the function is called with the flow run's parameters.
    """
    listed = prepared.candidates
    memory = [each.draft.accelerator.total_memory_gb for each in listed]
    planned = []
    for number, each in enumerate(listed):
        larger = any(other > memory[number] for other in memory)
        spec = CandidateSpec(
            number=number,
            accelerator=str(each.draft.accelerator),
            moves_on=draft.call.options.on_oom is not None and larger,
        )
        own = _draft_on(draft, each)
        template = job_template(
            own,
            each.prepared,
            session,
            owner=owner,
            takes_parameters=takes_parameters,
            candidate=spec,
        )
        request = job_request(own, "", each.prepared.image, each.prepared.packages)
        planned.append(
            PlannedCandidate(request=request, template=replace(template, max_preemptions=0))
        )
    return tuple(planned)


def _draft_on(draft: Draft, candidate: PreparedCandidate) -> Draft:
    """Return a call as it is on one of its accelerators."""
    on = candidate.draft
    call = replace(draft.call, options=on.call.options)
    return replace(draft, call=call, accelerator=on.accelerator, image=on.image, candidates=())


def candidates_of(
    planned: tuple[PlannedCandidate, ...], jobs: Sequence[tuple[str, bytes]], session: Session
) -> Candidates:
    """Return what lists the accelerators of a run.

    Args:
        planned: What is started on each.
        jobs: The job of each as it is in the store: its name, and its content.
        session: Where it runs and reports.
    """
    listed = tuple(
        Candidate(
            accelerator=str(each.request.accelerator),
            image=asdict(each.request.image),
            job=jobs[number][0],
            job_sha256=sha256_hex(jobs[number][1]),
            job_variables=each.job_variables(session),
            memory_gb=each.memory_gb,
        )
        for number, each in enumerate(planned)
    )
    options = planned[0].request.options
    tolerated = (
        each.request.accelerator.preemptions_tolerated(options.max_preemptions) for each in planned
    )
    return Candidates(
        candidates=listed,
        function=planned[0].request.name,
        strategy="race" if options.strategy == "race" else "in_order",
        fallback_after_seconds=options.fallback_after_seconds,
        on_oom="larger" if options.on_oom else None,
        max_preemptions=max(tolerated),
    )


def launch_candidates(run: PlannedRun, ticket: RunTicket, session: Session) -> RunTicket:
    """Write what a run needs on each of its accelerators, and launch the first, or all.

    Args:
        run: What is started.
        ticket: Its flow run.
        session: Where it runs and reports.

    Returns:
        The run, as one that has candidates.

    Raises:
        LaunchError: None could be started; nothing of it begins any more.
    """
    platform, store, run_id = session.platform, session.platform.store, ticket.run_id
    store.put_if_absent(payload_object(run_id), run.payload)
    # Who starts the next one may be another client: it asks Prefect for the key.
    seal_for_worker(run.secret_values, payload_object(run_id), store, session.api)
    may_report = session.runs_report is not False
    api_url = platform.api_for_runs(session.api.url) if may_report else None
    jobs = []
    for number, each in enumerate(run.candidates):
        output = each.template.output
        directory = output.directory if output else f"{run.outputs}/{run_id}"
        job = Job(template=each.template, run_id=run_id, output_dir=directory, api_url=api_url)
        jobs.append((candidate_job_object(run_id, number), job.to_json()))
        store.put_if_absent(*jobs[number])
    _, digest = own_credentials(session.api, ticket)
    told = candidates_of(run.candidates, jobs, session)
    listed = replace(told, credentials=digest).to_json()
    store.put_if_absent(candidates_object(run_id), listed)
    launched = replace(ticket, candidates=sha256_hex(listed))
    session.api.add_labels(run_id, {CANDIDATES_LABEL: launched.candidates})
    runs = candidate_runs(platform, session.api, launched)
    try:
        runs.begin()
    except BaseException:
        # What interrupted us may have come just after something had started.
        with suppress(KineticError):
            runs.stop(run_id, CANCEL_GRACE_SECONDS)
        raise
    return launched
