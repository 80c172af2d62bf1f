"""The flow run of a call: what it is called, and what is told of it, before and at its launch."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kinetic_flows.clients.prefect.api import NewRun
from kinetic_flows.clients.prefect.flow_names import PARENT_FLOW
from kinetic_flows.clients.prefect.labels import (
    ACCELERATOR_LABEL,
    CANDIDATES_LABEL,
    DISPATCH_LABEL,
    FUNCTION_LABEL,
    HOSTS_LABEL,
    IMAGE_LABEL,
    INDEX_LABEL,
    LAUNCHED_LABEL,
    OUTPUT_DIR_LABEL,
    OUTPUTS_LABEL,
    PACKAGES_LABEL,
    PARENT_LABEL,
    PLACE_LABEL,
    PLATFORM_LABEL,
    PREPARING,
    RUN_TAG,
    SECRETS_LABEL,
    SLICES_LABEL,
    STORE_LABEL,
)
from kinetic_flows.clients.prefect.surroundings import surrounding_tags
from kinetic_flows.code.origin import caller
from kinetic_flows.core.functions import FlowRetries, flow_retries
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import RUN_KEY_VARIABLE, RunTicket
from kinetic_flows.plans.draft import Draft, job_request
from kinetic_flows.plans.secrets import masked, secret_words
from kinetic_flows.platforms.base import JobRequest
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.origin_labels import origin_labels, origin_tags
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import store_label

NAMING_A_RUN = ("job_name", "env", "entrypoint", "command")
_NO_IMAGE_YET = ResolvedImage(reference="", digest="", labels={})


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Where a run belongs.

    Attributes:
        parent: The flow run it is shown under; None for none.
        index: Its input's place among those of its group, from 0; None when it is in none.
        name: What its run is called in its group; None for the name that its call has.
        work_queue: The work queue whose workers are to start it; None for no particular one.
        gives_up: Whether whoever wanted the run does not any more, asked while it waits.
    """

    parent: str | None
    index: int | None = None
    name: str | None = None
    work_queue: str | None = None
    gives_up: Callable[[], bool] = lambda: False


def open_run(draft: Draft, membership: Membership, session: Session) -> RunTicket:
    """Create the flow run of a call whose image and code are still to be made.

    It is Pending, named Preparing, and has no label that names its store: whoever reconciles
    runs, older clients among them, leaves it to its client until it is launched.

    Args:
        draft: The call.
        membership: Where the run belongs.
        session: Where it runs and reports.
    """
    new = new_run(draft, membership, session)
    request = job_request(draft, "", _NO_IMAGE_YET)
    shown = on_work_pool(new, request, session)
    variables = {name: text for name, text in shown.job_variables.items() if name != "image"}
    return create_flow_run(
        replace(
            shown,
            job_variables=variables,
            state_name=PREPARING,
            message="its image and code are made",
        ),
        session,
    )


def open_preparation(draft: Draft, membership: Membership, session: Session) -> str:
    """Create the flow run that a call's image and code are made in, where its run comes later.

    What a worker starts cannot be changed any more once it is created. `Hide subflows` hides this
    flow run.

    Returns:
        Its id.
    """
    new = new_run(draft, membership, session)
    return session.api.create_run(
        replace(
            new,
            flow=PARENT_FLOW,
            name=f"prepare {new.name}",
            is_folded=True,
            tags=(),
            labels={},
            retries=FlowRetries(),
            state_type="RUNNING",
            state_name="Running",
            message=f"image and code of {new.name} are made",
        )
    )


def record_failed(
    draft: Draft, membership: Membership, session: Session, state_type: str, message: str
) -> None:
    """Create the flow run of a call that something kept from being launched, ended as it is."""
    ended = replace(
        new_run(draft, membership, session),
        state_type=state_type,
        state_name=state_type.title(),
        message=message,
    )
    create_flow_run(ended, session)


