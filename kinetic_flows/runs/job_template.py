"""The job of a call, before it has a run: code, payload, requirements and options, by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from kinetic_flows.code.origin import Origin
from kinetic_flows.code.runner_bundle import runner_bundle
from kinetic_flows.core.functions import is_flow
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import CodeSpec, JobTemplate, LaunchSpec
from kinetic_flows.core.job_parts import (
    CandidateSpec,
    CompileCacheSpec,
    DebugSpec,
    ObjectRef,
    PackagesSpec,
    RequirementsSpec,
)
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.object_names import runner_object
from kinetic_flows.core.volumes import volume_specs
from kinetic_flows.plans.compile_cache import compile_cache_spec, environment_digest
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.outputs import deployed_output_spec
from kinetic_flows.plans.secrets import secret_specs
from kinetic_flows.runs.session import Session

if TYPE_CHECKING:
    from kinetic_flows.plans import cost as plan_cost
else:
    # Few runs have a limit on what they cost.
    plan_cost = LazyModule("kinetic_flows.plans.cost")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What runs of a function share: image, code, requirements; made once for all of them.

    Attributes:
        image: The image they run in.
        code: The project's code as it was shipped.
        requirements: What they install first; None when the image has everything, or the rest is
            mounted.
        packages: What is mounted besides the image; None for nothing.
        environment: What is installed, and what declares it, in words; empty when nobody knows.
        built_because: What made a new image necessary; empty when it was there.
        origin: Where the call comes from; None when that is not to be told.
        seconds: How long the phases before the launch took.
        secret_values: What is sealed for each of them, by variable.
        candidates: The same for each accelerator that runs may go on, in the order of preference;
            empty where there is one.
        debug: How they wait for a debugger; None: not at all.
        left_out: Which accelerators of the list they cannot go on, and why, a sentence each.
        rehearsed_packages: Tells their packages from others, for a function that has a rehearsal;
            None where that is not known.
    """

    image: ResolvedImage
    code: CodeSpec
    requirements: RequirementsSpec | None = None
    packages: PackagesSpec | None = None
    environment: str = ""
    built_because: tuple[str, ...] = ()
    origin: Origin | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    secret_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    candidates: tuple[PreparedCandidate, ...] = ()
    debug: DebugSpec | None = None
    left_out: tuple[str, ...] = ()
    rehearsed_packages: str | None = None


@dataclass(frozen=True, kw_only=True)
class PreparedCandidate:
    """One of the accelerators that runs may go on.

    Attributes:
        draft: The call on it; its arguments do not matter here.
        prepared: What runs on it share.
    """

    draft: Draft
    prepared: Prepared


def job_template(
    draft: Draft,
    prepared: Prepared,
    session: Session,
    *,
    owner: str,
    takes_parameters: bool = False,
    candidate: CandidateSpec | None = None,
) -> JobTemplate:
    """Return what the runs of a call have in common.

    Args:
        draft: The call.
        prepared: What runs of the function share.
        session: Where they run and report.
        owner: Whose the pieces of the call are.
        takes_parameters: Whether the function is called with the flow run's parameters.
        candidate: Which of the accelerators it is that the runs may go on; None where there is
            one.
    """
    bundle, options = runner_bundle(), draft.call.options
    volumes = volume_specs(options.volumes, len(draft.payload.data))
    data = tuple(draft.sources.ready(each) for each in draft.data)
    for warning in (told for each in draft.data for told in draft.sources.warnings(each)):
        session.progress.warning(warning)
    return JobTemplate(
        name=draft.name,
        python=draft.image.python,
        runner=ObjectRef(
            name=runner_object(bundle.sha256), sha256=bundle.sha256, size_bytes=len(bundle.data)
        ),
        code=prepared.code,
        requirements=prepared.requirements,
        packages=prepared.packages,
        payload_sha256=draft.payload.sha256,
        payload_size_bytes=len(draft.payload.content),
        pieces=tuple(piece.ref(owner) for piece in draft.payload.pieces),
        is_flow=is_flow(draft.call.function),
        takes_parameters=takes_parameters,
        output=deployed_output_spec(draft) if takes_parameters else draft.output,
        hosts=session.platform.hosts(draft.accelerator),
        max_preemptions=draft.accelerator.preemptions_tolerated(options.max_preemptions),
        retries=options.retries,
        retry_delay_seconds=options.retry_delay_seconds,
        timeout_seconds=options.timeout_seconds,
        idle_timeout_seconds=options.idle_timeout_seconds,
        stuck_after_seconds=options.stuck_after_seconds,
        debug=prepared.debug,
        profile=options.profile,
        cost=plan_cost.cost_limit(
            options.max_cost,
            draft.accelerator,
            draft.settings,
            is_here=session.platform.sees_files,
        )
        if options.max_cost is not None
        else None,
        launch=LaunchSpec(
            image=asdict(prepared.image),
            accelerator=str(draft.accelerator),
            mode=draft.mode,
            options=options.to_json(),
        ),
        data=session.platform.data_places(data, volumes),
        volumes=volumes,
        secrets=secret_specs(draft, session.platform, deployed=takes_parameters),
        candidate=candidate,
        compile_cache=_compile_cache(draft, prepared, session),
        rehearsal=draft.compiles_for,
    )


def _compile_cache(draft: Draft, prepared: Prepared, session: Session) -> CompileCacheSpec | None:
    """Return where the runs' compiled programs are kept; None where they are not."""
    if draft.compiles_for is not None:
        # A rehearsal is to compile, and what for is not there.
        return None
    platform = session.platform
    return compile_cache_spec(
        draft.call.options.compile_cache,
        draft.accelerator,
        environment_digest(
            prepared.image, draft.image.python, prepared.requirements, prepared.packages
        ),
        hosts=platform.hosts(draft.accelerator),
        is_here=platform.sees_files,
    )
