"""The flow `kinetic-deploy`: one function, from plan to a Prefect deployment of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from prefect.states import Completed

from kinetic_flows.clients.prefect.deployments import (
    DeploymentRecord,
    NewDeployment,
    PrefectDeployments,
)
from kinetic_flows.clients.prefect.flow_names import (
    DEPLOY_FLOW,
    TASK_CREATE_DEPLOYMENT,
    TASK_PIN_OBJECTS,
)
from kinetic_flows.clients.prefect.labels import (
    ACCELERATOR_LABEL,
    CANDIDATES_LABEL,
    DEPLOYMENT_VERSION_LABEL,
    DISPATCH_LABEL,
    FUNCTION_LABEL,
    IMAGE_LABEL,
    JOB_LABEL,
    OUTPUT_DIR_LABEL,
    OUTPUTS_LABEL,
    PACKAGES_LABEL,
    PLATFORM_LABEL,
    RUN_TAG,
    STORE_LABEL,
)
from kinetic_flows.clients.prefect.records import environment_of
from kinetic_flows.clients.prefect.work_pools import ensure_worker_pool
from kinetic_flows.core.artifact_store import Content
from kinetic_flows.core.job import (
    RUN_KEY_VARIABLE,
    JobTemplate,
    StoredTemplate,
    canonical_json,
    sha256_hex,
)
from kinetic_flows.core.object_names import payload_object
from kinetic_flows.core.output_dirs import fields_of
from kinetic_flows.core.progress import StepStatus
from kinetic_flows.flows.defaults import own_task
from kinetic_flows.flows.engine import run_flow
from kinetic_flows.flows.prepare import prepare
from kinetic_flows.flows.steps import step
from kinetic_flows.plans.deploy_request import DeployRequest
from kinetic_flows.plans.draft import Draft, job_request, lock_draft
from kinetic_flows.plans.look_ahead import check_worker
from kinetic_flows.plans.outputs import deployed_output_spec
from kinetic_flows.plans.secrets import with_identities
from kinetic_flows.platforms.base import JobRequest
from kinetic_flows.runs.compile_cache_keys import key_for_worker
from kinetic_flows.runs.deployment_objects import (
    DeployedJob,
    deploy_job,
    prefix_of,
    remove_other_versions,
)
from kinetic_flows.runs.flow_run import hosts_label, secret_labels
from kinetic_flows.runs.job_template import Prepared, job_template
from kinetic_flows.runs.launch import in_session, worker_environment
from kinetic_flows.runs.origin_labels import origin_labels
from kinetic_flows.runs.sealed_values import identity_key, seal_for_worker
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import store_label

if TYPE_CHECKING:
    # Loaded for functions that name several accelerators.
    from kinetic_flows.runs.candidates.launching import PlannedCandidate

Change = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """The outcome of deploying a function.

    Attributes:
        id: The deployment's id.
        change: Whether the deployment was created, updated or up to date.
        image: The image of its runs, by digest.
    """

    id: str
    change: Change
    image: str


def deploy(draft: Draft, request: DeployRequest, session: Session) -> Deployed:
    """Run the flow `kinetic-deploy` for one function.

    Args:
        draft: The function, with everything decided that needs no lock.
        request: The deployment that is wanted.
        session: Where it runs and reports.

    Raises:
        KineticError: A step failed; the deployment is as it was.
    """
    for accelerator in draft.candidates or (draft.accelerator,):
        check_worker(accelerator, session.platform)

    def kinetic_deploy(
        function: str,  # noqa: ARG001 - shown in Prefect
        deployment: str,  # noqa: ARG001 - shown in Prefect
        accelerator: str,  # noqa: ARG001 - shown in Prefect
    ) -> Deployed:
        """Package a function, build its image and make a Prefect deployment of it."""
        return _deploy(draft, request, session)

    shown = {
        "function": draft.name,
        "deployment": request.name,
        "accelerator": draft.runs_on,
    }
    return run_flow(
        kinetic_deploy,
        DEPLOY_FLOW,
        shown,
        session,
        final_state=lambda deployed: Completed(message=f"{deployed.change}: {deployed.image}"),
        run_name="{function}/{deployment}",
    )


def _deploy(draft: Draft, request: DeployRequest, session: Session) -> Deployed:
    if request.image_refresh:
        lock_draft(draft, session.environ, upgrade=True)
    draft = replace(draft, sources=draft.sources.of_deployment())
    prepared = prepare(draft, session, deployed=True)
    known = PrefectDeployments(session.api).find(draft.name, request.name)
    template = job_template(
        draft, prepared, session, owner=draft.payload.sha256, takes_parameters=True
    )
    job = StoredTemplate(
        template=_with_identities(template, prepared, session),
        payload_name=payload_object(draft.payload.sha256),
        outputs=session.outputs_root,
    )
    candidates = _candidates(draft, prepared, session)
    prefix = prefix_of(known, draft.name, request.name, session.platform.store)
    contents = {job.payload_name: draft.payload.content} | {
        piece.ref(draft.payload.sha256).name: piece.data for piece in draft.payload.pieces
    }
    pinned = pin_objects_task(job, candidates, contents, prefix, prepared.secret_values, session)
    asked = _asked(draft, prepared, candidates, job.template, session)
    new = describe_deployment(draft, request, prepared, pinned, known, asked, session)
    version = new.labels[DEPLOYMENT_VERSION_LABEL]
    image = prepared.image.reference
    if known and known.labels.get(DEPLOYMENT_VERSION_LABEL) == version:
        told = f"{known.full_name} is up to date"
        session.progress.step(TASK_CREATE_DEPLOYMENT, "cached", told)
        return Deployed(id=known.id, change="unchanged", image=image)
    ensure_worker_pool(session.platform.worker_pool, new.job_variables, session.api.url)
    deployment_id = create_deployment_task(new, pinned, known is not None, session)
    change: Change = "updated" if known else "created"
    return Deployed(id=deployment_id, change=change, image=image)


def _candidates(draft: Draft, prepared: Prepared, session: Session) -> tuple[PlannedCandidate, ...]:
    """Return what is started on each accelerator of a list; nothing for a function that has one."""
    if not prepared.candidates:
        return ()
    from kinetic_flows.runs.candidates.launching import planned_candidates

    owner = draft.payload.sha256
    planned = planned_candidates(draft, prepared, session, owner=owner, takes_parameters=True)
    return tuple(
        replace(each, template=_with_identities(each.template, prepared, session))
        for each in planned
    )


def _asked(
    draft: Draft,
    prepared: Prepared,
    candidates: tuple[PlannedCandidate, ...],
    template: JobTemplate,
    session: Session,
) -> JobRequest:
    """Return what the process that workers start for each run is asked for."""
    if candidates:
        from kinetic_flows.runs.candidates.worker import driver_request

        return driver_request(candidates)
    asked = job_request(draft, "", prepared.image, prepared.packages).of_job(template)
    return in_session(asked, session)


def _with_identities(template: JobTemplate, prepared: Prepared, session: Session) -> JobTemplate:
    """Return the job of a deployment's runs, which is another one for other secret values."""
    if not prepared.secret_values:
        return template
    key = identity_key(session.platform, session.settings.home)
    known = with_identities(template.secrets, prepared.secret_values, key)
    return replace(template, secrets=known)


