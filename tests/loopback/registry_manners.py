"""How registries take what they are given, where they differ from docker-registry.

Artifact Registry deletes an image once its tags are deleted, and lists images with their times
(https://cloud.google.com/artifact-registry/docs/docker/manage-images); others forget uploads,
refuse mounts, or keep their blobs elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.message import Message

from kinetic_flows.clients.registry.documents import ALL_TYPES
from loopback.wire import Handler, Request, Response, WireServer

UPLOADS = "/blobs/uploads/"


class Manners:
    """A registry that behaves as a test wants it to.

    Attributes:
        refuses_mounts: Whether it opens an upload where a blob is to be mounted.
        takes_chunks: Whether it takes a blob in several requests.
        resumes: Whether it says where an upload is after a drop, which docker-registry cannot.
        forgets: How many of the next requests find their upload forgotten.
        spoils: Rewrites manifests before they are kept; None to keep them as they are.
        after_push: What happens when a manifest has been pushed, before that is answered.
        tells_digests: Whether it says under which digest a manifest is kept.
        blobs_at: Another server that blobs are read from; None for the registry itself.
        uploads_at: Another server whose URLs uploads get; None for the registry's own.
        redirects: Whether what is sent to an upload is redirected to `uploads_at`.
        deletes: Whether it deletes what it is asked to.
        pushed_at: When manifests were pushed, by image and digest, in seconds since 1970.

    Args:
        upstream: The registry behind it.
        googles: Whether it deletes and lists as Artifact Registry does.
    """

    def __init__(self, upstream: Handler, *, googles: bool) -> None:
        self.refuses_mounts = False
        self.takes_chunks = True
        self.resumes = False
        self.forgets = 0
        self.spoils: Callable[[bytes], bytes] | None = None
        self.after_push: Callable[[], None] = lambda: None
        self.tells_digests = True
        self.blobs_at: WireServer | None = None
        self.uploads_at: WireServer | None = None
        self.redirects = False
        self.deletes = True
        self.pushed_at: dict[tuple[str, str], float] = {}
        self._googles = googles
        self._upstream = upstream
        self._taken: dict[str, bytes] = {}
        self._untagged: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Response:
        """Answer a request that may be answered."""
        if UPLOADS in request.path:
            return self._about_upload(request)
        if "/manifests/" in request.path:
            return self._about_manifest(request)
        if request.path.endswith("/tags/list") and self._googles:
            return self._list(request)
        if "/blobs/" in request.path and request.method == "GET" and self.blobs_at is not None:
            return Response(status=307, headers={"Location": self.blobs_at.url + request.target})
        return self._upstream(request)

    def _about_upload(self, request: Request) -> Response:
        if request.method == "POST":
            return self._open_upload(request)
        if self._forget():
            self._upstream(replace(request, method="DELETE", body=b""))
            return refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "PATCH" and not self.takes_chunks:
            return refusal(405, "UNSUPPORTED", "The operation is unsupported.")
        if self.resumes:
            return self._go_on(request)
        if self.redirects and self.uploads_at is not None and request.method in ("PATCH", "PUT"):
            return Response(status=307, headers={"Location": self.uploads_at.url + request.target})
        return self._upstream(request)

    def _open_upload(self, request: Request) -> Response:
        if self.refuses_mounts and "mount" in request.query:
            request = replace(request, target=request.path, query={})
        response = self._upstream(request)
        if response.status == 202 and self.uploads_at is not None and not self.redirects:
            path = response.headers["Location"]
            return replace(
                response, headers={**response.headers, "Location": self.uploads_at.url + path}
            )
        return response

    def _go_on(self, request: Request) -> Response:
        """Keep what comes of an upload until all of it has come."""
        if request.method == "PUT" and len(request.body) == int(request.headers["Content-Length"]):
            return self._upstream(
                replace(request, body=self._taken.pop(request.path, b"") + request.body)
            )
        with self._lock:
            taken = self._taken.get(request.path, b"")
            first = request.headers.get("Content-Range", "").partition("-")[0]
            if request.method == "PATCH" and first != str(len(taken)):
                return Response(status=416)
            taken = self._taken[request.path] = taken + request.body
        status = 202 if request.method == "PATCH" else 204
        end = max(len(taken) - 1, 0)
        return Response(status=status, headers={"Location": request.target, "Range": f"0-{end}"})

    def _forget(self) -> bool:
        with self._lock:
            self.forgets -= 1
            return self.forgets >= 0

    def _about_manifest(self, request: Request) -> Response:
        name, version = request.path.removeprefix("/v2/").split("/manifests/")
        if (name, version) in self._untagged and request.method != "PUT":
            return refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if request.method == "DELETE" and not self.deletes:
            return refusal(405, "UNSUPPORTED", "The operation is unsupported.")
        if request.method == "DELETE" and self._googles:
            return self._delete(request, name, version)
        if request.method == "PUT" and self.spoils is not None:
            request = replace(request, body=self.spoils(request.body))
        response = self._upstream(request)
        if request.method == "PUT" and response.status == 201:
            self._note_push(name, version, request.body)
            self.after_push()
        if self.tells_digests:
            return response
        kept = {k: v for k, v in response.headers.items() if k != "Docker-Content-Digest"}
        return replace(response, headers=kept)

    def _note_push(self, name: str, version: str, content: bytes) -> None:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        with self._lock:
            self._untagged.discard((name, version))
            self.pushed_at.setdefault((name, digest), time.time())

    def _delete(self, request: Request, name: str, version: str) -> Response:
        if not version.startswith("sha256:"):
            self._untagged.add((name, version))
            return Response(status=202)
        tags = self._tags_of(request, name).get(version, [])
        if tags:
            words = f"Manifest is still referenced by tag: {tags[0]}"
            return refusal(400, "GOOGLE_MANIFEST_DANGLING_TAG", words)
        for image, digest in [*self.pushed_at]:
            parent = self._ask(request, f"/v2/{name}/manifests/{digest}") if image == name else None
            if parent and version in str(parent.body) and digest != version:
                words = f"Manifest is still referenced by a parent image: {digest}"
                return refusal(400, "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE", words)
        return self._upstream(request)

    def _list(self, request: Request) -> Response:
        name = request.path.removeprefix("/v2/").removesuffix("/tags/list")
        response = self._upstream(request)
        if response.status != 200:
            return response
        listed = json.loads(response.body)
        tags = [tag for tag in listed["tags"] or () if (name, tag) not in self._untagged]
        manifests = {
            digest: {
                "tag": names,
                "timeUploadedMs": str(int(self.pushed_at.get((name, digest), 0) * 1000)),
            }
            for digest, names in self._tags_of(request, name).items()
        }
        body = json.dumps({"name": name, "tags": tags, "manifest": manifests})
        return replace(response, body=body.encode())

    def _tags_of(self, request: Request, name: str) -> Mapping[str, list[str]]:
        """Return the tags of every manifest of an image that has some."""
        listing = self._ask(request, f"/v2/{name}/tags/list")
        if listing.status != 200:
            return {}
        found: dict[str, list[str]] = {}
        for tag in json.loads(listing.body)["tags"] or ():
            if (name, tag) not in self._untagged:
                described = self._ask(request, f"/v2/{name}/manifests/{tag}")
                if described.status == 200:
                    found.setdefault(described.headers["Docker-Content-Digest"], []).append(tag)
        return found

    def _ask(self, request: Request, path: str) -> Response:
        headers = Message()
        headers["Accept"] = ", ".join(ALL_TYPES)
        asked = replace(
            request, method="GET", path=path, target=path, query={}, headers=headers, body=b""
        )
        return self._upstream(asked)


def refusal(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with an error as the distribution specification has them."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Response(
        status=status, headers={"Content-Type": "application/json", **(headers or {})}, body=body
    )
