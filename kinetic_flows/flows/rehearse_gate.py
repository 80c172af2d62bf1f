"""Before a call with `rehearse=True`: no launch on an accelerator that its steps do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.errors import KineticError, RunCancelled, in_a_sentence
from kinetic_flows.core.progress import Progress
from kinetic_flows.core.settings.accelerator_names import names_in_words
from kinetic_flows.core.settings.variables import tell_once
from kinetic_flows.flows.rehearse import rehearse
from kinetic_flows.plans.candidates import draft_on, drafts_of
from kinetic_flows.plans.draft import Draft, lock_draft
from kinetic_flows.plans.rehearsal_look import last_rehearsals, said_in, subjects_of
from kinetic_flows.plans.rehearsal_plan import plan_rehearsal
from kinetic_flows.plans.rehearsal_verdict import Verdict, judge
from kinetic_flows.plans.rehearsed import Rehearsed, packages_of
from kinetic_flows.platforms.image_sources import OwnImage
from kinetic_flows.runs.session import Session

STEP_CHECK = "check-rehearsal"

HERE = (
    "rehearse=True does nothing here: this machine has no accelerator that steps would have to fit"
)


def admitted(draft: Draft, session: Session) -> Draft:
    """Return a call of a function with `rehearse=True` as far as it may be launched.

    A rehearsal that there is not yet, or that is out of date, is made. Where none can be made, the
    call goes on with a warning.

    Args:
        draft: The call.
        session: Where it runs and reports.

    Returns:
        It without the accelerators of its list that its steps do not fit.

    Raises:
        RehearsalError: Its steps fit none of them.
        RunCancelled: Somebody cancelled the rehearsal, and the call with it.
    """
    if not draft.settings.rehearse:
        return draft
    drafts = [each for each in drafts_of(draft) if each.accelerator.category != "cpu"]
    if session.platform.sees_files or not drafts:
        tell_once([HERE], session.progress.notice)
        return draft
    with _shown(session.progress):
        packages = {each.accelerator: _packages(each, session) for each in drafts}
        subjects = subjects_of(draft, packages)
        found = last_rehearsals(draft, subjects)
    lacking = [each for each in packages if not _is_known(found.get(str(each)))]
    failure = ""
    if lacking:
        session.progress.notice(_rehearses(draft.name, lacking))
        try:
            made = rehearse(plan_rehearsal(draft, session.environ, _alike(lacking)), session)
        except RunCancelled:
            raise
        except KineticError as error:
            failure = f"its rehearsal could not be made: {in_a_sentence(error)}"
        else:
            found |= said_in([made], {str(each): subjects[str(each)] for each in lacking})
    return _without_misfits(draft, judge(list(subjects), found, failure), session)


@contextmanager
def _shown(progress: Progress) -> Iterator[None]:
    """Show that packages are locked, and rehearsals looked up."""
    progress.step(STEP_CHECK, "started")
    try:
        yield
    except BaseException:
        progress.step(STEP_CHECK, "failed")
        raise
    progress.step(STEP_CHECK, "passed")


def _rehearses(function: str, accelerators: Sequence[Accelerator]) -> str:
    """Say why a call takes longer than others."""
    names = names_in_words(tuple(map(str, accelerators)))
    return (
        f"{function} has not been rehearsed for {names} with this code and these packages, so that "
        "is done first (KINETIC_REHEARSE=0 leaves it out)"
    )


def _packages(draft: Draft, session: Session) -> str | None:
    """Return what tells a call's packages from others; they are locked as the call does."""
    is_own = isinstance(draft.image, OwnImage)
    lock = None if is_own else lock_draft(draft, session.environ, write=False)
    return packages_of(draft.image, lock)


def _is_known(found: Rehearsed | None) -> bool:
    return found is not None and found.is_current


def _alike(accelerators: Iterable[Accelerator]) -> list[Accelerator]:
    """Return accelerators without what makes no difference to a compiler, each once."""
    return list(dict.fromkeys(replace(each, spot=False, flex=False) for each in accelerators))


def _without_misfits(draft: Draft, verdict: Verdict, session: Session) -> Draft:
    """Return a call without the accelerators that it does not fit, and say so.

    Raises:
        RehearsalError: There is no other.
    """
    for warning in verdict.warnings(draft.name):
        session.progress.warning(warning)
    if not verdict.misfits:
        return draft
    rest = tuple(each for each in draft.candidates if str(each) not in verdict.misfits)
    if not rest:
        raise verdict.refusal(draft.name)
    left_out = verdict.left_out(draft.name)
    for notice in left_out:
        session.progress.notice(notice)
    first = draft_on(draft, rest[0])
    return replace(
        draft, accelerator=rest[0], image=first.image, candidates=rest, left_out=left_out
    )
