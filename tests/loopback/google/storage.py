"""Cloud Storage with what setting up asks of it: buckets of projects, and who may do what there.

Without a login objects are everybody's, as in the other storage servers here; buckets are not.
https://cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from google.iam.v1 import options_pb2, policy_pb2
from google.protobuf import json_format

from loopback.google.answers import Code, GoogleRefusal, invalid, missing
from loopback.google.calls import Calls
from loopback.google.login import Login
from loopback.google.state import PROJECT, Caller, GoogleState, Project
from loopback.storage_wire import WireStorage
from loopback.wire import Request, Response

_BUCKETS = "/storage/v1/b"
_BUCKET = re.compile(r"^/storage/v1/b/([^/]+)(/iam)?$")
_OBJECTS = re.compile(r"^/(?:download/|(?:resumable/)?upload/)?storage/v1/b/([^/]+)/o(?:/.+)?$")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_LABEL = re.compile(r"[\w-]{1,63}")
_FIELDS = {
    *("name", "labels", "lifecycle", "iamConfiguration", "location", "storageClass"),
    *("softDeletePolicy", "versioning"),
}
_ACTIONS = {"Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"}
_CONDITIONS = {"age", "matchesPrefix", "matchesSuffix", "isLive", "createdBefore"}
_VERBS = {"GET": "get", "PATCH": "update", "PUT": "update", "DELETE": "delete", "POST": "create"}

OWNED = "Your previous request to create the named bucket succeeded and you already own it."
TAKEN = (
    "The requested bucket name is not available. The bucket namespace is shared by all users of "
    "the system. Please select a different name and try again."
)


class GoogleStorage(WireStorage):
    """Cloud Storage as a service of the loopback Google's.

    Args:
        state: What Google keeps.
        calls: Every call, which a test may spoil: `buckets.insert`, `buckets.setIamPolicy`.
        login: Whose tokens there are.
    """

    def __init__(self, state: GoogleState, calls: Calls, login: Login) -> None:
        super().__init__()
        self.owners: dict[str, Project] = {}
        self._state = state
        self._calls = calls
        self._login = login

    def make(self, name: str, project: Project, **settings: Any) -> str:
        """Make a bucket in a project, as somebody else does it."""
        self._make(name, project, {"name": name, **settings})
        return name

    def policy(self, bucket: str) -> str:
        """Return the name under which the policy of a bucket is kept."""
        return f"projects/_/buckets/{bucket}"

    def _answer(self, request: Request) -> Response:
        try:
            return super()._answer(request)
        except GoogleRefusal as refusal:
            return _json(refusal.document(), refusal.http)

    def _route(self, request: Request) -> Response:
        if request.path == _BUCKETS and request.method == "POST":
            return self._called("buckets.insert", request, lambda who: self._insert(request, who))
        if match := _BUCKET.match(request.path):
            return self._about_bucket(unquote(match[1]), bool(match[2]), request)
        if (match := _OBJECTS.match(request.path)) and request.headers.get("Authorization"):
            bucket = unquote(match[1])
            verb = "list" if request.path.endswith("/o") and request.method == "GET" else None
            permission = f"storage.objects.{verb or _VERBS[request.method]}"
            caller = self._caller(request)
            self._require(caller, permission, bucket)
        return super()._route(request)

    def _about_bucket(self, name: str, is_policy: bool, request: Request) -> Response:
        methods: dict[tuple[str, bool], tuple[str, Callable[[Caller], Response]]] = {
            ("GET", False): ("buckets.get", lambda who: self._get(name, who)),
            ("PATCH", False): ("buckets.patch", lambda who: self._patch(name, request, who)),
            ("DELETE", False): ("buckets.delete", lambda who: self._delete(name, who)),
            ("GET", True): ("buckets.getIamPolicy", lambda who: self._policy(name, request, who)),
            ("PUT", True): (
                "buckets.setIamPolicy",
                lambda who: self._set_policy(name, request, who),
            ),
        }
        method, act = methods[request.method, is_policy]
        return self._called(method, request, act)

    def _called(self, method: str, request: Request, act: Callable[[Caller], Response]) -> Response:
        caller = self._caller(request)
        return self._calls.answer("storage", method, caller, lambda: act(caller))

    def _caller(self, request: Request) -> Caller:
        headers = request.headers
        return self._login.caller(
            headers.get("Authorization"), headers.get("X-Goog-User-Project"), PROJECT
        )

    def _insert(self, request: Request, caller: Caller) -> Response:
        project = self._state.project(request.query["project"])
        self._state.require(caller, "storage.buckets.create", project.resource)
        body = json.loads(request.body)
        _check(body)
        if not _NAME.fullmatch(body["name"]):
            raise invalid(f"Invalid bucket name: '{body['name']}'")
        if body["name"] in self.owners:
            raise _conflict(OWNED if self.owners[body["name"]] is project else TAKEN)
        if project.billing_account is None:
            raise _no_billing()
        self._make(body["name"], project, body)
        return _json(self._shown(body["name"]))

    def _make(self, name: str, project: Project, settings: Mapping[str, Any]) -> None:
        self.buckets.create(name)
        self.owners[name] = project
        self.bucket_settings[name] = {**settings}
        self._state.policies.forget(self.policy(name))
        self._state.policies.grant(
            self.policy(name),
            "roles/storage.legacyBucketOwner",
            f"projectEditor:{project.id}",
            f"projectOwner:{project.id}",
        )

    def _get(self, name: str, caller: Caller) -> Response:
        self._require(caller, "storage.buckets.get", name)
        return _json(self._shown(name))

    def _patch(self, name: str, request: Request, caller: Caller) -> Response:
        self._require(caller, "storage.buckets.update", name)
        change = json.loads(request.body)
        _check(change)
        self.bucket_settings[name].update(change)
        return _json(self._shown(name))

    def _delete(self, name: str, caller: Caller) -> Response:
        self._require(caller, "storage.buckets.delete", name)
        if self.buckets.names(name, ""):
            raise _conflict("The bucket you tried to delete is not empty.")
        self.buckets.remove(name)
        del self.owners[name], self.bucket_settings[name]
        self._state.policies.forget(self.policy(name))
        return Response(status=204)

    def _policy(self, name: str, request: Request, caller: Caller) -> Response:
        self._require(caller, "storage.buckets.getIamPolicy", name)
        version = int(request.query.get("optionsRequestedPolicyVersion", 1))
        options = options_pb2.GetPolicyOptions(requested_policy_version=version)
        return self._policy_shown(name, self._state.policies.read(self.policy(name), options))

    def _set_policy(self, name: str, request: Request, caller: Caller) -> Response:
        self._require(caller, "storage.buckets.setIamPolicy", name)
        body = json.loads(request.body)
        document = {key: body[key] for key in ("version", "etag", "bindings") if body.get(key)}
        policy = json_format.ParseDict(document, policy_pb2.Policy())
        try:
            kept = self._state.policies.write(self.policy(name), policy)
        except GoogleRefusal as refusal:
            if refusal.code == Code.ABORTED:
                refusal.http = 412
            raise
        return self._policy_shown(name, kept)

    def _policy_shown(self, name: str, policy: policy_pb2.Policy) -> Response:
        document = json_format.MessageToDict(policy)
        kind = {"kind": "storage#policy", "resourceId": self.policy(name)}
        return _json({**kind, **document})

    def _shown(self, name: str) -> dict[str, Any]:
        settings = self.bucket_settings[name]
        return {
            "kind": "storage#bucket",
            "id": name,
            "metageneration": "1",
            "etag": "CAE=",
            **settings,
            "name": name,
            "projectNumber": self.owners[name].number,
            "location": str(settings.get("location", "US")).upper(),
        }

    def _require(self, caller: Caller, permission: str, bucket: str) -> None:
        if bucket not in self.owners:
            raise missing("The specified bucket does not exist.")
        where = (self.policy(bucket), self.owners[bucket].resource)
        if not self._state.allows(caller, permission, *where):
            raise GoogleRefusal(
                Code.PERMISSION_DENIED,
                f"{caller.email} does not have {permission} access to the Google Cloud Storage "
                f"bucket. Permission '{permission}' denied on resource (or it may not exist).",
                rest_reason="forbidden",
            )


def _check(bucket: Mapping[str, Any]) -> None:
    """Refuse what is no bucket of the API's."""
    unknown = set(bucket) - _FIELDS
    if unknown:
        raise invalid(f"Unknown name {sorted(unknown)[0]!r}: Cannot find field.")
    for name, value in (bucket.get("labels") or {}).items():
        if not _LABEL.fullmatch(name) or not _LABEL.fullmatch(value):
            raise invalid(f"Invalid label {name}={value}")
    for rule in (bucket.get("lifecycle") or {}).get("rule", ()):
        conditions = set(rule["condition"])
        if rule["action"]["type"] not in _ACTIONS or not conditions <= _CONDITIONS:
            raise invalid(f"Invalid lifecycle rule {rule}")
        if rule["action"]["type"].startswith("Abort") and not conditions <= {
            *("age", "matchesPrefix", "matchesSuffix"),
        }:
            raise invalid("AbortIncompleteMultipartUpload takes an age, a prefix or a suffix only")


def _conflict(message: str) -> GoogleRefusal:
    return GoogleRefusal(Code.ALREADY_EXISTS, message, rest_reason="conflict")


def _no_billing() -> GoogleRefusal:
    return GoogleRefusal(
        Code.PERMISSION_DENIED,
        "The billing account for the owning project is disabled in state absent",
        rest_reason="accountDisabled",
    )


def _json(document: Mapping[str, Any], status: int = 200) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "application/json; charset=UTF-8"},
        body=json.dumps(document).encode(),
    )