def describe_deployment(
    draft: Draft,
    request: DeployRequest,
    prepared: Prepared,
    pinned: DeployedJob,
    known: DeploymentRecord | None,
    asked: JobRequest,
    session: Session,
) -> NewDeployment:
    """Return the deployment that is wanted, everything in it fixed by digest.

    Its runs share a key, so that every one of them gives its result to whoever may read the
    deployment; the key of a deployment that exists stays, for the results it signed.
    """
    platform = session.platform
    environment = {
        **worker_environment(platform, pinned.name, pinned.digest),
        **pinned.blocks,
        RUN_KEY_VARIABLE: _key_of(known) or secrets.token_hex(32),
    }
    placed = platform.job_variables(asked)
    new = NewDeployment(
        flow=draft.name,
        name=request.name,
        description=request.description,
        version="",
        tags=(RUN_TAG, *draft.call.options.tags, *request.tags),
        labels={
            PLATFORM_LABEL: platform.name,
            STORE_LABEL: store_label(platform),
            OUTPUTS_LABEL: session.outputs_root,
            **_output_label(draft),
            DISPATCH_LABEL: "worker",
            FUNCTION_LABEL: draft.name,
            ACCELERATOR_LABEL: draft.runs_on,
            **hosts_label(draft),
            **({CANDIDATES_LABEL: pinned.candidates} if pinned.candidates else {}),
            **secret_labels(draft),
            JOB_LABEL: pinned.content_digest,
            IMAGE_LABEL: prepared.image.reference,
            **({PACKAGES_LABEL: prepared.packages.image} if prepared.packages else {}),
        },
        parameters=request.parameters,
        parameter_schema=request.parameter_schema,
        schedules=request.schedules,
        paused=request.paused,
        concurrency_limit=request.concurrency_limit,
        work_pool=platform.worker_pool.name,
        job_variables=platform.worker_pool.variables(prepared.image, environment, placed),
    )
    # Who deploys what is the same from where is no new version.
    versioned = _with_version(new, request)
    return replace(versioned, labels={**versioned.labels, **origin_labels(prepared.origin)})


