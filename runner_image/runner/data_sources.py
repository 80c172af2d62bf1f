"""The kinds of sources that data comes from, as what makes a copy sees them."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .contract import EXIT_RUNTIME_UNFIT, Fault
from .data_checks import Check
from .data_draft import SLICE_BYTES, Draft, SlicedFile
from .data_listing import Listed, Listing, require_identity
from .data_work import Job, Work
from .stores import BucketStore, DirectoryStore

if TYPE_CHECKING:
    from .data import Around

CLIENT = "KINETIC_CLIENT"
"""Tells a run on its client's machine what it has of it; the client's side is
`kinetic_flows/platforms/local/client_side.py`."""


class Source(ABC):
    """Where data comes from.

    Args:
        spec: The job's `DataSpec`.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec

    @property
    def is_file(self) -> bool:
        """Whether it is one file."""
        return bool(self._spec["is_file"])

    def settled(self, scratch: str) -> Mapping[str, Any]:  # noqa: ARG002 - most are settled
        """Return what the job says of it, with its identity.

        Args:
            scratch: A directory for what has to be known for that.
        """
        return self._spec

    @abstractmethod
    def prepare(self, place: str) -> tuple[int | None, int | None]:
        """Find out what there is; return its size in bytes and files, None where nobody knows.

        Args:
            place: A directory for what is to be kept of it meanwhile.
        """

    @abstractmethod
    def jobs(self, draft: Draft) -> Iterator[Job]:
        """Yield what brings all of it."""

    def finish(self, draft: Draft) -> None:  # noqa: B027 - most have nothing left
        """Do what is left when all jobs are done."""


class _Files(Protocol):
    """Files that are listed before they are fetched."""

    @property
    def newest(self) -> str: ...
    @property
    def is_file(self) -> bool: ...
    def listing(self, place: str) -> Listing: ...
    def fetch(self, file: Listed, begin: int, end: int) -> Iterator[bytes]: ...


def open_source(spec: Mapping[str, Any], around: Around, work: Work) -> Source:
    """Return the source of some data.

    Args:
        spec: The job's `DataSpec`.
        around: What it is brought with.
        work: What it is brought for.

    Raises:
        Fault: There is no such source, or something is missing that it needs.
    """
    kind = spec["kind"]
    if kind == "local":
        return _Packs(spec, around.store)
    if kind == "web":
        return _Web(spec, around.environ)
    return _Listing(spec, around, work)


class _Packs(Source):
    """Files of the client's machine, which are in the store."""

    def __init__(self, spec: Mapping[str, Any], store: DirectoryStore | BucketStore) -> None:
        from . import data_packs

        super().__init__(spec)
        self._packs = data_packs
        self._store = store

    def prepare(self, place: str) -> tuple[int | None, int | None]:
        path = os.path.join(place, "manifest")
        self._manifest = self._packs.fetch_manifest(self._store, self._spec, path)
        return self._spec["size_bytes"], self._spec["files"]

    def jobs(self, draft: Draft) -> Iterator[Job]:
        return self._packs.jobs(self._store, self._manifest, draft)

    def finish(self, draft: Draft) -> None:
        self._packs.finish(self._manifest, draft)


class _Listing(Source):
    """Files of a bucket, or of the hub."""

    def __init__(self, spec: Mapping[str, Any], around: Around, work: Work) -> None:
        super().__init__(spec)
        self._around = around
        self._work = work
        self._listing: Listing | None = None
        self._opened: _Files | None = None

    def settled(self, scratch: str) -> Mapping[str, Any]:
        if not self._spec["identity"]:
            path = os.path.join(scratch, f"listing-{id(self)}")
            self._listing = self._files.listing(path)
            is_file, identity = self._files.is_file, self._listing.identity
            self._spec = {**self._spec, "is_file": is_file, "identity": identity}
        return self._spec

    def prepare(self, place: str) -> tuple[int | None, int | None]:
        if self._listing is None:
            self._listing = self._files.listing(os.path.join(place, "listing"))
            require_identity(self._listing, self._spec, self._files.newest)
        return self._listing.size_bytes, self._listing.files

    def jobs(self, draft: Draft) -> Iterator[Job]:
        for file in self._listing or ():
            if file.size_bytes <= SLICE_BYTES:
                yield partial(self._bring, file, draft)
            else:
                yield from self._sliced(file, draft).jobs()

    def _bring(self, file: Listed, draft: Draft) -> None:
        check, path = self._check(file), self._path(file)
        if not draft.has(path, file.size_bytes, check):
            draft.write(path, self._files.fetch(file, 0, file.size_bytes), check())

    def _sliced(self, file: Listed, draft: Draft) -> SlicedFile:
        fetch = partial(self._files.fetch, file)
        path, check = self._path(file), self._check(file)
        return SlicedFile(draft, path, file.size_bytes, fetch, check=check)

    def _path(self, file: Listed) -> str:
        # Copies of one file have the name that their users know.
        return str(self._spec["name"]) if self.is_file else file.path

    def _check(self, file: Listed) -> partial[Check]:
        source = self._spec["source"]
        name = source if self.is_file else f"{file.path} of {source}"
        return partial(Check, name, file.size_bytes, file.digest)

    @property
    def _files(self) -> _Files:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> _Files:
        if self._spec["kind"] == "hub":
            from .data_hub import HubFiles

            return HubFiles(self._spec, self._around.environ, self._work)
        from .data_bucket import BucketFiles

        client = self._around.client or storage_client(self._around.environ)
        return BucketFiles(self._spec, client, self._work)


class _Web(Source):
    """One file of the web."""

    def __init__(self, spec: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        super().__init__(spec)
        self._environ = environ

    def prepare(self, place: str) -> tuple[int | None, int | None]:  # noqa: ARG002
        return self._spec["size_bytes"], 1

    def jobs(self, draft: Draft) -> Iterator[Job]:
        from .data_web import bring_file

        yield partial(bring_file, self._spec, self._environ, draft)


def clients(environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what a run has of its client, where it is on its client's machine.

    Returns:
        Where the client's packages are (`path`), and variables by which Google's libraries and
        the hub's find what may be read (`environment`).
    """
    told = environ.get(CLIENT)
    given: Mapping[str, Any] = json.loads(told) if told else {"path": [], "environment": {}}
    return given


def storage_client(environ: Mapping[str, str]) -> Any:
    """Return a client of Cloud Storage: with no credentials where there are none.

    On the client's machine, where a run's own packages may have no such library, it is the
    client's: nothing of the project is imported in this process.

    Raises:
        Fault: There is no library.
    """
    given = clients(environ)
    os.environ.update(given["environment"])
    sys.path.extend(path for path in given["path"] if path not in sys.path)
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage
    except ImportError as error:
        message = f"the image lacks google-cloud-storage, which data of gs:// needs: {error}"
        raise Fault(EXIT_RUNTIME_UNFIT, message) from error
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return storage.Client(project="emulator", credentials=AnonymousCredentials())
    try:
        return storage.Client()
    except DefaultCredentialsError:
        return storage.Client.create_anonymous_client()
