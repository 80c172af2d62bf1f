"""Making the plan of one call, second half: everything that has to be asked, and nothing done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.prefect.timings import PHASES
from kinetic_flows.code.captured_globals import captured_globals
from kinetic_flows.code.manifest import decode_manifest
from kinetic_flows.core.environment import ImageRequest
from kinetic_flows.core.errors import KineticError, in_a_sentence
from kinetic_flows.core.image_builder import ImagePreview
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.dependencies.explain import explain_change
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.images.base_lookup import FoundBase, WantedBase, find_base
from kinetic_flows.images.inspection import ImageReport, ImageRequirements, check_image
from kinetic_flows.plans.data_plan import plan_data, plan_volumes
from kinetic_flows.plans.draft import Draft, job_request, lock_draft
from kinetic_flows.plans.look_ahead import lacks_place, left_to_worker, look_ahead
from kinetic_flows.plans.outputs import check_place, planned_outputs
from kinetic_flows.plans.packages import (
    ASSEMBLED,
    MOUNTED,
    Packages,
    PackagesVolume,
    WheelQuestion,
    decide_packages,
)
from kinetic_flows.plans.past import PastRuns
from kinetic_flows.plans.plan import (
    CodeSummary,
    PlannedFile,
    PlannedVariable,
    RunPlan,
)
from kinetic_flows.plans.planned_cost import planned_cost
from kinetic_flows.plans.prefect_answers import PrefectAnswers, Took, ask_prefect
from kinetic_flows.plans.secret_look import plan_secrets
from kinetic_flows.plans.secrets import secret_sources, shown_value
from kinetic_flows.platforms.image_sources import (
    DecidedBaseImage,
    DecidedImage,
    DecidedProjectImage,
)

if TYPE_CHECKING:
    from kinetic_flows.core.accelerators import prices
    from kinetic_flows.plans import list_planning, rehearsal_look
else:
    prices = LazyModule("kinetic_flows.core.accelerators.prices")
    # Most calls name one accelerator.
    list_planning = LazyModule("kinetic_flows.plans.list_planning")
    # Few functions have a rehearsal.
    rehearsal_look = LazyModule("kinetic_flows.plans.rehearsal_look")

PLANNED_RUN_ID = "00000000-0000-0000-0000-000000000000"
"""Stands for the id that a planned run has not got yet."""


@dataclass(frozen=True, kw_only=True)
class _LookedAhead:
    """What was found out about launching the run, with nothing of it raised."""

    dispatched_by: str | None
    found: Preflight
    notices: tuple[str, ...] = ()
    rooms: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PlanOnOne:
    """The plan of a call on one accelerator.

    Attributes:
        plan: The plan.
        problems: Those of its obstacles for which the accelerator is left out of a list.
    """

    plan: RunPlan
    problems: tuple[str, ...]


def plan_call(draft: Draft, environ: Mapping[str, str]) -> RunPlan:
    """Decide the rest of a call and return all of it; nothing outside this machine changes.

    Args:
        draft: What is decided already.
        environ: Variables for uv.

    Raises:
        KineticError: The dependencies or the image cannot be.
    """

    def plan_one(each: Draft) -> PlanOnOne:
        return _plan(each, environ)

    return list_planning.plan_list(draft, plan_one) if draft.candidates else plan_one(draft).plan


def _plan(draft: Draft, environ: Mapping[str, str]) -> PlanOnOne:
    """Decide the rest of a call on one accelerator."""
    ask = _Questions(draft=draft, environ=environ)
    decided = draft.image.decide(ask)
    image, lock = decided.image, decided.lock
    filtered, told = (lock.filtered, lock.warnings) if lock else ((), ())
    may_be_built = image is None or isinstance(decided, DecidedBaseImage)
    answers = ask_prefect(draft, environ, has_to_be_built=may_be_built)
    ahead = _look_ahead(draft, answers)
    secrets = plan_secrets(draft, environ, answers.blocks)
    packages = _packages(draft, decided, ahead, ask)
    volume = packages.volume
    making, not_made = _look_at_image(draft, decided, volume)
    data = plan_data(draft)
    rehearsed, misfit = rehearsal_look.planned(draft, lock) if draft.rehearsal else (None, ())
    platform = draft.platform
    expected = image or ResolvedImage(reference=decided.reference, digest="", labels={})
    mounted = volume.mounted(volume.expected) if volume else None
    asked = job_request(draft, PLANNED_RUN_ID, expected, mounted)
    variables = platform.job_variables(
        replace(asked, data=data.specs, volumes=data.volumes, template=answers.template)
    )
    built = image if volume is None else volume.image
    plan = RunPlan(
        name=draft.name,
        platform=platform.name,
        accelerator=str(draft.accelerator),
        mode=draft.mode,
        build_step=ASSEMBLED if volume else draft.image.build_step,
        packages_come=MOUNTED if volume else draft.image.packages_come,
        packages_image=volume.request.reference if volume else None,
        packages_cached=volume.image is not None if volume else None,
        image=decided.reference,
        digest=image.digest if image else None,
        size_bytes=image.config.size_bytes if image and image.config else None,
        cached=image is not None,
        dependency_file=str(draft.source.path) if draft.source.path else None,
        dependency_source=draft.source.label,
        environment=decided.environment,
        code=CodeSummary(files=draft.snapshot.files, size_bytes=draft.snapshot.size_bytes),
        job_variables=variables if image and built else {},
        filtered=filtered,
        warnings=(
            *draft.warnings,
            *decided.warnings,
            *(line for line in told if line not in filtered),
            *(making.warnings if making else ()),
            *ahead.found.warnings,
            *data.warnings,
            *secrets.warnings,
        ),
        obstacles=(
            *ahead.found.problems,
            *misfit,
            *not_made,
            *data.obstacles,
            *secrets.problems,
            *_store_obstacles(draft),
            *_output_obstacles(draft),
            *answers.obstacles,
        ),
        why=None if built else _reasons_to_build(draft, decided),
        notices=(
            *(*draft.notices, *answers.notices, *ahead.notices, *ahead.found.notices),
            *([packages.told] if packages.told else []),
        ),
        where=platform.where(),
        prefect_api=answers.api_url,
        dispatched_by=ahead.dispatched_by,
        hardware=draft.accelerator.to_json(),
        asks_for=platform.asks_for(
            draft.accelerator, draft.call.options, answers.template, variables
        ),
        rooms=ahead.rooms,
        root=str(draft.snapshot.root),
        files=_files(draft),
        data=data.data,
        volumes=plan_volumes(draft.call.options),
        variables=_variables(draft, variables),
        captured=captured_globals(draft.call.function, draft.root),
        past=_past(answers.runs),
        cost=planned_cost(
            prices.price_of(
                draft.accelerator, draft.settings.own_prices, is_here=draft.platform.sees_files
            ),
            [each.seconds for each in answers.runs],
            draft.call.options.max_cost,
        ),
        builds=None if built else _past(answers.builds),
        making=making,
        outputs=planned_outputs(draft),
        rehearsed=rehearsed,
    )
    return PlanOnOne(plan=plan, problems=(*ahead.found.problems, *misfit))


@dataclass(frozen=True, kw_only=True)
class _Questions:
    """Asks plainly, and stores nothing."""

    draft: Draft
    environ: Mapping[str, str]

    def lock(self, base: ResolvedImage | None = None) -> Lock:
        return lock_draft(self.draft, self.environ, base=base, write=False)

    def resolve(self, request: ImageRequest) -> ResolvedImage | None:
        return self.draft.platform.registry.resolve(request.reference)

    def find_base(self, wanted: WantedBase) -> FoundBase:
        return find_base(self.draft.platform.registry, wanted)

    def check(self, reference: str, required: ImageRequirements) -> ImageReport:
        return check_image(self.draft.platform.registry, reference, required)


def _look_ahead(draft: Draft, answers: PrefectAnswers) -> _LookedAhead:
    """Ask the cluster what speaks against a launch; a plan does without an answer."""
    platform = draft.platform
    try:
        dispatched_by = platform.dispatch
        if not platform.has_preflight or dispatched_by != "client":
            lacking = lacks_place(draft, platform, lambda: answers.template)
            return _LookedAhead(
                dispatched_by=dispatched_by,
                found=Preflight(problems=(lacking.message,) if lacking else ()),
                notices=(
                    (left_to_worker(platform.worker_pool.name),) if platform.has_preflight else ()
                ),
            )
        found = look_ahead(draft, platform, answers.template, answers.expected_url)
    except KineticError as error:
        problem = f"the cluster cannot be asked: {error.message}"
        return _LookedAhead(dispatched_by=None, found=Preflight(problems=(problem,)))
    return _LookedAhead(dispatched_by=dispatched_by, found=found, rooms=_rooms(draft, found))


def _rooms(draft: Draft, found: Preflight) -> tuple[str, ...] | None:
    """Say what is free where the run could go, and who waits; None where nobody may know."""
    try:
        rooms = draft.platform.launcher.rooms()
    except KineticError:
        return None
    if rooms is None:
        return None
    named, now = {pool.name for pool in found.seen_pools}, datetime.now(UTC)
    return tuple(
        room.outlook(draft.accelerator, now)
        for room in rooms
        if (room.pool.name in named if named else room.pool.offers(draft.accelerator))
    )


def _look_at_image(
    draft: Draft, decided: DecidedImage, volume: PackagesVolume | None
) -> tuple[ImagePreview | None, tuple[str, ...]]:
    """Return how an image would be made that has to be, and why it could not be."""
    if volume:
        found, request, environment = volume.image, volume.request, volume.environment
    elif isinstance(decided, DecidedProjectImage):
        found, request, environment = decided.image, decided.request, decided.environment
    else:
        return None, ()
    if found:
        return None, ()
    try:
        return draft.platform.builder.preview(request, environment), ()
    except KineticError as error:
        return None, (in_a_sentence(error),)


def _store_obstacles(draft: Draft) -> tuple[str, ...]:
    try:
        draft.platform.store.check()
    except KineticError as error:
        return (in_a_sentence(error),)
    return ()


def _output_obstacles(draft: Draft) -> tuple[str, ...]:
    try:
        check_place(draft)
    except KineticError as error:
        return (in_a_sentence(error),)
    return ()


def _packages(
    draft: Draft, decided: DecidedImage, ahead: _LookedAhead, ask: _Questions
) -> Packages:
    """Decide how the packages of a prebuilt run come to it; nothing is decided of other runs."""
    if not isinstance(decided, DecidedBaseImage):
        return Packages()
    found = ahead.found if ahead.dispatched_by == "client" else None
    wheels = WheelQuestion(home=draft.settings.home, environ=ask.environ)
    return decide_packages(decided, found, ask, wheels)


def _reasons_to_build(draft: Draft, decided: DecidedImage) -> tuple[str, ...] | None:
    """Say what makes an environment new, of an image that has to be built."""
    if decided.environment is None:
        return None
    return explain_change(
        home=draft.settings.home,
        project_root=draft.source.project_root,
        environment=decided.environment,
    )


def _files(draft: Draft) -> tuple[PlannedFile, ...]:
    entries = decode_manifest(draft.snapshot.manifest)
    return tuple(
        PlannedFile(path=entry.path, size_bytes=entry.size_bytes)
        for entry in entries
        if entry.sha256
    )


def _variables(draft: Draft, given: Mapping[str, Any]) -> tuple[PlannedVariable, ...]:
    """Return the variables that go along: the person's, the product's, and the cluster's."""
    captured = [
        PlannedVariable(name=name, value=shown_value(name, value), source="capture_env_vars")
        for name, value in sorted(draft.captured.items())
    ]
    own = [
        PlannedVariable(name=name, value=shown_value(name, str(value)), source="kinetic")
        for name, value in sorted((given.get("env") or {}).items())
    ]
    chosen = draft.platform.chosen_variables(draft.call.options)
    secrets = [
        PlannedVariable(
            name=str(each[kind]["name"]), value=None, source=f"every key of the {kind[:-3]}"
        )
        for each in chosen.get("env_from") or ()
        for kind in ("secretRef", "configMapRef")
        if kind in each
    ]
    named = [
        PlannedVariable(name=name, value=None, source=str(source))
        for name, source in sorted(secret_sources(draft).items())
    ]
    return (*named, *captured, *own, *secrets)


def _past(took: Sequence[Took]) -> PastRuns | None:
    if not took:
        return None
    return PastRuns(
        count=len(took),
        median_seconds=median(each.seconds for each in took),
        last_seconds=took[0].seconds,
        last_ended=took[0].ended,
        phases={
            phase: median(each.phases[phase] for each in took if phase in each.phases)
            for phase in PHASES
            if any(phase in each.phases for each in took)
        },
    )
