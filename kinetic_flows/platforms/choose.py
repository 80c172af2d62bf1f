"""Which platform the settings mean."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.core.files import tighten_home
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.platforms.base import Platform
from kinetic_flows.platforms.gke.platform import GoogleCloudPlatform
from kinetic_flows.platforms.local.platform import LocalPlatform

PLATFORMS: Mapping[str, type[Platform]] = {
    "local": LocalPlatform,
    "gke": GoogleCloudPlatform,
}
"""By the name that `KINETIC_PLATFORM` has for them."""


def choose_platform(settings: Settings, environ: Mapping[str, str]) -> Platform:
    """Return the platform to run on.

    Raises:
        ConfigurationError: The platform chosen cannot be used.
    """
    tighten_home(settings.home)
    return PLATFORMS[settings.platform].of(settings, environ)


def title_of(platform: str) -> str:
    """Return what people call a platform; its name where it is not known."""
    known = PLATFORMS.get(platform)
    return known.title if known else platform


def worker_type(platform: str) -> str:
    """Return the type of the Prefect workers of a platform; empty for one that is not known."""
    known = PLATFORMS.get(platform)
    return known.worker_type if known else ""
