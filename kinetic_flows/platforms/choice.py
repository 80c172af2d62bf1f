"""Which platform the settings mean."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.errors import ConfigurationError
from kinetic_flows.platforms.local import LocalPlatform
from kinetic_flows.protocols import Platform
from kinetic_flows.settings import Settings


def choose_platform(settings: Settings, environ: Mapping[str, str]) -> Platform:
    """Return the platform to run on.

    Raises:
        ConfigurationError: The platform chosen cannot be used.
    """
    if settings.platform == "local":
        return LocalPlatform(settings.home, environ)
    raise ConfigurationError(
        "Google Cloud is not supported by this version yet",
        value=settings.platform,
        hint="unset KINETIC_PROJECT and KINETIC_PROFILE, or set KINETIC_PLATFORM=local, to run "
        "on this machine",
    )
