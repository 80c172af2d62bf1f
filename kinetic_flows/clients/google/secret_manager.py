"""Secret Manager over gRPC: whether a secret is there, what it holds, and new versions of it.

See https://cloud.google.com/secret-manager/docs/reference/rpc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import google_crc32c

from kinetic_flows.clients.deadlines import DeadlineExceeded, call_with_deadline
from kinetic_flows.clients.google.errors import is_credential_error, status_of
from kinetic_flows.clients.google.grpc import Connection, open_client
from kinetic_flows.clients.google.login import LOGIN_HINT
from kinetic_flows.core.errors import KineticError, SecretError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

T = TypeVar("T")

_MISSING = frozenset({404})


class SecretManager:
    """One project's secrets.

    Nothing is sent, and no SDK is imported, before the first call.

    Args:
        project: The Google Cloud project.
        endpoint: `host:port` of another Secret Manager endpoint; with `http://` in front it is
            asked in plain text and without credentials; None for Google's.
        credentials: Google credentials; None for Application Default Credentials.
        call_seconds: Limit for a call.
    """

    def __init__(
        self,
        project: str,
        *,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        call_seconds: float = 30.0,
    ) -> None:
        self._project = project
        self._call_seconds = call_seconds
        self._connection = Connection(lambda: _client(endpoint, credentials))

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._connection.close()

    def latest(self, secret: str, version: str = "latest") -> str | None:
        """Return the name of a secret's version; None when there is none that is enabled.

        Nothing of what it holds is read.

        Args:
            secret: Its name.
            version: Which version, `latest` for the newest.

        Raises:
            SecretError: Secret Manager refuses, or cannot be reached.
        """
        name = f"{self._name(secret)}/versions/{version}"
        found = self._call(
            secret, lambda client, options: client.get_secret_version(name=name, **options)
        )
        return str(found.name) if found and found.state.name == "ENABLED" else None

    def read(self, secret: str, version: str = "latest") -> str | None:
        """Return what a secret's version holds; None when there is none.

        Args:
            secret: Its name.
            version: Which version, `latest` for the newest.

        Raises:
            SecretError: Secret Manager refuses, cannot be reached, or it is no text.
        """
        name = f"{self._name(secret)}/versions/{version}"
        answer = self._call(
            secret, lambda client, options: client.access_secret_version(name=name, **options)
        )
        if answer is None:
            return None
        data: bytes = answer.payload.data
        if answer.payload.data_crc32c != google_crc32c.value(data):
            raise SecretError(
                f"the secret {secret} arrived damaged", value=secret, hint="run again"
            )
        try:
            return data.decode()
        except UnicodeDecodeError:
            # Its text would show what it is about.
            message = f"the secret {secret} is no text"
            raise SecretError(message, value=secret, hint="store it as text") from None

    def add(self, secret: str, content: str) -> str:
        """Store a new version of a secret, making the secret if there is none.

        Args:
            secret: Its name.
            content: What it is to hold.

        Returns:
            The name of the version.

        Raises:
            SecretError: Secret Manager refuses, or cannot be reached.
        """
        data = content.encode()
        payload = {"data": data, "data_crc32c": google_crc32c.value(data)}
        request = {"parent": self._name(secret), "payload": payload}

        def add(client: SecretManagerServiceClient, options: dict[str, Any]) -> Any:
            return client.add_secret_version(request=request, **options)

        version = self._call(secret, add)
        if version is None:
            self._create(secret)
            version = self._call(secret, add)
        if version is None:
            raise SecretError(f"the secret {secret} vanished", value=secret, hint="run again")
        return str(version.name)

    def _create(self, secret: str) -> None:
        request = {
            "parent": f"projects/{self._project}",
            "secret_id": secret,
            "secret": {"replication": {"automatic": {}}, "labels": {"made-by": "kinetic"}},
        }
        try:
            self._call(
                secret, lambda client, options: client.create_secret(request=request, **options)
            )
        except _AlreadyThere:
            return

    def _name(self, secret: str) -> str:
        return f"projects/{self._project}/secrets/{secret}"

    def _call(
        self, secret: str, call: Callable[[SecretManagerServiceClient, dict[str, Any]], T]
    ) -> T | None:
        """Make a call in this library's terms; None when it is about what does not exist."""
        options = {"timeout": self._call_seconds / 2}
        try:
            return call_with_deadline(
                lambda: call(self._connection.client(), options), self._call_seconds
            )
        except KineticError:
            raise
        except Exception as error:  # noqa: BLE001 - translated below
            if status_of(error) in _MISSING:
                return None
            # Whatever it quotes, its text is not shown where it may hold what was sent.
            raise _translate(error, self._project, secret) from None


def _client(endpoint: str | None, credentials: Credentials | None) -> SecretManagerServiceClient:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
        SecretManagerServiceGrpcTransport,
    )

    client: SecretManagerServiceClient = open_client(
        SecretManagerServiceClient,
        SecretManagerServiceGrpcTransport,
        endpoint=endpoint,
        credentials=credentials,
    )
    return client


class _AlreadyThere(SecretError):
    """Another client made the secret in the meantime."""


def _translate(error: Exception, project: str, secret: str) -> SecretError:
    status, words = status_of(error), " ".join(str(error).split())[:300]
    about = f"the secret {secret} of project {project}"
    if status == 409:
        return _AlreadyThere(words, value=secret)
    if status == 401 or is_credential_error(error):
        return SecretError(
            f"Secret Manager does not accept the credentials: {words}",
            value=secret,
            hint=LOGIN_HINT,
        )
    if status == 403:
        return _no_permission(about, words, project, secret)
    if status is None or status >= 500 or isinstance(error, DeadlineExceeded):
        return SecretError(
            f"Secret Manager cannot be reached for {about}: {words or type(error).__name__}",
            value=secret,
            hint="check the network and run again",
        )
    return SecretError(f"Secret Manager refused {about}: {words}", value=secret)


def _no_permission(about: str, words: str, project: str, secret: str) -> SecretError:
    if "has not been used" in words or "is disabled" in words:
        what = f"Secret Manager is switched off in project {project}"
        hint = (
            "switch it on with: gcloud services enable secretmanager.googleapis.com "
            f"--project={project}"
        )
    else:
        what = f"no access to {about}"
        hint = (
            f"grant it with: gcloud projects add-iam-policy-binding {project} "
            "--member=user:YOU --role=roles/secretmanager.admin"
        )
    return SecretError(f"{what}: {words}", value=secret, hint=hint)
