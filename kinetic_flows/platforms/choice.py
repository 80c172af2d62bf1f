"""Which platform the settings mean."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.platforms.google_cloud import GoogleCloudPlatform
from kinetic_flows.platforms.local import LocalPlatform
from kinetic_flows.private_files import tighten_home
from kinetic_flows.protocols import Platform
from kinetic_flows.settings import Settings


def choose_platform(settings: Settings, environ: Mapping[str, str]) -> Platform:
    """Return the platform to run on.

    Raises:
        ConfigurationError: The platform chosen cannot be used.
    """
    tighten_home(settings.home)
    if settings.platform == "local":
        return LocalPlatform(settings.home, environ)
    return GoogleCloudPlatform(settings.required_cloud(), environ, settings.home)
