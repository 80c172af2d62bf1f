"""Docker Hub's credentials: checked with its token server, kept in Secret Manager.

Builds log in with them by name; nothing else of this library writes them anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from kinetic_flows.clients.google.secret_manager import SecretManager
from kinetic_flows.clients.registry.connections import RegistryLimits, RegistryUnreachable
from kinetic_flows.clients.registry.credentials import FirstFound, RegistryCredentials
from kinetic_flows.clients.registry.http import RegistryTransport
from kinetic_flows.core.errors import RegistryAccessError, SecretError
from kinetic_flows.core.image_reference import DOCKER_HUB
from kinetic_flows.platforms.gke.builds.build import RegistryLogin

logger = logging.getLogger(__name__)

DOCKER_HUB_USERNAME_SECRET = "kinetic-docker-hub-username"  # noqa: S105 - a name
DOCKER_HUB_TOKEN_SECRET = "kinetic-docker-hub-token"  # noqa: S105 - a name
"""The secrets of Secret Manager that builds log in to Docker Hub with."""

TOKEN_PAGE = "https://app.docker.com/settings/personal-access-tokens"  # noqa: S105 - a page


def check_login(
    credentials: RegistryCredentials, *, endpoints: Mapping[str, str], remedy: str
) -> None:
    """Ask Docker Hub's token server whether it knows a user name and access token.

    Args:
        credentials: The user name and the token.
        endpoints: Other URLs for registries, by host.
        remedy: What to do when it does not.

    Raises:
        RegistryAccessError: It does not know them, or cannot be asked.
    """
    transport = RegistryTransport(
        credentials=FirstFound(sources=()), endpoints=endpoints, limits=RegistryLimits()
    )
    try:
        is_known = transport.accepts(DOCKER_HUB, credentials)
    except RegistryUnreachable as error:
        raise RegistryAccessError(
            f"Docker Hub cannot be asked whether it knows {credentials.username!r}: {error}",
            value=credentials.username,
            hint="check the network and https://www.dockerstatus.com, and run again",
        ) from error
    finally:
        transport.close()
    if not is_known:
        raise RegistryAccessError(
            f"Docker Hub does not accept the access token of {credentials.username!r}: it is "
            "wrong, has expired or was revoked",
            value=credentials.username,
            hint=remedy,
        )


@dataclass(frozen=True, kw_only=True)
class StoredLogin:
    """Docker Hub's user name and access token in Secret Manager.

    Attributes:
        secrets: The project's secrets.
    """

    secrets: SecretManager

    def exists(self) -> bool:
        """Whether both are there.

        Raises:
            SecretError: Secret Manager refuses, or cannot be reached.
        """
        names = (DOCKER_HUB_USERNAME_SECRET, DOCKER_HUB_TOKEN_SECRET)
        return all(self.secrets.latest(name) for name in names)

    def store(self, credentials: RegistryCredentials) -> None:
        """Keep them as new versions.

        Raises:
            SecretError: Secret Manager refuses, or cannot be reached.
        """
        self.secrets.add(DOCKER_HUB_TOKEN_SECRET, credentials.password)
        if self._read(DOCKER_HUB_USERNAME_SECRET) != credentials.username:
            self.secrets.add(DOCKER_HUB_USERNAME_SECRET, credentials.username)

    def read(self) -> RegistryCredentials | None:
        """Return them; None when they are not there, or not for us to read."""
        username = self._read(DOCKER_HUB_USERNAME_SECRET)
        password = self._read(DOCKER_HUB_TOKEN_SECRET) if username else None
        if not username or not password:
            return None
        return RegistryCredentials(username=username, password=password)

    def find(self, registry: str) -> RegistryCredentials | None:
        """Return them for Docker Hub; None for other registries."""
        return self.read() if registry == DOCKER_HUB else None

    def build_login(self, project: str) -> RegistryLogin:
        """Return how a build logs in: with the newest versions, by their names."""
        prefix = f"projects/{project}/secrets"
        return RegistryLogin(
            registry="",
            username_version=f"{prefix}/{DOCKER_HUB_USERNAME_SECRET}/versions/latest",
            password_version=f"{prefix}/{DOCKER_HUB_TOKEN_SECRET}/versions/latest",
        )

    def _read(self, secret: str) -> str | None:
        try:
            return self.secrets.read(secret)
        except SecretError as error:
            # Who may build need not be allowed to read what the build logs in with.
            logger.info("%s", error.message)
            return None
