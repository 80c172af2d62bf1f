"""What Google's APIs answer instead of doing as asked, as errors that say what to do about it.

The reasons are those of google.rpc.ErrorInfo (https://cloud.google.com/apis/design/errors), where
an answer has one; Compute Engine and GKE tell some, such as a quota, by their words alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kinetic_flows.clients.google.errors import is_credential_error, status_of
from kinetic_flows.clients.google.login import LOGIN_HINT
from kinetic_flows.core.errors import CloudError, KineticError

Reason = Literal[
    "api-off",
    "billing",
    "busy",
    "conflict",
    "failed",
    "invalid",
    "login",
    "missing",
    "name-taken",
    "permission",
    "policy",
    "quota",
    "stock-out",
    "unreachable",
]
"""Why Google did not do as asked. `conflict`: somebody changed it in the meantime. `busy`: another
operation is under way, or there were too many requests; the same may be asked later."""

_REASONS: Mapping[str, Reason] = {
    "ACCESS_TOKEN_EXPIRED": "login",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "login",
    "ACCOUNT_STATE_INVALID": "login",
    "BILLING_DISABLED": "billing",
    "CLUSTER_ALREADY_HAS_OPERATION": "busy",
    "CREDENTIALS_MISSING": "login",
    "GCE_QUOTA_EXCEEDED": "quota",
    "GCE_STOCKOUT": "stock-out",
    "IAM_PERMISSION_DENIED": "permission",
    "RATE_LIMIT_EXCEEDED": "busy",
    "RESOURCE_QUOTA_EXCEEDED": "quota",
    "SECURITY_POLICY_VIOLATED": "policy",
    "SERVICE_DISABLED": "api-off",
    "UREQ_PROJECT_BILLING_NOT_FOUND": "billing",
    "USER_PROJECT_DENIED": "permission",
    "ZONE_RESOURCE_POOL_EXHAUSTED": "stock-out",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": "stock-out",
    # Compute Engine's REST API says these in its list of errors.
    "accessNotConfigured": "api-off",
    "quotaExceeded": "quota",
    "rateLimitExceeded": "busy",
    "resource_availability": "stock-out",
}

_WORDS: tuple[tuple[str, Reason], ...] = (
    # GKE answers 403 PERMISSION_DENIED for a quota.
    (r"insufficient (?:\w+ )?quota|quota '[^']*' exceeded|QUOTA_EXCEEDED", "quota"),
    (r"not have enough resources available|GCE_STOCKOUT|RESOURCE_POOL_EXHAUSTED", "stock-out"),
    (r"has not been used in project|is disabled\. Enable it by visiting", "api-off"),
    (r"billing (?:account|must be|is not enabled|to be enabled)|requires billing", "billing"),
    (r"\bconstraints?/[\w.]+|organi[sz]ation'?s policy|org policy", "policy"),
    (r"is currently [\w ]+ cluster|incompatible operation", "busy"),
    (r"concurrent policy changes|fingerprint mismatch", "conflict"),
    (r"is not empty", "invalid"),
)

_STATUSES: Mapping[int, Reason] = {
    400: "invalid",
    401: "login",
    403: "permission",
    404: "missing",
    409: "name-taken",
    412: "conflict",
    429: "quota",
}

_NOT_ITS_PROJECT = "USER_PROJECT_DENIED"
"""The call does not count for the project that the credentials name."""

_NOT_THERE = (502, 503, 504)

_MISTAKES = (AttributeError, LookupError, TypeError, ValueError)
"""What is raised for a request that cannot be made, not for a network that is not there."""

_REQUEST = re.compile(r"^(?:GET|POST|PUT|PATCH|DELETE) https?://\S+: ")
"""What Google's client puts in front of the words of a REST answer."""

_PERMISSION = re.compile(
    r"[Pp]ermissions?(?:\(s\))? ['\"]([\w.]+)['\"]|['\"]([a-z]+\.\w+\.\w+)['\"] perm"
)
_SERVICE = re.compile(r"\b([a-z]+\.googleapis\.com)\b")
_CONSTRAINT = re.compile(r"\bconstraints?/([\w.]+)")
_METRIC = re.compile(r"(?:resource|quota|metric) [\"']([\w./-]+)[\"']", re.IGNORECASE)
_CONSUMER = re.compile(r"\bproject ([\w:.-]*\w)")

