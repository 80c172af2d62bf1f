"""Credentials for registries: Docker's own configuration, then Google's, then none.

The configuration's form is that of https://docs.docker.com/reference/cli/docker/login/.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kinetic_flows.clients.google.errors import is_credential_error
from kinetic_flows.clients.google.login import LOGIN_HINT, default_google_credentials
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_reference import DOCKER_HUB, is_googles

logger = logging.getLogger(__name__)

HELPER_TIMEOUT_SECONDS = 30
GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_DOCKER_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", DOCKER_HUB)


@dataclass(frozen=True, kw_only=True)
class RegistryCredentials:
    """A user name and password, or a refresh token, for one registry."""

    username: str = ""
    password: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)


class CredentialSource(Protocol):
    """Something that may know credentials for a registry."""

    def find(self, registry: str) -> RegistryCredentials | None:
        """Return the credentials for a registry's host; None when it knows none."""
        ...


@dataclass(frozen=True, kw_only=True)
class FirstFound:
    """Asks several sources in order."""

    sources: Sequence[CredentialSource]

    def find(self, registry: str) -> RegistryCredentials | None:
        """Return the credentials of the first source that has some."""
        for source in self.sources:
            found = source.find(registry)
            if found is not None:
                return found
        return None


def default_credentials(
    docker_config: Path,
    environment: Mapping[str, str],
    endpoints: Mapping[str, str],
    google: Callable[[], Any] | None = None,
) -> FirstFound:
    """Return the sources that are asked when nothing else is configured.

    Args:
        docker_config: Docker's configuration, usually `~/.docker/config.json`.
        environment: Variables that credential helpers are started with.
        endpoints: Other URLs for registries, by host; those that are plain http are emulated.
        google: Returns Google credentials; None for Application Default Credentials.
    """
    emulated = frozenset(host for host, url in endpoints.items() if url.startswith("http://"))
    return FirstFound(
        sources=(
            DockerConfig(path=docker_config, environment=environment),
            GoogleRegistryCredentials(
                token=partial(_token, google) if google else None, emulated=emulated
            ),
        )
    )


@dataclass(frozen=True, kw_only=True)
class SavedLogins:
    """Logins that somebody saved.

    Attributes:
        logins: Returns user name and password, or None, by host.
    """

    logins: Mapping[str, Callable[[], tuple[str, str] | None]]

    def find(self, registry: str) -> RegistryCredentials | None:
        """Return the login that is saved for a registry."""
        found = self.logins[registry]() if registry in self.logins else None
        return RegistryCredentials(username=found[0], password=found[1]) if found else None


@dataclass(frozen=True, kw_only=True)
class DockerConfig:
    """Credentials as `docker login` leaves them.

    Not read by docker.auth (7.2), which takes 0.1 s to import, waits for a helper without end, and
    finds no login at all when one entry is damaged or a helper is not installed.

    Attributes:
        path: The file, usually `~/.docker/config.json`; it need not exist.
        environment: Variables that credential helpers are started with.
    """

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def find(self, registry: str) -> RegistryCredentials | None:
        """Return what the configuration holds for a registry, asking its helper if it has one.

        Raises:
            ImageError: The file is not JSON.
        """
        config = self._read()
        for key in _keys(registry):
            helper = _text(config.get("credHelpers"), key) or config.get("credsStore")
            found = self._ask(str(helper), key) if helper else None
            found = found or _decode(_entry(config.get("auths"), key))
            if found is not None:
                return found
        return None

    def _read(self) -> dict[str, Any]:
        try:
            value = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ImageError(
                f"the Docker configuration {self.path} cannot be read: {error}",
                value=str(self.path),
                hint="repair it or remove it, and log in again with docker login",
            ) from error
        return value if isinstance(value, dict) else {}

    def _ask(self, helper: str, key: str) -> RegistryCredentials | None:
        """Ask a credential helper (https://github.com/docker/docker-credential-helpers)."""
        program = f"docker-credential-{helper}"
        try:
            answer = subprocess.run(
                [program, "get"],
                input=key,
                capture_output=True,
                text=True,
                env=dict(self.environment) or None,
                timeout=HELPER_TIMEOUT_SECONDS,
                check=True,
            )
            return _from_helper(json.loads(answer.stdout))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            # Not logged in, or not installed: Docker too goes on without credentials.
            logger.debug("%s has nothing for %s: %s", program, key, type(error).__name__)
            return None


@dataclass(frozen=True, kw_only=True)
class GoogleRegistryCredentials:
    """An access token of Google's credentials, for Artifact Registry's hosts.

    Attributes:
        token: Returns an access token; None for Application Default Credentials'.
        emulated: Hosts that something else stands for, which is not to see a token.
    """

    token: Callable[[], str] | None = None
    emulated: frozenset[str] = frozenset()

    def find(self, registry: str) -> RegistryCredentials | None:
        """Return the token in the form Artifact Registry takes it.

        See https://cloud.google.com/artifact-registry/docs/docker/authentication.

        Raises:
            ImageError: There are no credentials.
        """
        if registry in self.emulated or not is_googles(registry):
            return None
        token = (self.token or _application_default_token)()
        return RegistryCredentials(username="oauth2accesstoken", password=token)


def _application_default_token() -> str:
    return _token(lambda: default_google_credentials([GOOGLE_SCOPE]))


def _token(load: Callable[[], Any]) -> str:
    from google.auth.transport.requests import Request

    try:
        credentials = load()
        credentials.refresh(Request())
    except Exception as error:
        if not is_credential_error(error):
            raise
        raise ImageError(
            f"there are no usable Google credentials for the registry: {error}", hint=LOGIN_HINT
        ) from error
    return str(credentials.token)


def _keys(registry: str) -> tuple[str, ...]:
    """Return the names under which a registry may stand in the configuration."""
    if registry == DOCKER_HUB:
        return _DOCKER_HUB_KEYS
    return (registry, f"https://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/")


def _entry(table: object, key: str) -> Mapping[str, Any]:
    entry = table.get(key) if isinstance(table, dict) else None
    return entry if isinstance(entry, dict) else {}


def _text(table: object, key: str) -> str | None:
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) else None


def _decode(entry: Mapping[str, Any]) -> RegistryCredentials | None:
    """Read one entry of `auths`."""
    if entry.get("identitytoken"):
        return RegistryCredentials(refresh_token=str(entry["identitytoken"]))
    if entry.get("username"):
        return RegistryCredentials(
            username=str(entry["username"]), password=str(entry.get("password", ""))
        )
    try:
        text = base64.b64decode(str(entry.get("auth") or "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    username, colon, password = text.partition(":")
    return RegistryCredentials(username=username, password=password) if colon else None


def _from_helper(answer: Mapping[str, Any]) -> RegistryCredentials | None:
    username, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if username == "<token>":
        return RegistryCredentials(refresh_token=secret)
    return RegistryCredentials(username=username, password=secret) if secret else None
