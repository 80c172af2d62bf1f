"""Looking up what rehearsals said of a call: on this machine, and if need be once in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.rehearsals import RehearsalRecord
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.planned_rehearsal import PlannedRehearsal
from kinetic_flows.plans.rehearsal import code_digest, function_id, target_for
from kinetic_flows.plans.rehearsal_records import RehearsalRecords, newest
from kinetic_flows.plans.rehearsed import Rehearsed, Subjects, packages_of, rehearsed_on


def records_of(draft: Draft) -> RehearsalRecords:
    """Return what keeps the rehearsals of a call's project."""
    platform = draft.platform
    return RehearsalRecords(
        home=draft.settings.home, store=platform.store, trust=platform.store_trust
    )


def subjects_of(draft: Draft, packages: Mapping[Accelerator, str | None]) -> dict[str, Subjects]:
    """Return what a call would be rehearsed of, by the name of the accelerator.

    Args:
        draft: A call of a function that has a rehearsal.
        packages: What tells its packages from others, by the accelerator; CPUs do not count.

    Raises:
        UnpicklableError: The function's rehearsal cannot be pickled.
    """
    code = code_digest(draft)
    # On this machine runs have the packages of this machine, whatever they stand in for.
    is_here = draft.platform.sees_files
    targets = {each: target_for(each) for each in packages if each.category != "cpu"}
    return {
        str(each): Subjects(
            accelerator=target.accelerator,
            devices=target.devices,
            code=code,
            packages=None if is_here else packages[each],
        )
        for each, target in targets.items()
    }


def last_rehearsals(draft: Draft, subjects: Mapping[str, Subjects]) -> dict[str, Rehearsed]:
    """Return what the last rehearsals of a call's function said, by the accelerator's name.

    The store is asked once where this machine knows none of this code and these packages on each
    of the accelerators; else nobody is.

    Args:
        draft: A call of a function that has a rehearsal.
        subjects: What it would be rehearsed of.
    """
    function = function_id(draft.call.function, draft.root.path)
    records = records_of(draft)
    known = records.here(function)
    found = said_in(known, subjects)
    if all(name in found and found[name].is_current for name in subjects):
        return found
    return said_in(newest((*known, *records.shared(function))), subjects)


def said_in(
    records: Sequence[RehearsalRecord], subjects: Mapping[str, Subjects]
) -> dict[str, Rehearsed]:
    """Return what rehearsals say, by the accelerator's name, of those that they speak of."""
    found = {name: rehearsed_on(records, asked) for name, asked in subjects.items()}
    return {name: each for name, each in found.items() if each is not None}


def planned(draft: Draft, lock: Lock | None) -> tuple[PlannedRehearsal | None, tuple[str, ...]]:
    """Return what a plan says of a call's rehearsal, and what of that is in the way.

    Args:
        draft: A call on one accelerator, of a function that has a rehearsal.
        lock: Its packages; None where they are an image's own.
    """
    try:
        subjects = subjects_of(draft, {draft.accelerator: packages_of(draft.image, lock)})
    except KineticError as error:
        told = f"nothing is known of its rehearsal: {error.message}"
        return None, (told,) if is_asked_for(draft) else ()
    found = last_rehearsals(draft, subjects).get(str(draft.accelerator))
    if found is None:
        return None, ()
    if not found.misfit or not is_asked_for(draft):
        return found.planned(), ()
    return found.planned(), (f"it does not fit, as its rehearsal says: {found.misfit}",)


def is_asked_for(draft: Draft) -> bool:
    """Whether a call is refused where its rehearsal says that it does not fit."""
    is_asked = draft.call.options.rehearse and draft.settings.rehearse
    return is_asked and not draft.platform.sees_files
