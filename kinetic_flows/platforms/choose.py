"""Which platform the settings mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kinetic_flows.core.files import tighten_home
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.settings import Settings

if TYPE_CHECKING:
    from kinetic_flows.core.findings import Check
    from kinetic_flows.platforms.base import Platform
    from kinetic_flows.platforms.checking import Surroundings
    from kinetic_flows.platforms.gke import checks as gke_checks
    from kinetic_flows.platforms.gke import platform as gke
    from kinetic_flows.platforms.local import checks as local_checks
    from kinetic_flows.platforms.local import platform as local
else:
    gke = LazyModule("kinetic_flows.platforms.gke.platform")
    gke_checks = LazyModule("kinetic_flows.platforms.gke.checks")
    local = LazyModule("kinetic_flows.platforms.local.platform")
    local_checks = LazyModule("kinetic_flows.platforms.local.checks")

PLATFORMS: Mapping[str, Callable[[], type[Platform]]] = {
    "local": lambda: local.LocalPlatform,
    "gke": lambda: gke.GoogleCloudPlatform,
}
"""By the name that `KINETIC_PLATFORM` has for them; each is imported when it is chosen."""


CHECKS: Mapping[str, Callable[[Surroundings], tuple[Check, ...]]] = {
    "local": lambda surroundings: local_checks.checks_of(surroundings),
    "gke": lambda surroundings: gke_checks.checks_of(surroundings),
}
"""What `kinetic doctor` asks of each."""


def choose_platform(settings: Settings, environ: Mapping[str, str]) -> Platform:
    """Return the platform to run on.

    Raises:
        ConfigurationError: The platform chosen cannot be used.
    """
    tighten_home(settings.home)
    return PLATFORMS[settings.platform]().of(settings, environ)


def this_machine(settings: Settings, environ: Mapping[str, str]) -> Platform:
    """Return this machine as a platform, whatever the settings choose.

    Args:
        settings: The settings in force.
        environ: This process's variables.
    """
    return local.LocalPlatform(settings.home, environ, is_explicit=True)


def title_of(platform: str) -> str:
    """Return what people call a platform; its name where it is not known."""
    known = PLATFORMS.get(platform)
    return known().title if known else platform


def worker_type(platform: str) -> str:
    """Return the type of the Prefect workers of a platform; empty for one that is not known."""
    known = PLATFORMS.get(platform)
    return known().worker_type if known else ""


def platform_checks(surroundings: Surroundings) -> tuple[Check, ...]:
    """Return what is to be asked of the platform that the settings choose."""
    return CHECKS[surroundings.settings.platform](surroundings)
