"""Why the Kubernetes API refused a request, or the making of a pod."""

from __future__ import annotations

import json
import re

from kinetic_flows.kubernetes.diagnosis import Cause, Diagnosis

_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request:?\s*(.*)', re.S)
_QUOTA = re.compile(r"exceeded quota: ([^,]+)(?:, (.*))?", re.S)
_ACCOUNT = re.compile(r'serviceaccount "([^"]+)" not found', re.I)
_NAMESPACE = re.compile(r'namespaces "([^"]+)" not found', re.I)
_USER = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]+)")?'
)


def explain_refusal(status: int, body: str, action: str) -> Diagnosis:
    """Say why a request failed.

    Args:
        status: HTTP status of the answer.
        body: Body of the answer: a `Status` object as JSON, or any text.
        action: What was attempted, such as `create the Job`.
    """
    message = _status_message(body)
    if status == 401:
        return Diagnosis(
            cause=Cause.FORBIDDEN,
            message=f"the cluster does not accept the credentials to {action}",
            hint="sign in again: `gcloud auth application-default login`",
            permanent=True,
        )
    if status in (400, 403, 404, 422):
        return explain_denial(message, action)
    return Diagnosis(
        cause=Cause.UNREACHABLE,
        message=f"the cluster answered {status} when asked to {action}: {message}",
        hint="try again; if it stays, look at the cluster's health",
    )


def explain_denial(message: str, action: str) -> Diagnosis:
    """Say why something was denied, from the API server's own sentence."""
    if found := _QUOTA.search(message):
        numbers = f" ({found[2]})" if found[2] else ""
        return Diagnosis(
            cause=Cause.NAMESPACE_QUOTA,
            message=f"resource quota {found[1]!r} of the namespace is used up{numbers}",
            hint="wait for other runs to end, or raise the quota",
        )
    if found := _WEBHOOK.search(message):
        return _permanent(
            Cause.ADMISSION,
            f"admission webhook {found[1]!r} refuses to {action}: {found[2].strip()}",
            "change what it objects to, or ask who runs the cluster",
        )
    if found := _ACCOUNT.search(message):
        return _permanent(
            Cause.CONFIGURATION,
            f"there is no service account {found[1]!r} in the namespace",
            "create it and bind it to a Google service account",
        )
    if found := _NAMESPACE.search(message):
        return _permanent(
            Cause.NAMESPACE_MISSING,
            f"the cluster has no namespace {found[1]!r}",
            f"create it with `kubectl create namespace {found[1]}`",
        )
    if found := _USER.search(message):
        return _not_allowed(found)
    return _permanent(Cause.ADMISSION, f"the cluster refuses to {action}: {message}", None)


def _not_allowed(found: re.Match[str]) -> Diagnosis:
    where = f" in namespace {found['namespace']!r}" if found["namespace"] else ""
    resource = f"{found['resource']}.{found['group']}" if found["group"] else found["resource"]
    return _permanent(
        Cause.FORBIDDEN,
        f"{found['user']} may not {found['verb']} {resource}{where}",
        "grant it with a Role and a RoleBinding, or the IAM role roles/container.developer",
    )


def _permanent(cause: Cause, message: str, hint: str | None) -> Diagnosis:
    return Diagnosis(cause=cause, message=message, hint=hint, permanent=True)


def _status_message(body: str) -> str:
    try:
        status = json.loads(body)
    except ValueError:
        return body.strip()
    if isinstance(status, dict) and status.get("message"):
        return str(status["message"])
    return body.strip()