_ROLES = {
    "artifactregistry.": "roles/artifactregistry.admin",
    "billing.": "roles/billing.user",
    "cloudbuild.": "roles/cloudbuild.builds.editor",
    "compute.routers.": "roles/compute.networkAdmin",
    "compute.": "roles/compute.viewer",
    "container.": "roles/container.admin",
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
    "iam.serviceAccounts.": "roles/iam.serviceAccountAdmin",
    "resourcemanager.projects.get": "roles/browser",
    "resourcemanager.projects.": "roles/resourcemanager.projectIamAdmin",
    "serviceusage.services.use": "roles/serviceusage.serviceUsageConsumer",
    "serviceusage.": "roles/serviceusage.serviceUsageAdmin",
    "storage.": "roles/storage.admin",
}
"""A role of Google's that has a permission; the first that fits.

https://cloud.google.com/iam/docs/roles-permissions
"""


class CloudRefusal(CloudError):
    """Google Cloud did not do as it was asked.

    Attributes:
        reason: Why not.
        subject: What it is about: the permission that is missing, the API that is off, the quota,
            the constraint; None where the answer does not tell.
        words: Google's own words.
    """

    reason: Reason = "failed"
    subject: str | None = None
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an API answered, from whatever its client raised.

    Attributes:
        status: HTTP status; None where there was no answer.
        words: The message.
        reason: Reason of its ErrorInfo, or of the first of its errors; empty for none.
        metadata: What belongs to that reason.
    """

    status: int | None
    words: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def refusal(
    error: Exception, *, what: str, project: str | None = None, member: str | None = None
) -> KineticError:
    """Return what to raise for an error of a Google client.

    Args:
        error: What the client raised; an error of ours is returned as it is.
        what: What was wanted, as it stands behind `cannot`: `create node pool l4`.
        project: The project it was wanted in; None where there is none yet.
        member: Who asked, as IAM writes it; None where that is not known.
    """
    if isinstance(error, KineticError):
        return error
    return translated(error, what=what, project=project, member=member)


def translated(
    error: Exception, *, what: str, project: str | None = None, member: str | None = None
) -> CloudRefusal:
    """Return what to raise for an error that a Google client raised; see `refusal`."""
    answer = read_answer(error)
    reason = _reason(answer, error)
    subject = _subject(reason, answer)
    made = CloudRefusal(
        _message(reason, what, subject, answer),
        value=subject or what,
        hint=_hint(reason, subject, _Place(project=project, member=member, answer=answer)),
    )
    made.reason, made.subject, made.words = reason, subject, answer.words
    return made


def read_answer(error: BaseException) -> Answer:
    """Return what an error of a client says that the API answered."""
    last = getattr(error, "cause", None)
    if isinstance(last, Exception):  # a RetryError holds what the last try met
        return read_answer(last)
    words = _REQUEST.sub("", " ".join(_said(error).split()))
    metadata = getattr(error, "metadata", None)
    reason = getattr(error, "reason", None) or _first_reason(error)
    return Answer(
        status=status_of(error),
        words=words[:600] or type(error).__name__,
        reason=str(reason or ""),
        metadata={str(name): str(value) for name, value in dict(metadata or {}).items()},
    )


def _said(error: BaseException) -> str:
    """Return the words of an error; those of a login that is over have its answer beside them."""
    first = next(iter(error.args), None)
    alone = first if isinstance(first, str) else str(error)
    return str(getattr(error, "message", None) or alone)


def _first_reason(error: BaseException) -> str:
    """Return the reason in the list of errors that REST answers of older APIs have."""
    for each in getattr(error, "errors", None) or ():
        if isinstance(each, Mapping) and each.get("reason") in _REASONS:
            return str(each["reason"])
    return ""


def _reason(answer: Answer, error: Exception) -> Reason:
    """Return why an API did not do as asked, by its answer and by what the client raised."""
    if is_credential_error(error):
        return "login"
    if answer.reason in _REASONS:
        return _REASONS[answer.reason]
    if isinstance(error, _MISTAKES):
        return "failed"
    if answer.status in (None, *_NOT_THERE):
        return _by_words(answer.words) or "unreachable"
    if answer.status == 409 and "ABORTED" in _grpc_name(error):
        return "conflict"
    return _by_words(answer.words) or _STATUSES.get(answer.status, "failed")


def _grpc_name(error: Exception) -> str:
    return str(getattr(getattr(error, "grpc_status_code", None), "name", ""))


def _by_words(words: str) -> Reason | None:
    return next(
        (reason for pattern, reason in _WORDS if re.search(pattern, words, re.IGNORECASE)), None
    )


def _subject(reason: Reason, answer: Answer) -> str | None:
    if answer.reason == _NOT_ITS_PROJECT:
        return "serviceusage.services.use"
    if reason == "permission":
        return answer.metadata.get("permission") or _found(_PERMISSION, answer.words)
    if reason == "api-off":
        return answer.metadata.get("service") or _found(_SERVICE, answer.words)
    if reason == "quota":
        named = answer.metadata.get("quota_metric") or answer.metadata.get("quotaMetric")
        return named or _found(_METRIC, answer.words)
    if reason == "policy":
        return _found(_CONSTRAINT, answer.words)
    return None


def _found(pattern: re.Pattern[str], words: str) -> str | None:
    match = pattern.search(words)
    return next((group for group in match.groups() if group), None) if match else None


_MESSAGES: Mapping[Reason, str] = {
    "api-off": "the API {subject} is off",
    "billing": "the project has no billing account",
    "busy": "Google Cloud is busy with it",
    "conflict": "somebody changed it in the meantime",
    "login": "Google Cloud does not accept the credentials",
    "permission": "the permission {subject} is missing",
    "policy": "the organisation's policy forbids it",
    "quota": "the quota {subject} is used up",
    "stock-out": "Google has no such machines there now",
    "unreachable": "Google Cloud cannot be reached",
}


_SAID_ALL = frozenset({"api-off"})
"""Where Google's words say no more than the message and the hint, at length."""


