"""Answering a call with the result of an earlier run of the same call."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kinetic_flows.clients.prefect.api import NewRun, RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import TASK_LAUNCH_ACCELERATOR
from kinetic_flows.clients.prefect.labels import (
    CACHE_LABEL,
    CACHED_FROM_LABEL,
    CACHED_KEY_LABEL,
    OUTPUT_DIR_LABEL,
    STORE_LABEL,
    cache_tag,
)
from kinetic_flows.core.errors import ObjectRefusedError
from kinetic_flows.core.job import RUN_KEY_VARIABLE, RunTicket, canonical_json, sha256_hex
from kinetic_flows.core.job_parts import DataSpec
from kinetic_flows.core.run_keys import masked_key
from kinetic_flows.core.sealing import identity_of
from kinetic_flows.core.volumes import volume_places
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.secrets import secret_sources
from kinetic_flows.runs.description import outputs_of
from kinetic_flows.runs.flow_run import Membership, launch_labels, run_labels, run_tags
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.launch import OnCreated, ignore, launch_run
from kinetic_flows.runs.results import read_result
from kinetic_flows.runs.sealed_values import identity_key
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import store_label, ticket_of

CANDIDATES = 20
"""How many of the newest runs of the same call are looked at."""


def cache_key(draft: Draft, prepared: Prepared, session: Session) -> str:
    """Return the digest that two calls have in common which may share a result.

    That is all of the shipped code, the pickled call with its arguments, the variables taken
    along, its data and at which paths it is, the directory of outputs where it is named, and the
    dependencies; where those are not known, the image. Of secrets it is where they come from: a
    token that was renewed is no other call; of claims which they are, not what is in them. On
    which accelerator of a list it ran does not matter, but which dependencies it could have had.
    """
    code = prepared.code
    # As it was sent, which may be another than was looked at before.
    data = [_identity(draft.sources.ready(each)) for each in draft.data]
    places = volume_places(draft.call.options.volumes)
    return sha256_hex(
        canonical_json(
            {
                # What calls without data were kept under stays.
                **({"data": data} if data else {}),
                **({"volumes": places} if places else {}),
                **_variables(draft, session),
                "code": code.manifest.sha256,
                "paths": [*code.sys_path, *code.late_sys_path, code.working_directory],
                "call": draft.payload.sha256,
                "pieces": [piece.sha256 for piece in draft.payload.pieces],
                **_dependencies(prepared),
                "python": draft.image.python,
                # What stands there is part of what the call is made for.
                **({"output_dir": draft.output.place} if draft.output else {}),
            }
        )
    )


def _identity(spec: DataSpec) -> list[str | bool]:
    """Return what a result may depend on of data."""
    return [spec.identity, spec.name, spec.is_file]


def _dependencies(prepared: Prepared) -> dict[str, Any]:
    """Return what a result may depend on of dependencies: those of each accelerator of a list."""
    several = [each.prepared for each in prepared.candidates] or [prepared]
    found = {
        (
            each.environment or each.image.digest,
            str(each.requirements.lock.sha256) if each.requirements else None,
        )
        for each in several
    }
    if len(found) > 1:
        return {"environments": sorted(found, key=str)}
    ((environment, requirements),) = found
    return {"environment": environment, "requirements": requirements}


def _variables(draft: Draft, session: Session) -> dict[str, Any]:
    """Return what tells variables from others, without telling their values; nothing for none."""
    told: dict[str, Any] = {}
    if sources := secret_sources(draft):
        told["secrets"] = {name: str(source) for name, source in sources.items()}
    if draft.captured:
        key = identity_key(session.platform, session.settings.home)
        told["variables"] = identity_of(draft.captured, key)
    return told


def launch_or_reuse(
    draft: Draft,
    prepared: Prepared,
    membership: Membership,
    session: Session,
    on_created: OnCreated = ignore,
    *,
    opened: RunTicket | None = None,
) -> RunTicket:
    """Launch a call, or, with `cache_for`, answer it with the result of an earlier run.

    Args:
        draft: The call.
        prepared: What runs of the function share.
        membership: Where the run belongs.
        session: Where it runs and reports.
        on_created: Told of the run before it is started.
        opened: Its flow run, where that was created before; else None.

    Raises:
        KineticError: It could not be started; its flow run says so.
    """
    cache_for = draft.call.options.cache_for
    key = None if cache_for is None else cache_key(draft, prepared, session)
    earlier = _find(key, None if cache_for is True else cache_for, session) if key else None
    if earlier is None:
        return launch_run(
            draft,
            prepared,
            membership,
            session,
            opened=opened,
            cache_key=key,
            on_created=on_created,
        )
    session.progress.step(TASK_LAUNCH_ACCELERATOR, "cached", f"the result of run {earlier.id}")
    if opened is not None:
        return _answer_opened(opened, prepared, earlier, session)
    return _answer(draft, prepared, membership, earlier, session)


def _find(key: str, max_age: timedelta | None, session: Session) -> RunRecord | None:
    """Return a run with this key whose result is there and genuine."""
    query = RunQuery(state_types=("COMPLETED",), tag=cache_tag(key))
    here = store_label(session.platform)
    for record in session.api.find_runs(query, limit=CANDIDATES):
        is_same = record.labels.get(CACHE_LABEL) == key and record.labels.get(STORE_LABEL) == here
        is_own = CACHED_FROM_LABEL not in record.labels
        ended = record.ended or record.created
        is_young = max_age is None or datetime.now(UTC) - ended <= max_age
        if is_same and is_own and is_young and _has_value(record, session):
            return record
    return None


def _has_value(record: RunRecord, session: Session) -> bool:
    try:
        envelope = read_result(session.platform.store, ticket_of(record))
    except ObjectRefusedError as refusal:
        session.progress.warning(refusal.message)
        return False
    return envelope is not None and envelope.header.status == "returned"


def _answer(
    draft: Draft,
    prepared: Prepared,
    membership: Membership,
    earlier: RunRecord,
    session: Session,
) -> RunTicket:
    """Make a flow run that is Cached from its beginning, and leads to the earlier result."""
    key = ticket_of(earlier).run_key
    name = membership.name or draft.run_name
    run_id = session.api.create_run(
        NewRun(
            flow=draft.name,
            name=name,
            parent_flow_run_id=membership.parent,
            parameters=draft.argument_reprs,
            tags=run_tags(draft),
            labels={
                **run_labels(draft, membership, session),
                **launch_labels(prepared, session),
                CACHED_FROM_LABEL: earlier.id,
                **_outputs_label(earlier),
            },
            job_variables={"env": {RUN_KEY_VARIABLE: key}},
            state_type="COMPLETED",
            state_name="Cached",
            message=f"the result of run {earlier.id}",
        )
    )
    return RunTicket(
        run_id=run_id, name=name, run_key=key, result_run_id=earlier.id, function=draft.name
    )


def _outputs_label(earlier: RunRecord) -> dict[str, str]:
    """Return the label that tells where the run has its outputs whose result is used."""
    outputs = outputs_of(earlier)
    return {OUTPUT_DIR_LABEL: outputs} if outputs else {}


def _answer_opened(
    opened: RunTicket, prepared: Prepared, earlier: RunRecord, session: Session
) -> RunTicket:
    """Make a flow run that was created before Cached; it leads to the earlier result."""
    key = ticket_of(earlier).run_key
    labels = {
        **launch_labels(prepared, session),
        CACHED_FROM_LABEL: earlier.id,
        CACHED_KEY_LABEL: masked_key(key, opened.run_key),
        **_outputs_label(earlier),
    }
    session.api.add_labels(opened.run_id, labels)
    session.api.set_state(
        opened.run_id, "COMPLETED", name="Cached", message=f"the result of run {earlier.id}"
    )
    return replace(opened, run_key=key, result_run_id=earlier.id)
