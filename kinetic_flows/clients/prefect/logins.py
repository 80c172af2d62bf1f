"""Logging in to a Prefect API: Prefect Cloud, or a server that somebody else runs.

What is saved is a profile of Prefect's own, as logging in by Prefect's own commands makes them, so
that those use the same API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.access import credentials_for, known_api_url
from kinetic_flows.clients.prefect.condition import is_cloud
from kinetic_flows.clients.prefect.sdk import httpx
from kinetic_flows.core.errors import ConfigurationError, PrefectServerError

KEY = "PREFECT_API_KEY"
AUTH_STRING = "PREFECT_API_AUTH_STRING"
ASK_SECONDS = 20.0
PRIVATE_MODE = 0o600

_OF_ACCOUNT = "/accounts/"
_PAGE = re.compile(r"/account/(?P<account>[0-9a-f-]+)/workspace/(?P<workspace>[0-9a-f-]+)")
"""Path of a workspace's pages in Prefect Cloud."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """An API, and what lets one in.

    Attributes:
        url: The API.
        key: An API key of Prefect Cloud; None for none.
        auth_string: What a server of one's own asks of everybody, as `user:password`; None for
            nothing.
        version: The server's version; None where it does not say, as Prefect Cloud.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    auth_string: str | None = field(default=None, repr=False)
    version: str | None = None

    def variables(self) -> dict[str, str]:
        """Return the variables with which another process, or a pod, is let in."""
        given = {KEY: self.key, AUTH_STRING: self.auth_string}
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, kw_only=True)
class SavedLogin:
    """A profile of Prefect's that was saved.

    Attributes:
        profile: Its name.
        path: The file of Prefect's profiles.
        before: The profile that was active before; None where that has not changed.
    """

    profile: str
    path: Path
    before: str | None


def log_in(url: str, secret: str | None = None) -> Login:
    """See that an API can be reached, and that it lets one look at its work pools.

    Args:
        url: The API's URL, or that of a page of it, as a browser shows it. Of Prefect Cloud the
            host is enough where the key is for one workspace alone.
        secret: An API key, or `user:password`; None for a server that asks for nothing.

    Raises:
        ConfigurationError: The URL cannot be, or does not say which workspace.
        PrefectServerError: The API cannot be reached, or does not let one in.
    """
    at_cloud = is_cloud(url)
    is_password = bool(secret) and ":" in str(secret) and not at_cloud
    api_url = _cloud_url(url, secret) if at_cloud else _server_url(url)
    login = Login(
        url=api_url,
        key=None if is_password else secret or None,
        auth_string=secret if is_password else None,
    )
    version = _asked(login)
    return Login(url=api_url, key=login.key, auth_string=login.auth_string, version=version)


def configured_login(environ: Mapping[str, str]) -> Login | None:
    """Return the API that Prefect's own settings name, and what they have to be let in.

    Args:
        environ: This process's variables, which come before Prefect's settings.
    """
    url = known_api_url(environ)
    if url is None:
        return None
    known = credentials_for(url, environ)
    return Login(url=url, key=known.get(KEY), auth_string=known.get(AUTH_STRING))


def save_login(login: Login, profile: str, *, is_active: bool = True) -> SavedLogin:
    """Save an API as a profile of Prefect's, in place of one of the same name.

    Other profiles stay. The file can be read by its owner alone then.

    Args:
        login: The API.
        profile: The profile's name.
        is_active: Whether Prefect uses it from now on where nothing names another.
    """
    profiles = sdk.settings.load_profiles(include_defaults=False)
    before = profiles.active_name
    values = {"PREFECT_API_URL": login.url, **login.variables()}
    if profile in profiles.names:
        profiles.remove_profile(profile)
    profiles.add_profile(sdk.settings.Profile.model_validate({"name": profile, "settings": values}))
    if is_active:
        profiles.set_active(profile)
    path = Path(sdk.settings.PREFECT_PROFILES_PATH.value())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=PRIVATE_MODE)
    path.chmod(PRIVATE_MODE)
    sdk.settings.save_profiles(profiles)
    changed = before if is_active and before != profile else None
    return SavedLogin(profile=profile, path=path, before=changed)