def _message(reason: Reason, what: str, subject: str | None, answer: Answer) -> str:
    known = _MESSAGES.get(reason, "")
    why = " ".join(known.format(subject=subject or "").split())
    said = "" if reason in _SAID_ALL and subject else answer.words
    return f"cannot {what}: {': '.join(filter(None, (why, said)))}"


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where something was refused, and to whom."""

    project: str | None
    member: str | None
    answer: Answer

    @property
    def option(self) -> str:
        return self.project or "PROJECT"

    @property
    def granting(self) -> str:
        """The project on which a permission is missing."""
        return self.consumer if self.answer.reason == _NOT_ITS_PROJECT else self.option

    @property
    def consumer(self) -> str:
        """The project that the call counted for, which may be another: that of the credentials."""
        named = self.answer.metadata.get("consumer", "").removeprefix("projects/")
        return named or _found(_CONSUMER, self.answer.words) or self.option


def _hint(reason: Reason, subject: str | None, place: _Place) -> str | None:
    project = place.option
    quota = f"https://console.cloud.google.com/iam-admin/quotas?project={project}"
    hints: Mapping[Reason, str] = {
        "api-off": f"switch it on with: gcloud services enable {subject or 'API'} "
        f"--project={place.consumer}; after that it may take some minutes",
        "billing": f"`gcloud billing projects link {project} --billing-account=ACCOUNT` links one; "
        "`gcloud billing accounts list` lists them",
        "busy": "run the same again when that is over",
        "conflict": "run the same again",
        "failed": "run the same again: what is done already is kept",
        "login": LOGIN_HINT,
        "permission": grant(place.granting, subject, place.member),
        "policy": "ask who looks after the organisation's policies for an exception, or choose "
        "what they allow",
        "quota": f"ask for more at {quota}, or choose less, another accelerator or another zone",
        "stock-out": "try another zone or accelerator, a reservation, or the same later",
        "unreachable": "check the network and the proxy, and run the same again",
    }
    return hints.get(reason)


def grant(project: str, permission: str | None, member: str | None = None) -> str:
    """Return what grants a permission, as one says it.

    Args:
        project: The project.
        permission: The permission, such as `container.clusters.create`; None for one not known.
        member: Who needs it, as IAM writes it; None where that is not known.
    """
    return (
        f"have it granted with: gcloud projects add-iam-policy-binding {project} "
        f"--member={member or 'user:YOU'} --role={role_with(permission)}"
    )


def role_with(permission: str | None) -> str:
    """Return a role of Google's that has a permission; `ROLE` for one that is not known."""
    for prefix, role in _ROLES.items():
        if permission and permission.startswith(prefix):
            return role
    return "ROLE"
