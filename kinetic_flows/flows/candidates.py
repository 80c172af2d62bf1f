"""What a call needs on each of the accelerators that its run may go on, made side by side."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kinetic_flows.clients.prefect.flow_names import TASK_PREFLIGHT, TASK_PREPARE_IMAGE
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.interruption import in_threads, stoppable
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.core.progress import LabelledProgress
from kinetic_flows.core.settings.accelerator_names import names_in_words
from kinetic_flows.flows.data_tasks import resolve_data
from kinetic_flows.flows.defaults import own_task
from kinetic_flows.flows.prepare import prepare_image
from kinetic_flows.flows.preparing import wait_for
from kinetic_flows.flows.step_times import also_took, timed_steps
from kinetic_flows.flows.steps import step
from kinetic_flows.flows.uploads import Uploads
from kinetic_flows.plans.candidates import drafts_of
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.look_ahead import lacks_place, left_to_worker, look_ahead
from kinetic_flows.plans.secret_look import FoundSecrets
from kinetic_flows.platforms.image_sources import OwnImage
from kinetic_flows.runs.job_template import Prepared, PreparedCandidate
from kinetic_flows.runs.session import Session


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A call on one accelerator that the cluster could launch it on, as far as is known.

    Attributes:
        draft: The call on it.
        found: What the cluster told; None where it was not asked.
    """

    draft: Draft
    found: Preflight | None

    @property
    def image_key(self) -> Hashable:
        """What calls have in common that run in the same image."""
        image, found = self.draft.image, self.found
        if isinstance(image, OwnImage):
            return image
        # Where packages cannot be mounted, they are installed.
        return image.mode, image.target, found.no_image_volumes if found else None


def prepare_candidates(draft: Draft, session: Session, secrets: FoundSecrets) -> Prepared:
    """Make what runs need on each of a call's accelerators that they may go on.

    Args:
        draft: The call; its arguments do not matter here.
        session: Where it runs and reports.
        secrets: Its secrets.

    Raises:
        LaunchError: The cluster has none of the accelerators.
        KineticError: A step failed, for whichever of them.
    """
    ready, left_out = _look_ahead(draft, session, secrets)
    resolve_data(draft, session.progress)
    groups: dict[Hashable, list[Ready]] = {}
    for each in ready:
        groups.setdefault(each.image_key, []).append(each)
    made = _prepare_images(draft, groups, session)
    candidates = tuple(
        PreparedCandidate(draft=each.draft, prepared=made[each.image_key]) for each in ready
    )
    return replace(
        candidates[0].prepared, candidates=candidates, left_out=(*draft.left_out, *left_out)
    )


def _look_ahead(
    draft: Draft, session: Session, secrets: FoundSecrets
) -> tuple[Sequence[Ready], tuple[str, ...]]:
    """Return the accelerators that can be had, and why others cannot."""
    drafts, platform = drafts_of(draft), session.platform
    if platform.has_preflight and platform.dispatch == "client":
        return preflight_candidates_task(drafts, session, secrets.problems)
    if platform.has_preflight:
        session.progress.aside(left_to_worker(platform.worker_pool.name))
    secrets.raise_for_problems()
    return _startable(drafts, session)


def _startable(
    drafts: Sequence[Draft], session: Session
) -> tuple[Sequence[Ready], tuple[str, ...]]:
    """Return the accelerators that a worker can start a run on, and why it cannot on others."""
    lacking = [
        lacks_place(each, session.platform, lambda: session.base_job_template) for each in drafts
    ]
    told = [Preflight(problems=(error.message,) if error else ()) for error in lacking]
    left_out = _left_out(
        [Ready(draft=each, found=found) for each, found in zip(drafts, told, strict=True)], ()
    )
    for reason in left_out:
        session.progress.notice(reason)
    startable = [each for each, error in zip(drafts, lacking, strict=True) if error is None]
    return [Ready(draft=each, found=None) for each in startable], left_out


