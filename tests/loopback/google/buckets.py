"""Cloud Storage's buckets: their settings and policies; their objects are in another server.

https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.iam.v1 import options_pb2, policy_pb2
from google.protobuf import json_format

from loopback.google.answers import Code, GoogleRefusal, invalid, missing
from loopback.google.cluster_rules import check_labels
from loopback.google.rest import Asked, Route
from loopback.google.state import Caller, GoogleState
from loopback.wire import Request, Response

_NAME = re.compile(r"[a-z0-9][-_.a-z0-9]{1,61}[a-z0-9]")
_FIELDS = frozenset(
    (
        *("name", "location", "storageClass", "labels", "lifecycle", "iamConfiguration"),
        *("softDeletePolicy", "versioning", "retentionPolicy", "autoclass", "cors", "encryption"),
        *("hierarchicalNamespace", "locationType", "rpo", "website", "logging", "billing"),
    )
)
"""What may be written of a bucket."""

_ACTIONS = frozenset({"Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"})
_CONDITIONS = frozenset(
    (
        *("age", "createdBefore", "isLive", "matchesStorageClass", "numNewerVersions"),
        *("daysSinceCustomTime", "customTimeBefore", "daysSinceNoncurrentTime"),
        *("noncurrentTimeBefore", "matchesPrefix", "matchesSuffix"),
    )
)
_ABOUT_OBJECTS = re.compile(
    r"/(?:(?:resumable/)?upload/|download/)?storage/v1/b/[^/]+/o(?:/|$)|/batch/storage"
)
_IAM = r"/storage/v1/b/([^/]+)/iam"

Resource = dict[str, Any]


class Objects:
    """The objects of buckets, in another server.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def create(self, bucket: str) -> None:
        body = json.dumps({"name": bucket}).encode()
        self._ask("POST", "/storage/v1/b?project=p", body, {"Content-Type": "application/json"})

    def is_empty(self, bucket: str) -> bool:
        listed = self._ask("GET", f"/storage/v1/b/{bucket}/o?maxResults=1", b"", {})
        return not json.loads(listed.body).get("items")

    def remove(self, bucket: str) -> None:
        self._ask("DELETE", f"/storage/v1/b/{bucket}", b"", {})

    def answer(self, request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        headers.pop("Transfer-Encoding", None)
        return self._ask(request.method, request.target, request.body, headers)

    def _ask(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Response:
        connection = HTTPConnection(self._address, timeout=60)
        try:
            connection.request(method, target, body=body, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        dropped = ("transfer-encoding", "content-length", "connection", "date", "server")
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in dropped}
        return Response(status=answer.status, headers=kept, body=data)


class BucketsApi:
    """Buckets, by name.

    Attributes:
        buckets: Each bucket as the API shows it.
        taken: Names that somebody else in the world has.

    Args:
        state: What Google keeps.
        objects: Where the objects are.
    """

    def __init__(self, state: GoogleState, objects: Objects) -> None:
        self.buckets: dict[str, Resource] = {}
        self.taken: set[str] = set()
        self._state = state
        self._objects = objects

    def routes(self) -> list[Route]:
        one = r"/storage/v1/b/([^/]+)"
        return [
            self._route("GET", "/storage/v1/b", "buckets.list", self._list),
            self._route("POST", "/storage/v1/b", "buckets.insert", self._insert),
            self._route("GET", one, "buckets.get", self._get),
            self._route("PATCH", one, "buckets.patch", self._patch),
            self._route("DELETE", one, "buckets.delete", self._delete),
            self._route("GET", _IAM, "buckets.getIamPolicy", self._policy),
            self._route("PUT", _IAM, "buckets.setIamPolicy", self._set_policy),
            self._route(
                "GET", rf"{_IAM}/testPermissions", "buckets.testIamPermissions", self._test
            ),
        ]

    def answer_objects(self, request: Request) -> Response | None:
        """Answer a request that is about objects; None for another."""
        return self._objects.answer(request) if _ABOUT_OBJECTS.match(request.path) else None

    @staticmethod
    def _route(method: str, path: str, name: str, act: Callable[[Asked], Any]) -> Route:
        return Route(method=method, path=path, name=name, api="storage", act=act)

    def _insert(self, asked: Asked) -> Resource:
        project = self._state.project(asked.query.get("project", ""))
        name = str(asked.body.get("name", ""))
        self._require(asked.caller, "storage.buckets.create", project.resource, project.resource)
        if not _NAME.fullmatch(name):
            raise invalid(f"Invalid bucket name: '{name}'")
        _check(asked.body)
        if name in self.buckets and self.buckets[name]["projectNumber"] == project.number:
            raise _conflict(
                "Your previous request to create the named bucket succeeded and you already own it."
            )
        if name in self.buckets or name in self.taken:
            raise _conflict(
                "The requested bucket name is not available. The bucket namespace is shared by all "
                "users of the system. Please select a different name and try again."
            )
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._objects.create(name)
        self.buckets[name] = {
            "kind": "storage#bucket",
            "id": name,
            "location": "US",
            "storageClass": "STANDARD",
            **asked.body,
            "projectNumber": project.number,
            "metageneration": "1",
            "timeCreated": now,
            "updated": now,
            "etag": "CAE=",
        }
        self.buckets[name]["location"] = self.buckets[name]["location"].upper()
        self._grant_to_project(name, project.id)
        return self.buckets[name]

    def _grant_to_project(self, name: str, project: str) -> None:
        """Give the project's people the roles that they have on every new bucket.

        https://cloud.google.com/storage/docs/access-control/iam#convenience-values
        """
        roles = {
            "roles/storage.legacyBucketOwner": ("projectEditor", "projectOwner"),
            "roles/storage.legacyBucketReader": ("projectViewer",),
        }
        for role, kinds in roles.items():
            members = [f"{kind}:{project}" for kind in kinds]
            self._state.policies.grant(_resource(name), role, *members)

    def _list(self, asked: Asked) -> Resource:
        project = self._state.project(asked.query.get("project", ""))
        self._require(asked.caller, "storage.buckets.list", project.resource, project.resource)
        mine = [b for b in self.buckets.values() if b["projectNumber"] == project.number]
        return {"kind": "storage#buckets", "items": mine}

    def _get(self, asked: Asked) -> Resource:
        return self._found(asked, "storage.buckets.get")

    def _patch(self, asked: Asked) -> Resource:
        bucket = self._found(asked, "storage.buckets.update")
        wanted = asked.query.get("ifMetagenerationMatch", bucket["metageneration"])
        if wanted != bucket["metageneration"]:
            raise _stale()
        _check(asked.body)
        labels = {**bucket.get("labels", {}), **(asked.body.get("labels") or {})}
        bucket.update(asked.body)
        if labels:  # a label is taken away by null
            bucket["labels"] = {name: value for name, value in labels.items() if value is not None}
        bucket["metageneration"] = str(int(bucket["metageneration"]) + 1)
        return bucket

    def _delete(self, asked: Asked) -> None:
        name = self._found(asked, "storage.buckets.delete")["name"]
        if not self._objects.is_empty(name):
            raise _conflict("The bucket you tried to delete is not empty.")
        self._objects.remove(name)
        del self.buckets[name]
        self._state.policies.forget(_resource(name))

    def _policy(self, asked: Asked) -> Resource:
        name = self._found(asked, "storage.buckets.getIamPolicy")["name"]
        version = int(asked.query.get("optionsRequestedPolicyVersion", 1))
        options = options_pb2.GetPolicyOptions(requested_policy_version=version)
        return _policy_document(name, self._state.policies.read(_resource(name), options))

    def _set_policy(self, asked: Asked) -> Resource:
        name = self._found(asked, "storage.buckets.setIamPolicy")["name"]
        document = {k: v for k, v in asked.body.items() if k not in ("kind", "resourceId")}
        policy = policy_pb2.Policy()
        try:
            json_format.ParseDict(document, policy)
        except json_format.ParseError as error:
            raise invalid(str(error)) from error
        try:
            written = self._state.policies.write(_resource(name), policy)
        except GoogleRefusal as refusal:
            raise (_stale() if refusal.code == Code.ABORTED else refusal) from refusal
        return _policy_document(name, written)

    def _test(self, asked: Asked) -> Resource:
        name = asked.parts[0]
        where = self._where(name)
        named = parse_qs(urlsplit(asked.target).query).get("permissions", [])
        allowed = [each for each in named if self._state.allows(asked.caller, each, *where)]
        return {"kind": "storage#testIamPermissionsResponse", "permissions": allowed}

    def _found(self, asked: Asked, permission: str) -> Resource:
        name = asked.parts[0]
        if name in self.taken:
            raise _no_access(asked.caller, permission)
        if name not in self.buckets:
            raise missing("The specified bucket does not exist.")
        self._require(asked.caller, permission, *self._where(name))
        return self.buckets[name]

    def _where(self, name: str) -> tuple[str, str]:
        number = self.buckets[name]["projectNumber"] if name in self.buckets else ""
        owner = next((p.resource for p in self._state.projects.values() if p.number == number), "")
        return _resource(name), owner

    def _require(self, caller: Caller, permission: str, *resources: str) -> None:
        if not self._state.allows(caller, permission, *resources):
            raise _no_access(caller, permission)


def _check(body: Resource) -> None:
    """Refuse settings that a bucket cannot have."""
    unknown = set(body) - _FIELDS
    if unknown:
        raise invalid(f"Unknown name {sorted(unknown)} of a bucket.")
    check_labels({name: value or "" for name, value in (body.get("labels") or {}).items()})
    for rule in (body.get("lifecycle") or {}).get("rule", ()):
        if rule.get("action", {}).get("type") not in _ACTIONS:
            raise invalid(f"Invalid lifecycle action: {rule.get('action')}")
        conditions = rule.get("condition") or {}
        if not conditions or set(conditions) - _CONDITIONS:
            raise invalid(f"Invalid lifecycle condition: {conditions}")
        if not isinstance(conditions.get("age", 0), int):
            raise invalid(f"Invalid age: {conditions['age']}")


def _policy_document(name: str, policy: policy_pb2.Policy) -> Resource:
    document = json_format.MessageToDict(policy)
    return {"kind": "storage#policy", "resourceId": _resource(name), "bindings": [], **document}


def _resource(name: str) -> str:
    return f"projects/_/buckets/{name}"


def _conflict(message: str) -> GoogleRefusal:
    return GoogleRefusal(Code.ALREADY_EXISTS, message, rest_reason="conflict")


def _stale() -> GoogleRefusal:
    words = "At least one of the pre-conditions you specified did not hold."
    return GoogleRefusal(Code.FAILED_PRECONDITION, words, http=412, rest_reason="conditionNotMet")


def _no_access(caller: Caller, permission: str) -> GoogleRefusal:
    return GoogleRefusal(
        Code.PERMISSION_DENIED,
        f"{caller.email} does not have {permission} access to the Google Cloud Storage bucket. "
        f"Permission '{permission}' denied on resource (or it may not exist).",
        rest_reason="forbidden",
    )