def new_run(draft: Draft, membership: Membership, session: Session) -> NewRun:
    """Return the flow run of a call as far as it is known before image and code are made."""
    return NewRun(
        flow=draft.name,
        name=masked(membership.name or draft.run_name, draft.hidden),
        parent_flow_run_id=membership.parent,
        parameters=draft.argument_reprs,
        tags=run_tags(draft),
        labels=run_labels(draft, membership, session),
        job_variables={},
        work_queue=membership.work_queue,
        retries=flow_retries(draft.call.function),
    )


def create_flow_run(new: NewRun, session: Session) -> RunTicket:
    """Create a flow run with a key of its own."""
    run_key = secrets.token_hex(32)
    env = {**(new.job_variables.get("env") or {}), RUN_KEY_VARIABLE: run_key}
    new = replace(new, job_variables={**new.job_variables, "env": env})
    run_id = session.api.create_run(new)
    return RunTicket(
        run_id=run_id,
        name=new.name or new.flow,
        run_key=run_key,
        function=new.flow,
        dispatch="worker" if new.labels.get(DISPATCH_LABEL) == "worker" else "client",
        candidates=str(new.labels.get(CANDIDATES_LABEL) or ""),
        slices=int(new.labels.get(SLICES_LABEL) or 1),
    )


def on_work_pool(new: NewRun, request: JobRequest, session: Session) -> NewRun:
    """Show a run that is launched from here on the work pool that its Job is made from."""
    request = replace(request, template=session.base_job_template)
    variables = session.platform.job_variables(request)
    # What names a run is not known before it has an id.
    shown = {name: value for name, value in variables.items() if name not in NAMING_A_RUN}
    where = session.platform.place
    return replace(
        new,
        labels={**new.labels, **({PLACE_LABEL: where} if where else {})},
        work_pool=session.work_pool,
        job_variables={**new.job_variables, **shown},
    )


def run_tags(draft: Draft) -> tuple[str, ...]:
    """Return the tags of a function's runs, by which Prefect's UI finds them."""
    given = (*draft.call.options.tags, *surrounding_tags())
    given += () if draft.settings.no_origin else origin_tags(caller())
    runs_on = map(str, draft.candidates or (draft.accelerator,))
    return tuple(dict.fromkeys((RUN_TAG, *runs_on, draft.mode, *given)))


def run_labels(draft: Draft, membership: Membership, session: Session) -> dict[str, str | int]:
    """Return the labels by which a run's objects, outputs and group are found."""
    output = draft.output
    labels: dict[str, str | int] = {
        **({OUTPUT_DIR_LABEL: output.place} if output else {}),
        FUNCTION_LABEL: draft.name,
        ACCELERATOR_LABEL: draft.runs_on,
        **({SLICES_LABEL: draft.accelerator.slices} if draft.accelerator.slices > 1 else {}),
        **hosts_label(draft),
        PLATFORM_LABEL: session.platform.name,
        OUTPUTS_LABEL: session.outputs_root,
        **secret_labels(draft),
    }
    if membership.index is not None:
        labels |= {PARENT_LABEL: membership.parent or "", INDEX_LABEL: membership.index}
    return labels


def hosts_label(draft: Draft) -> dict[str, int]:
    """Return the label that tells on how many nodes with CPUs or GPUs a run is; none for one."""
    hosts = draft.call.options.hosts or 1
    return {HOSTS_LABEL: hosts} if hosts > 1 else {}


def secret_labels(draft: Draft) -> dict[str, str]:
    """Return the label that names secret variables; none for runs without any."""
    words = secret_words(draft)
    return {SECRETS_LABEL: words} if words else {}


def launch_labels(prepared: Prepared, session: Session) -> dict[str, str | int]:
    """Return the labels of a run that is launched: who knows its store may look after it."""
    mounted = {PACKAGES_LABEL: prepared.packages.image} if prepared.packages else {}
    return {
        **origin_labels(prepared.origin),
        **mounted,
        STORE_LABEL: store_label(session.platform),
        LAUNCHED_LABEL: datetime.now(UTC).isoformat(),
        IMAGE_LABEL: prepared.image.reference,
    }
