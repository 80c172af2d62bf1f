"""Secret Manager over REST, with the identity that this process has where it runs.

https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any

from .prefect_api import TIMEOUT_SECONDS, ApiError

ENDPOINT = "secretmanager.googleapis.com"
ENDPOINT_VARIABLE = "KINETIC_SECRET_MANAGER_ENDPOINT"
"""`host:port` of another endpoint; with `http://` in front it is asked without credentials."""

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_RETRIED = (408, 429)


def access(spec: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return what a version of a secret holds.

    Args:
        spec: The job's `SecretSpec`.
        environ: This process's environment.

    Raises:
        ApiError: Secret Manager refuses, or cannot be reached.
    """
    endpoint = environ.get(ENDPOINT_VARIABLE) or ENDPOINT
    is_plain = endpoint.startswith("http://")
    try:
        session, identity = _session(is_plain=is_plain)
        base = endpoint if is_plain else f"https://{endpoint}"
        name = f"projects/{spec['project']}/secrets/{spec['name']}/versions/{spec['version']}"
        answer = session.get(f"{base}/v1/{name}:access", timeout=TIMEOUT_SECONDS)
        if answer.status_code == 200:
            return _value(answer.json()["payload"], name)
    except ApiError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the library and its network raise
        # Of `requests`, `google.auth` and its transport: nothing of a value is in their texts.
        is_final = type(error).__name__ == "DefaultCredentialsError"
        message = f"Secret Manager cannot be asked for {spec['name']}: {error}"
        raise ApiError(message, is_final=is_final) from None
    raise _refusal(answer, spec, identity())


def _session(*, is_plain: bool) -> tuple[Any, Any]:
    """Return what asks, and a function that says as whom."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.transport.requests import AuthorizedSession

    if is_plain:
        return AuthorizedSession(AnonymousCredentials()), lambda: ""
    credentials, _ = google.auth.default(scopes=[_SCOPE])
    return AuthorizedSession(credentials), lambda: getattr(credentials, "service_account_email", "")


def _value(payload: Mapping[str, Any], name: str) -> str:
    data = a2b_base64(payload["data"])
    if not _is_whole(data, payload.get("dataCrc32c")):
        raise ApiError(f"{name} arrived damaged", is_final=False)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ApiError(f"{name} is no text, and a variable holds text", is_final=True) from None


def _is_whole(data: bytes, checksum: str | None) -> bool:
    """Whether some bytes are those that were stored, as far as that is told."""
    import google_crc32c

    return checksum is None or google_crc32c.value(data) == int(checksum)


def _refusal(answer: Any, spec: Mapping[str, Any], identity: str) -> ApiError:
    code, name, project = answer.status_code, spec["name"], spec["project"]
    where = f"the secret {name} of project {project}"
    if code == 404:
        return ApiError(f"there is no {where[4:]}, or no version {spec['version']}", is_final=True)
    words = _words(answer)
    if code == 403 and not ("has not been used" in words or "is disabled" in words):
        hint = grant(name, project, identity)
        return ApiError(f"this run may not read {where}: {words}; grant it: {hint}", is_final=True)
    is_final = 400 <= code < 500 and code not in _RETRIED
    return ApiError(f"Secret Manager refused {where}: {words}", is_final=is_final)


def grant(name: str, project: str, identity: str) -> str:
    """Return the command that lets a run read a secret.

    Args:
        name: The secret.
        project: Its project.
        identity: The run's service account, by its address; empty where that is not known.
    """
    # A pod without a Google service account of its own is known by the pool of its cluster, see
    # https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity.
    is_known = "@" in identity
    member = f"serviceAccount:{identity}" if is_known else "serviceAccount:THE-RUN'S-ACCOUNT"
    return (
        f"gcloud secrets add-iam-policy-binding {name} --project={project} "
        f'--member="{member}" --role=roles/secretmanager.secretAccessor'
    )


def _words(answer: Any) -> str:
    try:
        text = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = str(answer.text)
    return " ".join(text.split())[:300] or f"HTTP {answer.status_code}"
