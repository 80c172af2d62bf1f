"""A call on each of the accelerators that its run may go on."""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.option_pairs import options_on
from kinetic_flows.plans.accelerators import image_options
from kinetic_flows.plans.draft import Draft


def draft_on(draft: Draft, accelerator: Accelerator) -> Draft:
    """Return the call as it is on one of its accelerators.

    What only others of the list can have is no option of it; what was told of the call stays.

    Args:
        draft: The call.
        accelerator: One of its candidates.

    Raises:
        KineticError: There is no image for it.
    """
    if not draft.candidates:
        return draft
    asked = image_options(draft.call.options, draft.settings)
    image = draft.platform.image_source(asked, accelerator)
    call = replace(draft.call, options=options_on(draft.call.options, accelerator))
    return replace(draft, call=call, accelerator=accelerator, image=image, candidates=())


def drafts_of(draft: Draft) -> tuple[Draft, ...]:
    """Return the call on each accelerator that its run may go on, in the order of preference."""
    return tuple(draft_on(draft, each) for each in draft.candidates) or (draft,)
