"""Errors of Google's clients, translated into this library's."""

from __future__ import annotations

from dataclasses import dataclass

from kinetic_flows.clients.deadlines import DeadlineExceeded
from kinetic_flows.clients.google.login import LOGIN_HINT
from kinetic_flows.core.errors import KineticError, ObjectNotFoundError, StoreError


def is_precondition(error: BaseException) -> bool:
    """Whether a write was refused because the object is not the one it was meant for."""
    return status_of(error) == 412


def is_object_missing(error: BaseException) -> bool:
    """Whether an error says that an object does not exist, in a bucket that does."""
    return status_of(error) == 404 and "bucket does not exist" not in str(error).lower()


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status an error carries, itself or through its cause; else None."""
    last = getattr(error, "cause", None)
    if isinstance(last, Exception):  # a RetryError holds what the last try met
        return status_of(last)
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return int(code)
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_credential_error(error: BaseException) -> bool:
    """Whether Google's authentication library raised it: no credentials, or unusable ones."""
    from google.auth.exceptions import GoogleAuthError, TransportError

    return isinstance(error, GoogleAuthError) and not isinstance(error, TransportError)


@dataclass(frozen=True, kw_only=True)
class BucketPlace:
    """A bucket, and where it belongs.

    Attributes:
        name: Its name.
        project: The project to make it in; None where that is not known.
        location: Where to make it, such as `us-central1`; None for Google's choice.
    """

    name: str
    project: str | None = None
    location: str | None = None


def store_error(error: Exception, *, bucket: BucketPlace, name: str) -> Exception:
    """Return what to raise for an error of the Cloud Storage client.

    Args:
        error: What the client raised; an error of ours is returned as it is.
        bucket: The bucket it was about.
        name: The object, or the prefix, it was about.
    """
    if isinstance(error, KineticError):
        return error
    where = f"gs://{bucket.name}/{name}"
    status = status_of(error)
    if status == 404:
        return _not_found(error, bucket, where)
    if status == 401 or is_credential_error(error):
        return StoreError(
            f"Google Cloud does not accept the credentials used for {where}: {_first_line(error)}",
            value=where,
            hint=LOGIN_HINT,
        )
    if status == 403:
        return StoreError(
            f"no access to {where}: {_first_line(error)}",
            value=where,
            hint="grant it with: gcloud storage buckets add-iam-policy-binding "
            f"gs://{bucket.name}{_option('project', bucket.project)} --member=user:YOU "
            "--role=roles/storage.objectUser",
        )
    return _unavailable(error, status, where)


def _not_found(error: Exception, bucket: BucketPlace, where: str) -> StoreError:
    if is_object_missing(error):
        return ObjectNotFoundError(
            f"the store has no object {where}",
            value=where,
            hint="it was deleted, or never written; submit again to write it",
        )
    return bucket_missing(bucket)


def bucket_missing(bucket: BucketPlace) -> StoreError:
    """Return the error for a bucket that does not exist."""
    where = _option("project", bucket.project) + _option("location", bucket.location)
    return StoreError(
        f"the bucket gs://{bucket.name} does not exist",
        value=bucket.name,
        hint=f"create it with: gcloud storage buckets create gs://{bucket.name}{where} "
        "--uniform-bucket-level-access",
    )


def _option(name: str, value: str | None) -> str:
    return f" --{name}={value}" if value else ""


def _unavailable(error: Exception, status: int | None, where: str) -> StoreError:
    if isinstance(error, DeadlineExceeded):
        return StoreError(
            f"Cloud Storage did not finish with {where}: {error}",
            value=where,
            hint="the connection is slow or stuck; run again, what was written is reused",
        )
    if status is not None:
        return StoreError(
            f"Cloud Storage answered {status} for {where}: {_first_line(error)}",
            value=where,
            hint="if it persists, look at https://status.cloud.google.com; "
            "run again, what was written is reused",
        )
    return StoreError(
        f"Cloud Storage cannot be reached for {where}: {_first_line(error)}",
        value=where,
        hint="check the network and the proxy; run again, what was written is reused",
    )


def _first_line(error: BaseException) -> str:
    """Return an error's own words, without the request they may quote at length."""
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
