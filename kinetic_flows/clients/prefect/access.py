"""Which Prefect API is used, and with which credentials, in Prefect's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.server_access import access_to, chosen_api, key_of
from kinetic_flows.clients.prefect.surroundings import surrounding_api_url


def api_settings(api_url: str) -> dict[Any, Any]:
    """Return the settings of Prefect under which an API is the current one.

    Args:
        api_url: The API. Credentials come from Prefect's own settings, but for the background
            server's, which only its home knows.
    """
    auth_string = access_to(api_url)
    credentials = {sdk.settings.PREFECT_API_AUTH_STRING: auth_string} if auth_string else {}
    key = key_of(api_url)
    if key:
        credentials[sdk.settings.PREFECT_API_KEY] = key
    return {sdk.settings.PREFECT_API_URL: api_url, **credentials}


def configured_api_url() -> str | None:
    """Return the API that Prefect's active profile names; None when it names none."""
    url: str | None = sdk.settings.PREFECT_API_URL.value()
    return url


def known_api_url(environ: Mapping[str, str]) -> str | None:
    """Return the API to use: the one around us, or the configured one; None for neither.

    Args:
        environ: This process's variables, which may have been set after Prefect was imported: it
            read them only then.
    """
    surrounding = surrounding_api_url() or chosen_api()
    return surrounding or environ.get("PREFECT_API_URL") or configured_api_url()


def credentials_for(api_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which a run's own process is let in by an API.

    `prefect cloud login` keeps credentials in the active profile, where no variable shows them.

    Args:
        api_url: The API.
        environ: Variables that come before Prefect's settings, which may be older.
    """
    auth_string = access_to(api_url)
    if auth_string:
        return {sdk.settings.PREFECT_API_AUTH_STRING.name: auth_string}
    key = key_of(api_url)
    if key:
        return {sdk.settings.PREFECT_API_KEY.name: key}
    given = {
        setting.name: environ.get(setting.name) or setting.value()
        for setting in (sdk.settings.PREFECT_API_KEY, sdk.settings.PREFECT_API_AUTH_STRING)
    }
    return {name: value for name, value in given.items() if value}


def import_whole() -> None:
    """Import all of Prefect, for those who start threads that would else do so side by side."""
    _ = sdk.prefect.flow
