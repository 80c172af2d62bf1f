"""What a run may cost: refused before anything is done for it where that cannot be held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.prices import LOCAL, price_of, priced_as
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job_parts import CostLimit
from kinetic_flows.core.money import ESTIMATE, dollars
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.plans.planned_cost import hourly_words

if TYPE_CHECKING:
    from kinetic_flows.plans.draft import Draft

SECONDS_AN_HOUR = 3600.0


def check_max_cost(
    limit: float, accelerators: Sequence[Accelerator], settings: Settings, *, is_here: bool
) -> tuple[str, ...]:
    """Refuse a limit on what cannot be counted, and return what the person should know.

    Args:
        limit: What a run may cost, in US dollars.
        accelerators: What it may run on.
        settings: The settings in force.
        is_here: Whether it runs on this machine, whatever it stands for.

    Raises:
        UsageError: What an hour of one of them costs is not known.
    """
    own = settings.own_prices
    unknown = [each for each in accelerators if price_of(each, own, is_here=is_here) is None]
    if unknown and is_here:
        told = f"max_cost={limit:g} does nothing on this machine, an hour of which has no price"
        return (f"{told}; KINETIC_PRICES='{{\"{LOCAL}\": 1.5}}' gives it one",)
    if unknown:
        raise UsageError(
            f"max_cost is {limit:g}, and what an hour of {unknown[0]} costs is not known",
            value=limit,
            hint=f"say it in US dollars, as KINETIC_PRICES='{{\"{priced_as(unknown[0])}\": 1.5}}' "
            f"for {_what(unknown[0])}, or leave max_cost out",
        )
    return ()


def sweep_warnings(limit: float, draft: Draft) -> tuple[str, ...]:
    """Refuse a limit on what a sweep costs where that cannot be counted, as `check_max_cost`.

    Args:
        limit: What its runs may cost together, in US dollars.
        draft: A call of the function.

    Raises:
        UsageError: What an hour of one of its accelerators costs is not known.
    """
    accelerators = draft.candidates or (draft.accelerator,)
    is_here = draft.platform.sees_files
    return check_max_cost(limit, accelerators, draft.settings, is_here=is_here)


def cost_limit(
    limit: float | None, accelerator: Accelerator, settings: Settings, *, is_here: bool
) -> CostLimit | None:
    """Return what a run's process is told of what it may cost; None for no limit.

    Args:
        limit: What it may cost, in US dollars; None for any amount.
        accelerator: What it runs on.
        settings: The settings in force.
        is_here: Whether it runs on this machine, whatever it stands for.
    """
    if limit is None:
        return None
    price = price_of(accelerator, settings.own_prices, is_here=is_here)
    return None if price is None else CostLimit(hourly=price.hourly, limit=limit)


def hourly_in_words(
    accelerators: Sequence[Accelerator],
    own: Mapping[str, float],
    limit: float | None,
    *,
    is_here: bool,
) -> str:
    """Say what an hour of each accelerator costs of which that is known; empty for none.

    Args:
        accelerators: What a run may go on.
        own: Prices of people's own.
        limit: What the run may cost before it is ended, in US dollars; None for any amount.
        is_here: Whether it runs on this machine, whatever it stands for.
    """
    told, sources = [], dict[str, None]()
    for each in accelerators:
        price = price_of(each, own, is_here=is_here)
        if price is not None:
            count = 1 if is_here else each.count or each.hosts
            on = f" on {each}" if len(accelerators) > 1 else ""
            told.append(f"{hourly_words(price.hourly, count)}{on}")
            sources[price.source] = None
    if not told:
        return ""
    ends = f"; ended when it has cost {dollars(limit)}" if limit is not None else ""
    return f"{', '.join(told)}, {ESTIMATE} by {' and '.join(sources)}{ends}"


def _what(accelerator: Accelerator) -> str:
    return "an hour of each chip" if accelerator.count else "an hour of each node"