@own_task(TASK_PREFLIGHT)
def preflight_candidates_task(
    drafts: Sequence[Draft], session: Session, problems: tuple[str, ...]
) -> tuple[Sequence[Ready], tuple[str, ...]]:
    """Ask the cluster what each accelerator's launch depends on, and leave out what cannot be had.

    Raises:
        LaunchError: None can be had: every reason is listed.
    """
    with step(session.progress, TASK_PREFLIGHT) as current:
        # Read once, for all of them.
        template = session.base_job_template
        ask = partial(_ask, session=session, template=template)
        ready = in_threads(ask, drafts, threads=len(drafts))
        left_out = _left_out(ready, problems)
        for reason in left_out:
            current.log(reason)
            session.progress.notice(reason)
        remaining = [each for each in ready if not (each.found and each.found.problems)]
        told = [each.found for each in remaining if each.found]
        for warning in dict.fromkeys(line for found in told for line in found.warnings):
            current.warn(warning)
        names = names_in_words(tuple(str(each.draft.accelerator) for each in remaining))
        current.finish(f"the cluster is ready for {names}", "passed")
        return remaining, left_out


def _ask(draft: Draft, session: Session, template: Mapping[str, object] | None) -> Ready:
    found = look_ahead(draft, session.platform, template, session.api.url)
    return Ready(draft=draft, found=found)


def _left_out(ready: Sequence[Ready], problems: tuple[str, ...]) -> tuple[str, ...]:
    """Say which accelerators cannot be had, and why.

    Args:
        ready: What the cluster told of each.
        problems: What is wrong with any.

    Raises:
        LaunchError: None can be had.
    """
    told = {str(each.draft.accelerator): each.found.problems for each in ready if each.found}
    of_all = [
        why for why in next(iter(told.values())) if all(why in each for each in told.values())
    ]
    own = {name: [why for why in each if why not in of_all] for name, each in told.items()}
    listed = [f"{name}: {'; '.join(each)}" for name, each in own.items() if each]
    if problems or of_all:
        Preflight(problems=(*problems, *of_all, *listed)).raise_for_problems()
    if len(listed) == len(ready):
        reasons = "".join(f"\n  - {each}" for each in listed)
        raise LaunchError(
            f"none of the run's accelerators can be had:{reasons}",
            value=tuple(told),
            hint="nothing was built or uploaded; see docs/capacity.md for ways to get chips",
        )
    return tuple(f"{name} is left out: {'; '.join(each)}" for name, each in own.items() if each)


def _prepare_images(
    draft: Draft, groups: Mapping[Hashable, Sequence[Ready]], session: Session
) -> dict[Hashable, Prepared]:
    """Have each image of a call made while the others are, and its code uploaded once."""
    uploads = Uploads(draft, session)
    if len(groups) == 1:
        ((key, (first, *_)),) = groups.items()
        return {key: prepare_image(first.draft, first.found, uploads, session)}
    labels = _labels(groups)
    with stoppable() as work:
        sending = uploads.begin_for_several()
        making = {
            key: prepare_image_task.with_options(
                task_run_name=f"{TASK_PREPARE_IMAGE} for {labels[key]}"
            ).submit(first, uploads, session, labels[key])
            for key, (first, *_) in groups.items()
        }
        with wait_for(*sending, *making.values(), work=work, session=session):
            pass
    made = {}
    took = []
    for key, future in making.items():
        made[key], seconds = future.result()
        took.append(seconds)
    also_took(took)
    return made


def _labels(groups: Mapping[Hashable, Sequence[Ready]]) -> dict[Hashable, str]:
    """Return what each image is shown as for: the kind of accelerator, or else their names."""
    kinds = [group[0].draft.accelerator.category for group in groups.values()]
    if len(set(kinds)) == len(kinds):
        return dict(zip(groups, kinds, strict=True))
    return {
        key: names_in_words(tuple(str(each.draft.accelerator) for each in group))
        for key, group in groups.items()
    }


@own_task(TASK_PREPARE_IMAGE)
def prepare_image_task(
    ready: Ready, uploads: Uploads, session: Session, label: str
) -> tuple[Prepared, Mapping[str, float]]:
    """Have what runs on accelerators of one kind need; say how long its phases took, too."""
    session = replace(session, progress=LabelledProgress(session.progress, label))
    with timed_steps() as seconds:
        prepared = prepare_image(ready.draft, ready.found, uploads, session)
    return prepared, seconds
