"""Cloud Storage's JSON API on loopback, strict where other emulators are lenient.

Preconditions hold on every kind of write, checksums are compared, a resumable upload is
finished only when all of it arrived.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.parser import BytesHeaderParser
from typing import Any
from urllib.parse import unquote

from loopback.storage_objects import Buckets, Refused
from loopback.wire import Request, Response, WireServer

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_OBJECT = re.compile(r"^/(?:download/)?storage/v1/b/([^/]+)/o/(.+)$")
_LISTING = re.compile(r"^/storage/v1/b/([^/]+)/o$")
_BUCKET = re.compile(r"^/storage/v1/b/([^/]+)$")
_UPLOAD = re.compile(r"^/(?:resumable/)?upload/storage/v1/b/([^/]+)/o$")


class WireStorage:
    """A Cloud Storage server whose answers a test can spoil (`server.fault`)."""

    def __init__(self) -> None:
        self.buckets = Buckets()
        self.bucket_settings: dict[str, dict[str, Any]] = {}
        self.server = WireServer(self.answer)
        self.url = self.server.url

    def start(self) -> WireStorage:
        self.server.start()
        return self

    def stop(self) -> None:
        self.server.stop()

    def create_bucket(self, name: str) -> str:
        self.buckets.create(name)
        return name

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        try:
            return self._route(request)
        except Refused as refusal:
            error = {"error": {"code": refusal.status, "message": str(refusal)}}
            return _json(error, status=refusal.status)

    def _route(self, request: Request) -> Response:
        if match := _UPLOAD.match(request.path):
            return self._upload(unquote(match[1]), request)
        if match := _OBJECT.match(request.path):
            return self._object(unquote(match[1]), unquote(match[2]), request)
        if match := _LISTING.match(request.path):
            return self._listing(unquote(match[1]), request.query)
        if match := _BUCKET.match(request.path):
            name = unquote(match[1])
            self.buckets.bucket(name)
            if request.method == "PATCH":
                self.bucket_settings.setdefault(name, {}).update(json.loads(request.body))
            return _json(
                {"kind": "storage#bucket", "name": name, **self.bucket_settings.get(name, {})}
            )
        if request.path == "/storage/v1/b" and request.method == "POST":
            self.buckets.create(json.loads(request.body)["name"])
            return _json({"kind": "storage#bucket", **json.loads(request.body)})
        raise Refused(404, f"no such method: {request.method} {request.path}")

    def _object(self, bucket: str, name: str, request: Request) -> Response:
        if request.method == "DELETE":
            self.buckets.delete(bucket, name, request.query)
            return Response(status=204)
        blob = self.buckets.get(bucket, name)
        wanted = request.query.get("ifGenerationMatch")
        if wanted is not None and wanted != blob.resource["generation"]:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        generation = blob.resource["generation"]
        if request.query.get("generation", generation) != generation:
            raise Refused(404, f"No such object: {bucket}/{name}#{request.query['generation']}")
        if request.query.get("alt") != "media":
            return _json(blob.resource)
        headers = {
            "Content-Type": blob.resource["contentType"],
            "X-Goog-Generation": blob.resource["generation"],
            "X-Goog-Hash": f"crc32c={blob.resource['crc32c']}",
        }
        return _range_of(blob.data, request.headers.get("Range"), headers)

    def _listing(self, bucket: str, query: Mapping[str, str]) -> Response:
        names = self.buckets.names(bucket, query.get("prefix", ""))
        start, size = int(query.get("pageToken", 0)), int(query.get("maxResults", 1000))
        page = names[start : start + size]
        listing: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [self.buckets.get(bucket, name).resource for name in page],
        }
        if start + size < len(names):
            listing["nextPageToken"] = str(start + size)
        return _json(listing)

    def _upload(self, bucket: str, request: Request) -> Response:
        if request.method == "PUT":
            return self._upload_chunk(request)
        if request.query.get("uploadType") == "multipart":
            resource, data = _multipart(request)
            return _json(self.buckets.put(bucket, resource, data, request.query))
        upload_id = self.buckets.begin_upload(bucket, json.loads(request.body), request.query)
        location = f"{self.url}{request.path}?uploadType=resumable&upload_id={upload_id}"
        return Response(headers={"Location": location})

    def _upload_chunk(self, request: Request) -> Response:
        upload = self.buckets.upload(request.query["upload_id"])
        if upload.finished is not None:
            return _json(upload.finished)
        match = _CONTENT_RANGE.match(request.headers.get("Content-Range", ""))
        if match is None:
            raise Refused(400, "a chunk without a Content-Range")
        if match[1] is not None:
            if int(match[1]) > len(upload.received):
                raise Refused(400, "a chunk that leaves a gap")
            upload.received[int(match[1]) :] = request.body
        if match[3] == "*" or len(upload.received) < int(match[3]):
            last = len(upload.received) - 1
            return Response(status=308, headers={"Range": f"bytes=0-{last}"} if last >= 0 else {})
        for part in (request.headers.get("X-Goog-Hash") or "").split(","):
            kind, _, value = part.strip().partition("=")
            if kind == "crc32c":
                upload.resource["crc32c"] = value
        return _json(self.buckets.finish_upload(upload))


def _multipart(request: Request) -> tuple[dict[str, Any], bytes]:
    """Split a multipart upload into the object's resource and its content."""
    header = b"Content-Type: " + request.headers["Content-Type"].encode() + b"\r\n\r\n"
    boundary = b"--" + str(BytesHeaderParser().parsebytes(header).get_boundary()).encode()
    _, resource, rest = request.body.split(boundary, 2)
    content = rest[: rest.rindex(boundary)]
    resource_text = resource.split(b"\r\n\r\n", 1)[1]
    data = content.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
    return json.loads(resource_text), data


def _range_of(data: bytes, wanted: str | None, headers: dict[str, str]) -> Response:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if match is None:
        return Response(headers=headers, body=data)
    start, end = int(match[1]), int(match[2] or len(data) - 1)
    if start >= len(data):
        raise Refused(416, "Requested range not satisfiable")
    end = min(end, len(data) - 1)
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(status=206, headers=headers, body=data[start : end + 1])


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "application/json; charset=UTF-8"},
        body=json.dumps(value).encode(),
    )