def forget_login(profile: str) -> None:
    """Remove a profile of Prefect's; where it was the active one, none is then."""
    profiles = sdk.settings.load_profiles(include_defaults=False)
    if profile not in profiles.names:
        return
    if profiles.active_name == profile:
        profiles.set_active(None)
    profiles.remove_profile(profile)
    sdk.settings.save_profiles(profiles)


def _server_url(url: str) -> str:
    """Return a server's API for what a person copied."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{url!r} is no URL of a Prefect API",
            value=url,
            hint="give one such as https://prefect.example/api",
        )
    if "@" in parts.netloc:
        # Not with its value: it would be shown, and kept where anybody reads it.
        raise ConfigurationError(
            "the URL of the Prefect API has a password in it",
            value=parts.hostname,
            hint="leave it out there, and give it as the key: user:password",
        )
    before, found, _ = parts.path.partition("/api")
    path = f"{before}/api" if found else "/api"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _cloud_url(url: str, key: str | None) -> str:
    base = str(sdk.settings.PREFECT_CLOUD_API_URL.value()).rstrip("/")
    if not key:
        raise ConfigurationError(
            "Prefect Cloud lets nobody in without an API key",
            value=url,
            hint="make one: https://app.prefect.cloud/my/api-keys",
        )
    if _OF_ACCOUNT in url:
        return url.strip().rstrip("/")
    if page := _PAGE.search(url):
        return f"{base}/accounts/{page['account']}/workspaces/{page['workspace']}"
    workspaces = _workspaces(base, key)
    if len(workspaces) != 1:
        named = ", ".join(f"{who} at {where}" for who, where in workspaces.items()) or "none"
        raise ConfigurationError(
            f"the key is for {len(workspaces)} workspaces of Prefect Cloud",
            value=len(workspaces),
            hint=f"give the URL of one of them: {named}",
        )
    return next(iter(workspaces.values()))


def _workspaces(base: str, key: str) -> dict[str, str]:
    """Return the workspaces that a key is for: their APIs by their names."""
    url = f"{base}/me/workspaces"
    try:
        answer = httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=ASK_SECONDS)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise _refused(base, error) from error
    return {
        f"{each['account_handle']}/{each['workspace_handle']}": (
            f"{base}/accounts/{each['account_id']}/workspaces/{each['workspace_id']}"
        )
        for each in found
    }


def _asked(login: Login) -> str | None:
    """Ask for work pools, and return the server's version."""
    settings: dict[Any, Any] = {
        sdk.settings.PREFECT_API_URL: login.url,
        sdk.settings.PREFECT_API_KEY: login.key,
        sdk.settings.PREFECT_API_AUTH_STRING: login.auth_string,
        # A mistyped address is told at once.
        sdk.settings.PREFECT_CLIENT_MAX_RETRIES: 0,
    }
    try:
        with (
            sdk.settings.temporary_settings(settings),
            sdk.prefect.get_client(sync_client=True) as client,
        ):
            client.read_work_pools(limit=1)
            if _OF_ACCOUNT in login.url:
                return None
            return str(client.request("GET", "/admin/version").json())
    except (httpx.HTTPError, ValueError, RuntimeError) as error:
        raise _refused(login.url, error) from error


def _refused(url: str, error: Exception) -> PrefectServerError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status == 401:
        said, hint = "does not accept the key or the password", "is it whole, and of this server?"
    elif status == 403:
        said, hint = (
            "does not let this key look at work pools",
            "it needs a role that may run flows",
        )
    elif status is not None:
        said = f"answered {status}, which no Prefect API does there"
        hint = "give the URL that PREFECT_API_URL has elsewhere"
    elif isinstance(error, httpx.TransportError):
        said, hint = f"cannot be reached: {error}", "check the address and the network"
    else:
        said, hint = "is no Prefect API", "give the URL that PREFECT_API_URL has elsewhere"
    return PrefectServerError(f"{url} {said}", value=url, hint=hint)
