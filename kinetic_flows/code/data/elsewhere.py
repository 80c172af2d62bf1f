"""What data elsewhere is: its identity, as `format` describes it, and how much there is of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from kinetic_flows.clients.hub import HubClient
from kinetic_flows.clients.web import look_at
from kinetic_flows.code.data.patterns import Patterns
from kinetic_flows.core.artifact_store import ArtifactStore, ObjectInfo
from kinetic_flows.core.data import Data, DataKind
from kinetic_flows.core.errors import StoreError, UsageError
from kinetic_flows.core.job_parts import DataSpec

MOST_FILES = 1_000_000
"""How many files a source elsewhere may have that is copied."""

OpenBucket = Callable[[str], ArtifactStore]


class Resolved(NamedTuple):
    """Data that is elsewhere, everything about it fixed.

    Attributes:
        spec: What a job says of it.
        warnings: What the person should know, a sentence each.
    """

    spec: DataSpec
    warnings: tuple[str, ...] = ()


class _File(NamedTuple):
    """A file: its path relative to the source, its size, and what it adds to the identity."""

    path: str
    size_bytes: int
    facts: tuple[str, str]


def resolve_bucket(data: Data, open_bucket: OpenBucket, *, is_pinned: bool) -> Resolved:
    """Find out what data in Cloud Storage is.

    Args:
        data: The data.
        open_bucket: Opens a bucket by its name.
        is_pinned: Whether the run has to find what is there now.

    Raises:
        UsageError: It is not there, not open to this user, or has too many files.
        StoreError: Cloud Storage cannot be asked.
    """
    name, path = data.bucket()
    spec = _spec_of(data, "bucket", {"bucket": name, "path": path})
    if not is_pinned:
        return Resolved(spec)
    bucket = open_bucket(name)
    listing = _Listing("bucket", data)
    try:
        alone = _object(bucket, path) if path else None
        if alone:
            listing.add(_stored(alone, path.rpartition("/")[0]), is_alone=True)
        else:
            for info in bucket.list(f"{path}/" if path else ""):
                if not info.name.endswith("/"):
                    listing.add(_stored(info, path))
    except StoreError as error:
        raise _cannot_read(data, name, error) from error
    return Resolved(listing.complete(spec))


def resolve_hub(data: Data, hub: HubClient, *, run_has_token: bool) -> Resolved:
    """Find out what data of the hub is, and pin it to its commit.

    Args:
        data: The data.
        hub: The hub.
        run_has_token: Whether the run is given a token for it.

    Raises:
        UsageError: It is not there, not open to this user, or has too many files; or the hub
            cannot be asked.
    """
    kind, repository, revision, path = data.hub()
    commit, is_open, repository = hub.revision(kind, repository, revision)
    listing = _Listing("hub", data)
    alone = hub.file(kind, repository, commit, path) if path else None
    found = [alone] if alone else hub.files(kind, repository, commit, path)
    below = path.rpartition("/")[0] if alone else path
    files: list[_File] = []
    for file in found:
        facts = (str(file.size_bytes), file.digest)
        files.append(_File(file.path[len(below) :].lstrip("/"), file.size_bytes, facts))
        if len(files) > MOST_FILES:
            raise _too_many(data)
    for each in sorted(files, key=lambda file: _bytes(file.path)):
        listing.add(each, is_alone=alone is not None)
    if not is_open and files and (hub.has_token or not run_has_token):
        hub.require_access(kind, repository, commit, f"{below}/{files[0].path}".lstrip("/"))
    place = {
        "endpoint": hub.endpoint,
        "type": kind,
        "repository": repository,
        "commit": commit,
        "path": path,
    }
    warning = (
        f"{data!r} is not open to everybody, and the run is given no token: "
        "secrets={'HF_TOKEN': 'env:HF_TOKEN'} gives it yours"
    )
    told = () if is_open or run_has_token else (warning,)
    return Resolved(listing.complete(_spec_of(data, "hub", place)), told)


def resolve_web(data: Data) -> Resolved:
    """Find out whether a file of the web is there; its digest is known.

    Raises:
        UsageError: Its server says that it is not there.
    """
    spec = _spec_of(data, "web", {"url": data.source})
    size_bytes = look_at(data.source)
    return Resolved(
        replace(spec, identity=data.sha256 or "", is_file=True, files=1, size_bytes=size_bytes)
    )


def _object(bucket: ArtifactStore, name: str) -> ObjectInfo | None:
    """Return the object of a name, which a listing has before those that begin with it."""
    first = next(iter(bucket.list(name)), None)
    return first if first and first.name == name else None


def _stored(info: ObjectInfo, below: str) -> _File:
    path = info.name.removeprefix(f"{below}/") if below else info.name
    return _File(path, info.size_bytes, (info.generation, str(info.size_bytes)))


def _cannot_read(data: Data, bucket: str, error: StoreError) -> UsageError | StoreError:
    """Return what to raise where somebody's bucket cannot be read."""
    if "does not exist" in error.message:
        hint = "check its name: `gcloud storage ls --project=PROJECT` lists those of a project"
        return UsageError(f"{data!r}: {error.message}", value=data.source, hint=hint)
    if error.message.startswith("no access"):
        hint = (
            f"grant it with: gcloud storage buckets add-iam-policy-binding gs://{bucket} "
            "--member=user:YOU --role=roles/storage.objectViewer"
        )
        return UsageError(f"{data!r}: {error.message}", value=data.source, hint=hint)
    return error


def _spec_of(data: Data, kind: DataKind, place: Mapping[str, Any]) -> DataSpec:
    return DataSpec(
        kind=kind,
        identity="",
        source=data.shown_source,
        name=data.name,
        mode=data.mode,
        in_memory=data.in_memory,
        include=data.include,
        exclude=data.exclude,
        place=place,
    )


class _Listing:
    """Digests a listing as it comes.

    Args:
        first: The first line of what is digested.
        data: What is listed.
    """

    def __init__(self, first: str, data: Data) -> None:
        self._digest = hashlib.sha256(f"{first}\n".encode())
        self._data = data
        self._patterns = Patterns(data.include, data.exclude)
        self._files = self._left_out = self._size_bytes = 0
        self._is_file = False

    def add(self, file: _File, *, is_alone: bool = False) -> None:
        """Add a file, if it is meant.

        Args:
            file: The file.
            is_alone: Whether it is all of the source.

        Raises:
            UsageError: There are too many.
        """
        self._is_file = is_alone
        if not is_alone and not self._patterns.take(file.path):
            self._left_out += 1
            return
        self._files += 1
        self._size_bytes += file.size_bytes
        self._digest.update(_bytes("\0".join((file.path, *file.facts))) + b"\n")
        if self._files > MOST_FILES:
            raise _too_many(self._data)

    def complete(self, spec: DataSpec) -> DataSpec:
        """Return what a job says, with what was listed.

        Raises:
            UsageError: There is no file.
        """
        if not self._files:
            why = "no file in it matches include and exclude" if self._left_out else "is not there"
            raise UsageError(
                f"{self._data!r}: {why}",
                value=self._data.source,
                hint="look at the path, and at the patterns",
            )
        return replace(
            spec,
            identity=self._digest.hexdigest(),
            is_file=self._is_file,
            files=self._files,
            size_bytes=self._size_bytes,
        )


def _too_many(data: Data) -> UsageError:
    return UsageError(
        f"{data!r} has more than {MOST_FILES:,} files",
        value=data.source,
        hint="name a directory of it, leave some out with include= and exclude=, or, in a bucket, "
        "have it mounted: mode='mount'",
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
