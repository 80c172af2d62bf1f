"""The objects of a Cloud Storage server: generations, preconditions and checksums.

Behaviour follows https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

from __future__ import annotations

import base64
import itertools
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import google_crc32c


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class StoredBlob:
    """One object: its resource as the API shows it, and its content."""

    resource: Mapping[str, Any]
    data: bytes

    @property
    def generation(self) -> int:
        return int(self.resource["generation"])


@dataclass(kw_only=True)
class Upload:
    """A resumable upload that has begun."""

    bucket: str
    resource: dict[str, Any]
    query: Mapping[str, str]
    received: bytearray = field(default_factory=bytearray)
    finished: Mapping[str, Any] | None = None


class Buckets:
    """Every bucket and its objects, in memory."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._buckets: dict[str, dict[str, StoredBlob]] = {}
        self._generations = itertools.count(time.time_ns() // 1000)
        self._uploads: dict[str, Upload] = {}

    def create(self, bucket: str) -> None:
        with self._lock:
            if bucket in self._buckets:
                raise Refused(409, "you already own this bucket")
            self._buckets[bucket] = {}

    def remove(self, bucket: str) -> None:
        with self._lock:
            del self._buckets[bucket]

    def bucket(self, bucket: str) -> dict[str, StoredBlob]:
        if bucket not in self._buckets:
            raise Refused(404, "The specified bucket does not exist.")
        return self._buckets[bucket]

    def get(self, bucket: str, name: str) -> StoredBlob:
        with self._lock:
            blob = self.bucket(bucket).get(name)
        if blob is None:
            raise Refused(404, f"No such object: {bucket}/{name}")
        return blob

    def names(self, bucket: str, prefix: str) -> list[str]:
        with self._lock:
            return sorted(name for name in self.bucket(bucket) if name.startswith(prefix))

    def delete(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        with self._lock:
            self.get(bucket, name)
            self._check(bucket, name, query)
            del self.bucket(bucket)[name]

    def put(
        self, bucket: str, resource: Mapping[str, Any], data: bytes, query: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Write an object, if its preconditions hold and its checksum fits."""
        checksum = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        if resource.get("crc32c", checksum) != checksum:
            raise Refused(400, "Provided CRC32C doesn't match calculated CRC32C")
        name = resource["name"]
        with self._lock:
            self._check(bucket, name, query)
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            made = {
                "kind": "storage#object",
                "contentType": "application/octet-stream",
                **resource,
                "bucket": bucket,
                "generation": str(next(self._generations)),
                "metageneration": "1",
                "size": str(len(data)),
                "crc32c": checksum,
                "timeCreated": now,
                "updated": now,
            }
            self.bucket(bucket)[name] = StoredBlob(resource=made, data=data)
        return made

    def begin_upload(self, bucket: str, resource: dict[str, Any], query: Mapping[str, str]) -> str:
        with self._lock:
            self._check(bucket, resource["name"], query)
            upload_id = f"upload-{len(self._uploads)}"
            self._uploads[upload_id] = Upload(bucket=bucket, resource=resource, query=query)
        return upload_id

    def upload(self, upload_id: str) -> Upload:
        if upload_id not in self._uploads:
            raise Refused(404, "No such upload")
        return self._uploads[upload_id]

    def finish_upload(self, upload: Upload) -> Mapping[str, Any]:
        upload.finished = self.put(
            upload.bucket, upload.resource, bytes(upload.received), upload.query
        )
        return upload.finished

    def _check(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        """Refuse a request whose generation preconditions do not hold."""
        blob = self.bucket(bucket).get(name)
        generation = blob.generation if blob else 0
        wanted, unwanted = query.get("ifGenerationMatch"), query.get("ifGenerationNotMatch")
        if wanted is not None and int(wanted) != generation:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        if unwanted is not None and int(unwanted) == generation:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
