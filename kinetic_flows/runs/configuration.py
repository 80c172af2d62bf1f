"""The settings of one call: options, environment and profile put together."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.core.progress import Progress
from kinetic_flows.core.settings.settings import Settings, load_settings, resolve_settings
from kinetic_flows.runs.session import prefect_api_url


def configure(
    environ: Mapping[str, str], progress: Progress, arguments: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings in force.

    Prefect is asked only when a profile is named, or may be: by `KINETIC_PROFILE` or `cluster`.

    Args:
        environ: This process's variables.
        progress: Told when a background Prefect server has to be started.
        arguments: What the decorator says of Google Cloud, by option.

    Raises:
        ConfigurationError: A value cannot be, a profile does not exist, or no project is known.
        PrefectServerError: A profile is named and Prefect cannot be asked for it.
    """
    local = load_settings(environ)
    profiles = SavedProfiles(lambda: prefect_api_url(local, environ, progress))
    return resolve_settings(profiles, arguments=arguments, environ=environ)
