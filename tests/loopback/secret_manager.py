"""Secret Manager's secrets and versions, in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import google_crc32c
import grpc
from google.cloud import secretmanager_v1 as api
from google.protobuf import empty_pb2

from loopback.grpc_services import Refusal

SERVICE = "google.cloud.secretmanager.v1.SecretManagerService"


class SecretManager:
    """Every secret, with the contents of its versions in order.

    Attributes:
        denied: Names of those that nobody who asks may read.
        endpoint: Where a server answers for them that was started for nothing else.
    """

    endpoint = ""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self._lock = threading.RLock()
        self._contents: dict[str, list[bytes]] = {}

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "CreateSecret": (api.CreateSecretRequest, self._create),
            "GetSecret": (api.GetSecretRequest, self._get),
            "ListSecrets": (api.ListSecretsRequest, self._list),
            "DeleteSecret": (api.DeleteSecretRequest, self._delete),
            "AddSecretVersion": (api.AddSecretVersionRequest, self._add_version),
            "GetSecretVersion": (api.GetSecretVersionRequest, self._get_version),
            "AccessSecretVersion": (api.AccessSecretVersionRequest, self._access),
        }

    def names(self) -> list[str]:
        """Return the names of all secrets."""
        with self._lock:
            return sorted(self._contents)

    @contextmanager
    def holding(self, **contents: str) -> Iterator[None]:
        """Have secrets of the project `p` as long as the block runs; `_` stands for a dash."""
        names = {
            f"projects/p/secrets/{name.replace('_', '-')}": text.encode()
            for name, text in contents.items()
        }
        with self._lock:
            self._contents |= {name: [content] for name, content in names.items()}
        try:
            yield
        finally:
            with self._lock:
                for name in names:
                    del self._contents[name]

    def add_bytes(self, name: str, content: bytes) -> None:
        """Add a version of a secret."""
        with self._lock:
            self._contents.setdefault(name, []).append(content)

    def content(self, version_name: str) -> bytes:
        """Return what a version holds; `latest` is a version too."""
        name, number = self._number(version_name)
        return self._versions(name)[number - 1]

    def _number(self, version_name: str) -> tuple[str, int]:
        name, _, version = version_name.partition("/versions/")
        versions = self._versions(name)
        number = len(versions) if version == "latest" else int(version)
        if not 0 < number <= len(versions):
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Secret Version [{version_name}] not found.")
        return name, number

    def _versions(self, name: str) -> list[bytes]:
        with self._lock:
            if name in self.denied:
                words = f"Permission 'secretmanager.versions.access' denied on resource '{name}'."
                raise Refusal(grpc.StatusCode.PERMISSION_DENIED, words)
            if name not in self._contents:
                raise Refusal(grpc.StatusCode.NOT_FOUND, f"Secret [{name}] not found.")
            return self._contents[name]

    def _create(self, request: Any) -> Any:
        name = f"{request.parent}/secrets/{request.secret_id}"
        with self._lock:
            if name in self._contents:
                raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"Secret [{name}] already exists.")
            self._contents[name] = []
        return api.Secret(name=name, replication=request.secret.replication)

    def _get(self, request: Any) -> Any:
        self._versions(request.name)
        return api.Secret(name=request.name)

    def _list(self, request: Any) -> Any:
        with self._lock:
            names = [n for n in sorted(self._contents) if n.startswith(f"{request.parent}/")]
        return api.ListSecretsResponse(secrets=[api.Secret(name=name) for name in names])

    def _delete(self, request: Any) -> Any:
        self._versions(request.name)
        with self._lock:
            del self._contents[request.name]
        return empty_pb2.Empty()

    def _add_version(self, request: Any) -> Any:
        versions = self._versions(request.parent)
        with self._lock:
            versions.append(request.payload.data)
            name = f"{request.parent}/versions/{len(versions)}"
        return api.SecretVersion(name=name, state=api.SecretVersion.State.ENABLED)

    def _get_version(self, request: Any) -> Any:
        name, number = self._number(request.name)
        state = api.SecretVersion.State.ENABLED
        return api.SecretVersion(name=f"{name}/versions/{number}", state=state)

    def _access(self, request: Any) -> Any:
        data = self.content(request.name)
        checksum = int.from_bytes(google_crc32c.Checksum(data).digest(), "big")
        payload = api.SecretPayload(data=data, data_crc32c=checksum)
        return api.AccessSecretVersionResponse(name=request.name, payload=payload)
