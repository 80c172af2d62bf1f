"""What a call runs on: one accelerator, or the first to be had of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinetic_flows.core.accelerators import Accelerator, needs_node_pools, parse_accelerator
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.platforms.base import ImageOptions, Notices, Platform
from kinetic_flows.platforms.image_sources import ImageSource

if TYPE_CHECKING:
    from kinetic_flows.core import option_pairs
    from kinetic_flows.plans import cost as plan_cost
else:
    # Most calls say none of them.
    option_pairs = LazyModule("kinetic_flows.core.option_pairs")
    plan_cost = LazyModule("kinetic_flows.plans.cost")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a call runs on.

    Attributes:
        accelerator: The first that its run may go on.
        image: Where the image for that comes from.
        candidates: All that it may go on, in the order of preference; empty where there is one.
        told: What the person should know about running there.
    """

    accelerator: Accelerator
    image: ImageSource
    candidates: tuple[Accelerator, ...]
    told: Notices

    def most_hosts(self, platform: Platform) -> int:
        """Return how many hosts the run has at most."""
        return max(platform.hosts(each) for each in self.candidates or (self.accelerator,))


def choose(options: RunOptions, settings: Settings, platform: Platform) -> Choice:
    """Return what a call runs on, and where the image for it comes from.

    Args:
        options: How it is to run.
        settings: The settings in force.
        platform: Where it will run; the cluster is asked only what a name leaves open.

    Raises:
        AcceleratorError: There is no such accelerator, or not as many of it.
        UsageError: Options do not go together.
        KineticError: An accelerator, or an image for it, is not to be had there.
    """
    hosts, slices = options.hosts or 1, options.slices or 1
    names = options.accelerators_or(settings.accelerator)
    named = (parsed(name, platform) for name in names)
    # Several names for the same are one.
    several = tuple(dict.fromkeys(each.times(hosts=hosts, slices=slices) for each in named))
    warnings: tuple[str, ...] = ()
    if options.has_pairs:
        option_pairs.check_ways(options, several)
        warnings = (
            *option_pairs.without_effect(options, names, several),
            *option_pairs.without_chips(options, several, is_here=platform.sees_files),
        )
    if options.max_cost is not None:
        warnings += plan_cost.check_max_cost(
            options.max_cost, several, settings, is_here=platform.sees_files
        )
    if len(several) > 1 and not platform.tries_lists:
        several = (_first_here(several, options, settings, platform),)
    asked = image_options(options, settings)
    images = [platform.image_source(asked, each) for each in several]
    return Choice(
        accelerator=several[0],
        image=images[0],
        candidates=several if len(several) > 1 else (),
        told=_told(platform, several, images[0], warnings),
    )


def image_options(options: RunOptions, settings: Settings) -> ImageOptions:
    """Return which image is asked for: the variable overrides the decorator."""
    return ImageOptions(
        container_image=settings.container_image or options.container_image,
        ship_wheels=options.ship_wheels,
        framework=options.framework,
    )


def parsed(name: str, platform: Platform) -> Accelerator:
    """Return the accelerator of a name; the cluster is asked only what the name leaves open.

    Raises:
        AcceleratorError: There is none.
    """
    pools = platform.launcher.node_pools() if needs_node_pools(name) else None
    return parse_accelerator(name, pools=pools)


def _first_here(
    several: tuple[Accelerator, ...], options: RunOptions, settings: Settings, platform: Platform
) -> Accelerator:
    """Return the first of a list that a platform has which does not wait for any.

    Raises:
        ConfigurationError: It has none of them.
    """
    asked = image_options(options, settings)
    refusals = []
    for each in several:
        try:
            platform.image_source(asked, each)
        except ConfigurationError as error:
            refusals.append(error)
        else:
            return each
    raise refusals[0]


def _told(
    platform: Platform,
    accelerators: tuple[Accelerator, ...],
    image: ImageSource,
    warnings: tuple[str, ...],
) -> Notices:
    """Return what the person should know about each of them, every sentence once."""
    told = [platform.notices(each, image.mode) for each in accelerators]
    told.append(Notices(warnings=warnings))
    return Notices(
        notices=tuple(dict.fromkeys(line for each in told for line in each.notices)),
        warnings=tuple(dict.fromkeys(line for each in told for line in each.warnings)),
    )
