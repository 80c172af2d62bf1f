"""Starting a run once more: the same code, call, image and options as a new run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kinetic_flows.clients.prefect.api import NewRun, RunRecord
from kinetic_flows.clients.prefect.labels import (
    ACCELERATOR_LABEL,
    CANDIDATES_LABEL,
    DISPATCH_LABEL,
    FUNCTION_LABEL,
    JOB_LABEL,
    LAUNCHED_LABEL,
    OUTPUT_DIR_LABEL,
    OUTPUTS_LABEL,
    PLACE_LABEL,
    RETRY_LABEL,
    retry_tag,
)
from kinetic_flows.clients.prefect.surroundings import surrounding_tags
from kinetic_flows.clients.prefect.timings import without_seconds
from kinetic_flows.code.call_names import retried_name
from kinetic_flows.code.data.uses import keep
from kinetic_flows.code.origin import caller
from kinetic_flows.code.runner_bundle import runner_bundle
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import RunNotFoundError
from kinetic_flows.core.job import JobTemplate, LaunchSpec, RunTicket
from kinetic_flows.core.job_parts import OutputSpec
from kinetic_flows.core.output_dirs import fields_of
from kinetic_flows.core.settings.accelerator_names import names_in_words
from kinetic_flows.runs.call_secrets import secret_values_again
from kinetic_flows.runs.description import outputs_of
from kinetic_flows.runs.launch import PlannedRun, launch_planned
from kinetic_flows.runs.origin_labels import as_of_now, origin_tags, without_user
from kinetic_flows.runs.output_lease import check_output_dir_free, in_use_error, writer_of
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import ticket_of
from kinetic_flows.runs.stored_run import expired, read_payload, read_stored, request_of

if TYPE_CHECKING:
    from kinetic_flows.runs.candidates.launching import PlannedCandidate

_OF_ONE_LAUNCH = (
    *(DISPATCH_LABEL, PLACE_LABEL, LAUNCHED_LABEL, OUTPUT_DIR_LABEL),
    CANDIDATES_LABEL,
)


def retry_run(
    record: RunRecord,
    parent: str | None,
    session: Session,
    *,
    work_queue: str | None = None,
    gives_up: Callable[[], bool] = lambda: False,
) -> RunTicket:
    """Start a run once more, as a new run that names the one it repeats.

    It goes on with the directory of outputs that the other one has.

    Args:
        record: The run to repeat, which may have ended in any way.
        parent: The flow run that the new one is shown under; None for none.
        session: Where it ran, and will.
        work_queue: The work queue whose workers are to start it; None for no particular one.
        gives_up: Whether whoever wanted the run does not any more, asked while it waits.

    Raises:
        RunNotFoundError: Its objects have expired.
        ObjectRefusedError: They are not what it was started with.
        OutputDirInUseError: The run has not ended, or another writes to its directory, and
            neither is to be waited for.
        KineticError: The new run could not be started.
    """
    repeated = _read(record, session.platform.store)
    template, launch = repeated.template, repeated.template.launch
    if launch is None:
        raise RunNotFoundError(
            f"run {record.id} cannot be started again: its job does not say how it was started",
            value=record.id,
            hint="call the function again",
        )
    by_worker = session.platform.dispatch == "worker" or bool(work_queue)
    output = _output(record, template, launch, by_worker=by_worker)
    if output:
        repeated = repeated.with_output(output)
        template = repeated.template
        _require_over(record, output, session)
    is_told = not session.settings.no_origin
    new = NewRun(
        flow=template.name,
        name=retried_name(ticket_of(record).name),
        parent_flow_run_id=parent,
        parameters=record.parameters,
        tags=_tags(record, is_told=is_told),
        labels={
            FUNCTION_LABEL: template.name,
            **as_of_now(_own_labels(record), is_told=is_told),
            RETRY_LABEL: record.id,
            **repeated.labels(),
            **_output_labels(record, output, template),
        },
        job_variables={},
        work_queue=work_queue,
    )
    planned = PlannedRun(
        new=new,
        request=replace(request_of(launch, template.name), packages=template.packages),
        template=template,
        payload=repeated.payload,
        outputs=str(record.labels.get(OUTPUTS_LABEL, "")) or session.outputs_root,
        repeats=record if output else None,
        gives_up=gives_up,
        secret_values=secret_values_again(template, session),
        candidates=repeated.planned(),
    )
    return launch_planned(planned, session)


def _output(
    record: RunRecord, template: JobTemplate, launch: LaunchSpec, *, by_worker: bool
) -> OutputSpec | None:
    """Return the directory of a run, for the one that repeats it.

    None where nobody knows it, or where the runner may be one of an earlier version, which knows
    only directories of each run's own unless it is told by a client that starts it.
    """
    if by_worker and not template.output and template.runner.sha256 != runner_bundle().sha256:
        return None
    if template.output:
        # Where its parameters decide, they do so again.
        return template.output
    directory = outputs_of(record)
    if directory is None:
        return None
    in_use = launch.options.get("output_dir_in_use")
    return OutputSpec(directory=directory, in_use="wait" if in_use == "wait" else "refuse")


def _require_over(record: RunRecord, output: OutputSpec, session: Session) -> None:
    """Refuse to repeat a run that goes on, before anything is created, unless it is waited for."""
    if output.in_use == "wait":
        return
    writer = writer_of(record, session.platform, session.api)
    if writer is not None:
        # A retry is what the run was: who wants another one calls the function.
        another = ", or call the function again, for a run with outputs of its own"
        is_named = OUTPUT_DIR_LABEL in record.labels
        raise in_use_error(output.place, writer, "" if is_named else another)
    check_output_dir_free(output, session)


def _output_labels(
    record: RunRecord, output: OutputSpec | None, template: JobTemplate
) -> dict[str, str]:
    """Return what the new run's labels say of its directory, and of the job that names it."""
    if output is None:
        return {}
    known = record.labels.get(OUTPUT_DIR_LABEL)
    place = str(known or "") if fields_of(output.place) else output.place
    told = {OUTPUT_DIR_LABEL: place} if place else {}
    return {JOB_LABEL: template.content_digest(), **told}


