"""How Google's APIs refuse: one status, with details, as gRPC and as REST.

https://cloud.google.com/apis/design/errors; what each says is as people have met it:
https://github.com/google-gemini/gemini-cli/issues/1343 (an API that is off),
https://github.com/kyegomez/zeta/issues/71 (no billing account),
https://github.com/kubernetes-sigs/cluster-api-provider-gcp/issues/1363 (a busy cluster),
https://github.com/kubeflow/kubeflow/issues/842 (a quota, which GKE answers with 403).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from loopback.grpc_services import Refusal

Code = grpc.StatusCode

_HTTP = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INTERNAL: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


class GoogleRefusal(Refusal):
    """A call that is answered with an error.

    Attributes:
        details: What stands beside the message.
        http: HTTP status, where it is not the code's usual one.
        rest_reason: Reason in the list of errors that older APIs' REST answers have.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *details: Message,
        http: int | None = None,
        rest_reason: str = "",
    ) -> None:
        super().__init__(code, message)
        self.details = details
        self.http = http or _HTTP[code]
        self.rest_reason = rest_reason

    def status(self) -> status_pb2.Status:
        """Return it as google.rpc.Status."""
        made = status_pb2.Status(code=self.code.value[0], message=str(self))
        for detail in self.details:
            made.details.add().Pack(detail)
        return made

    def document(self) -> dict[str, Any]:
        """Return it as REST answers have it."""
        error: dict[str, Any] = {
            "code": self.http,
            "message": str(self),
            "status": self.code.name,
        }
        if self.rest_reason:
            item = {"message": str(self), "domain": "global", "reason": self.rest_reason}
            error["errors"] = [item]
        if self.details:
            error["details"] = [
                {
                    "@type": f"type.googleapis.com/{detail.DESCRIPTOR.full_name}",
                    **json_format.MessageToDict(detail),
                }
                for detail in self.details
            ]
        return {"error": error}


def info(reason: str, domain: str, metadata: Mapping[str, str] | None = None) -> Message:
    """Return google.rpc.ErrorInfo."""
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=dict(metadata or {}))


def api_off(api: str, consumer: str) -> GoogleRefusal:
    """An API that the project has not switched on; `consumer` is the project's number."""
    service = f"{api}.googleapis.com"
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={consumer}"
    return GoogleRefusal(
        Code.PERMISSION_DENIED,
        f"{service} API has not been used in project {consumer} before or it is disabled. Enable "
        f"it by visiting {url} then retry. If you enabled this API recently, wait a few minutes "
        "for the action to propagate to our systems and retry.",
        info(
            "SERVICE_DISABLED",
            "googleapis.com",
            {"service": service, "consumer": f"projects/{consumer}", "activationUrl": url},
        ),
        rest_reason="accessNotConfigured",
    )


def no_permission(permission: str, resource: str) -> GoogleRefusal:
    """A permission that the caller lacks."""
    return GoogleRefusal(
        Code.PERMISSION_DENIED,
        f"Permission '{permission}' denied on resource '{resource}' (or it may not exist).",
        info(
            "IAM_PERMISSION_DENIED",
            "iam.googleapis.com",
            {"permission": permission, "resource": resource},
        ),
        rest_reason="forbidden",
    )


def no_billing(number: str, services: str) -> GoogleRefusal:
    """An API that costs something, in a project that nobody pays for."""
    return GoogleRefusal(
        Code.FAILED_PRECONDITION,
        f"Billing account for project '{number}' is not found. Billing must be enabled for "
        f"activation of service(s) '{services}' to proceed.",
        error_details_pb2.PreconditionFailure(
            violations=[
                {
                    "type": "googleapis.com/billing-enabled",
                    "subject": f"?error_code=390001&project={number}&services={services}",
                }
            ]
        ),
        info(
            "UREQ_PROJECT_BILLING_NOT_FOUND",
            "serviceusage.googleapis.com/billing-enabled",
            {"project": number, "services": services},
        ),
    )


def cluster_quota(metric: str, needed: float, limit: float, project: str) -> GoogleRefusal:
    """A quota of Compute Engine that GKE looks at before it makes nodes."""
    url = f"https://console.cloud.google.com/iam-admin/quotas?usage=USED&project={project}"
    return GoogleRefusal(
        Code.PERMISSION_DENIED,
        f'Insufficient regional quota to satisfy request: resource "{metric}": request requires '
        f"'{needed:.1f}' and is short '{max(needed - limit, 0):.1f}'. project has a quota of "
        f"'{limit:.1f}' with '{limit:.1f}' available. View and manage quotas at {url}.",
    )


def stock_out(zone: str) -> GoogleRefusal:
    """No machines of a kind in a zone, which an operation ends with."""
    return GoogleRefusal(
        Code.RESOURCE_EXHAUSTED,
        f"Google Compute Engine: The zone '{zone}' does not have enough resources available to "
        "fulfill the request, '(resource type:compute)'. (GCE_STOCKOUT)",
    )


def busy_cluster(operation: str) -> GoogleRefusal:
    """Another operation is under way on a cluster."""
    return GoogleRefusal(
        Code.FAILED_PRECONDITION,
        f"Cluster is running incompatible operation {operation}.",
        info("CLUSTER_ALREADY_HAS_OPERATION", "container.googleapis.com"),
    )


def policy_violated(constraint: str, project: str) -> GoogleRefusal:
    """A constraint of the organisation's policy."""
    return GoogleRefusal(
        Code.FAILED_PRECONDITION,
        f"Constraint constraints/{constraint} violated for projects/{project}. Your "
        "organization policy does not allow it.",
        http=412,
        rest_reason="conditionNotMet",
    )


def invalid(message: str) -> GoogleRefusal:
    """A request that cannot be."""
    return GoogleRefusal(Code.INVALID_ARGUMENT, message, rest_reason="invalid")


def missing(message: str) -> GoogleRefusal:
    """Something that is not there."""
    return GoogleRefusal(Code.NOT_FOUND, message, rest_reason="notFound")


def taken(message: str) -> GoogleRefusal:
    """A name that something has already."""
    return GoogleRefusal(Code.ALREADY_EXISTS, message, rest_reason="alreadyExists")


def stale_policy() -> GoogleRefusal:
    """A policy that somebody else has written since it was read.

    https://cloud.google.com/iam/docs/retry-strategy
    """
    return GoogleRefusal(
        Code.ABORTED,
        "There were concurrent policy changes. Please retry the whole read-modify-write with "
        "exponential backoff.",
        rest_reason="conditionNotMet",
    )


def unauthenticated() -> GoogleRefusal:
    """A token that nobody has, or that is over."""
    return GoogleRefusal(
        Code.UNAUTHENTICATED,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential.",
        info("ACCESS_TOKEN_TYPE_UNSUPPORTED", "googleapis.com"),
        rest_reason="authError",
    )