def _output_label(draft: Draft) -> dict[str, str]:
    """Return the label of a directory that all runs have in common; others name their own."""
    output = deployed_output_spec(draft)
    if output is None or fields_of(output.place):
        return {}
    return {OUTPUT_DIR_LABEL: output.place}


def _with_version(new: NewDeployment, request: DeployRequest) -> NewDeployment:
    """Label a deployment with the digest of everything that is in it."""
    content = {name: value for name, value in vars(new).items() if name != "schedules"}
    version = sha256_hex(canonical_json({**content, "schedules": request.timing}))
    labels = {**new.labels, DEPLOYMENT_VERSION_LABEL: version}
    return replace(new, version=version[:12], labels=labels)


def _key_of(known: DeploymentRecord | None) -> str | None:
    return environment_of(known.job_variables).get(RUN_KEY_VARIABLE) if known else None


@own_task(TASK_PIN_OBJECTS)
def pin_objects_task(
    job: StoredTemplate,
    candidates: tuple[PlannedCandidate, ...],
    contents: Mapping[str, Content],
    prefix: str,
    secret_values: Mapping[str, str],
    session: Session,
) -> DeployedJob:
    """Keep a deployment's code, payload and runner for as long as the deployment needs them."""
    with step(session.progress, TASK_PIN_OBJECTS) as current:
        store = session.platform.store
        if candidates:
            from kinetic_flows.runs.candidates.deployed import deploy_candidates

            pinned = deploy_candidates(candidates, job, contents, prefix, secret_values, session)
        else:
            pinned = deploy_job(job, contents, prefix, store)
        blocks = {
            **seal_for_worker(secret_values, pinned.payload_name, store, session.api),
            # The process that drives runs of several accelerators compiles nothing.
            **({} if candidates else key_for_worker([job.template], session)),
        }
        pinned = replace(pinned, blocks=blocks)
        status: StepStatus = "done" if pinned.copied else "cached"
        current.finish(f"{pinned.version_prefix} ({pinned.copied} new objects)", status)
        return pinned


@own_task(TASK_CREATE_DEPLOYMENT)
def create_deployment_task(
    new: NewDeployment, pinned: DeployedJob, is_known: bool, session: Session
) -> str:
    """Create the deployment, or bring it up to date, and remove what it no longer needs."""
    with step(session.progress, TASK_CREATE_DEPLOYMENT) as current:
        deployment_id = PrefectDeployments(session.api).save(new)
        removed = remove_other_versions(pinned, deployment_id, session.platform.store, session.api)
        told = f"; {removed} objects of earlier versions removed" if removed else ""
        verb = "updated" if is_known else "created"
        current.finish(f"{new.flow}/{new.name} {verb}{told}")
        return deployment_id