@dataclass(frozen=True, kw_only=True)
class _Repeated:
    """What a run was started with.

    Attributes:
        template: Its job; the first of several.
        payload: The pickled call.
        candidates: Its job on each accelerator that it could go on; empty where there was one.
    """

    template: JobTemplate
    payload: bytes
    candidates: tuple[JobTemplate, ...] = ()

    def with_output(self, output: OutputSpec) -> _Repeated:
        """Return it with another place for outputs."""
        return replace(
            self,
            template=replace(self.template, output=output),
            candidates=tuple(replace(each, output=output) for each in self.candidates),
        )

    def labels(self) -> dict[str, str]:
        """Return the label that names all its accelerators, until one of them has begun."""
        names = tuple(each.launch.accelerator for each in self.candidates if each.launch)
        return {ACCELERATOR_LABEL: names_in_words(names)} if names else {}

    def planned(self) -> tuple[PlannedCandidate, ...]:
        """Return what is started on each of its accelerators; nothing where it has one."""
        if not self.candidates:
            return ()
        from kinetic_flows.runs.candidates.launching import PlannedCandidate

        return tuple(
            PlannedCandidate(
                request=replace(request_of(each.launch, each.name), packages=each.packages),
                template=each,
            )
            for each in self.candidates
            if each.launch
        )


def _read(record: RunRecord, store: ArtifactStore) -> _Repeated:
    """Read a run's template and its pickled call, and have its data kept."""
    stored = read_stored(record, store)
    payload = read_payload(stored, record, store)
    if not keep(stored.template.data, store):
        raise expired(record)
    return _Repeated(template=stored.template, payload=payload, candidates=stored.candidates)


def _tags(record: RunRecord, *, is_told: bool) -> tuple[str, ...]:
    """Return the tags of a run that repeats another."""
    own = (tag for tag in without_user(record.tags) if not tag.startswith(retry_tag("")))
    here = origin_tags(caller()) if is_told else ()
    return tuple(dict.fromkeys((*own, *here, *surrounding_tags(), retry_tag(record.id))))


def _own_labels(record: RunRecord) -> dict[str, str | int]:
    """Return our labels that the new run has, too; Prefect adds its own to each."""
    return {
        name: value
        for name, value in without_seconds(record.labels).items()
        if name.startswith("kinetic.") and name not in _OF_ONE_LAUNCH
    }
