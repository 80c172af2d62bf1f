"""Looking up what rehearsals said of a call: on this machine, and if need be once in the store."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.core.errors import UnpicklableError
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.planned_rehearsal import PlannedRehearsal
from kinetic_flows.plans.rehearsal import code_digest, function_id
from kinetic_flows.plans.rehearsal_records import RehearsalRecords, newest
from kinetic_flows.plans.rehearsed import Rehearsed, packages_digest, rehearsed_on


def records_of(draft: Draft) -> RehearsalRecords:
    """Return what keeps the rehearsals of a call's project."""
    platform = draft.platform
    return RehearsalRecords(
        home=draft.settings.home, store=platform.store, trust=platform.store_trust
    )


def last_rehearsals(draft: Draft, packages: Mapping[str, str | None]) -> dict[str, Rehearsed]:
    """Return what the last rehearsals of a call's function said, by the accelerator's name.

    The store is asked once where this machine knows none of this code and these packages on each
    of the accelerators; else nobody is.

    Args:
        draft: A call of a function that has a rehearsal.
        packages: Digest of the packages by the accelerator's name, as `packages_digest` gives it;
            None where that is not known.

    Raises:
        UnpicklableError: The function's rehearsal cannot be pickled.
    """
    function, code = function_id(draft.call.function), code_digest(draft)
    records = records_of(draft)
    known = records.here(function)
    found = {name: rehearsed_on(known, name, code, of) for name, of in packages.items()}
    if not all(each is not None and each.is_current for each in found.values()):
        known = newest((*known, *records.shared(function)))
        found = {name: rehearsed_on(known, name, code, of) for name, of in packages.items()}
    return {name: each for name, each in found.items() if each is not None}


def planned(draft: Draft, lock: Lock | None) -> tuple[PlannedRehearsal | None, tuple[str, ...]]:
    """Return what a plan says of a call's rehearsal, and what of that is in the way.

    Args:
        draft: A call on one accelerator, of a function that has a rehearsal.
        lock: Its packages; None where they are an image's own.
    """
    name = str(draft.accelerator)
    try:
        found = last_rehearsals(draft, {name: packages_digest(lock) if lock else None}).get(name)
    except UnpicklableError as error:
        told = f"nothing is known of its rehearsal: {error.message}"
        return None, (told,) if is_asked_for(draft) else ()
    if found is None:
        return None, ()
    if not found.misfit or not is_asked_for(draft):
        return found.planned(), ()
    return found.planned(), (f"it does not fit, as its rehearsal says: {found.misfit}",)


def is_asked_for(draft: Draft) -> bool:
    """Whether a call is refused where its rehearsal says that it does not fit."""
    is_asked = draft.call.options.rehearse and draft.settings.rehearse
    return is_asked and not draft.platform.sees_files
