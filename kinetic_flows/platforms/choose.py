"""Which platform the settings mean."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.core.files import tighten_home
from kinetic_flows.core.protocols import Platform
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.platforms.gke.platform import GoogleCloudPlatform
from kinetic_flows.platforms.local.platform import LocalPlatform


def choose_platform(settings: Settings, environ: Mapping[str, str]) -> Platform:
    """Return the platform to run on.

    Raises:
        ConfigurationError: The platform chosen cannot be used.
    """
    tighten_home(settings.home)
    if settings.platform == "local":
        return LocalPlatform(settings.home, environ)
    return GoogleCloudPlatform(settings.required_cloud(), environ, settings.home)
