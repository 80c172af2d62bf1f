"""Where the data of a call comes from: everything about it fixed, and brought to the store.

What asks and reads is imported when there is data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.code.data.listening import Listener, Unheard
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import PackagingError
from kinetic_flows.core.job_parts import DataSpec

if TYPE_CHECKING:
    from kinetic_flows.code.data.scan import Scan

_UNHEARD = Unheard()


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What resolving data depends on besides the data.

    Attributes:
        home: `KINETIC_HOME`, for what is known of files from before.
        environ: This process's variables: those of the hub, for one.
        store: Where local data is brought to, for runs that do not see this machine's files.
        open_bucket: Opens a bucket of Cloud Storage by its name.
        sees_files: Whether runs see this machine's files.
        is_compared: Whether the result of a run may be another's, so that the identity of all data
            has to be known, that of what is used where it is, and what is mounted, too.
        is_pinned: Whether runs have to find in buckets what is there now; those of deployments
            take what is there when they start.
        run_has_token: Whether runs are given a token for the hub.
    """

    home: Path
    environ: Mapping[str, str] = field(repr=False)
    store: ArtifactStore
    open_bucket: Callable[[str], ArtifactStore]
    sees_files: bool
    is_compared: bool = False
    is_pinned: bool = True
    run_has_token: bool = False


class DataSources:
    """Resolves the data of a function's calls, each once. Safe to use from any thread.

    Args:
        around: What that depends on.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._lock = threading.Lock()
        self._locks: dict[Data, threading.RLock] = {}
        self._specs: dict[Data, DataSpec] = {}
        self._scans: dict[Data, Scan] = {}
        self._sent: dict[Data, int] = {}
        self._warnings: dict[Data, tuple[str, ...]] = {}

    def of_deployment(self) -> DataSources:
        """Return sources for runs of a deployment, which start long after it was made."""
        return DataSources(replace(self._around, is_pinned=False))

    def check(self, data: Iterable[Data]) -> None:
        """Refuse what is plainly not there; nobody is asked.

        Raises:
            PackagingError: Something of it is no file or directory of this machine.
        """
        for each in data:
            if each.kind == "local":
                _check_local(each)

    def is_read(self, data: Data) -> bool:
        """Whether this machine reads all of some data, which may take long."""
        return data.kind == "local" and (not self._around.sees_files or self._around.is_compared)

    def is_sent(self, data: Data) -> bool:
        """Whether some data is brought to the store."""
        return data.kind == "local" and not self._around.sees_files

    def spec(self, data: Data, listener: Listener = _UNHEARD) -> DataSpec:
        """Return what a job says of data, everything about it fixed.

        Args:
            data: The data.
            listener: Told how far it is.

        Raises:
            KineticError: It is not there, or cannot be read.
        """
        with self._held(data):
            if data not in self._specs:
                self._specs[data] = self._resolve(data, listener)
            return self._specs[data]

    def ready(self, data: Data, listener: Listener = _UNHEARD) -> DataSpec:
        """Return what a job says of data that runs can get: it is in the store, if it has to be.

        Where files changed since `spec` was asked, it is what they are now.

        Args:
            data: The data.
            listener: Told how far it is.

        Raises:
            KineticError: It is not there, cannot be read, or the store refuses it.
        """
        with self._held(data):
            spec = self.spec(data, listener)
            if self.is_sent(data) and data not in self._sent:
                spec = self._send(data, listener)
            return spec

    def sent_bytes(self, data: Data) -> int:
        """Return how much of some data was sent by this client."""
        return self._sent.get(data, 0)

    def unsent_bytes(self, data: Data) -> int:
        """Return how much of some data the store does not have.

        Raises:
            KineticError: It cannot be read, or the store does not answer.
        """
        if not self.is_sent(data):
            return 0
        from kinetic_flows.code.data.upload import unsent_bytes

        with self._held(data):
            self.spec(data)
            return unsent_bytes(self._scans[data], self._around.store)

    def warnings(self, data: Data) -> tuple[str, ...]:
        """Return what the person should know of data that was resolved; each only once."""
        return self._warnings.pop(data, ())

    def _held(self, data: Data) -> threading.RLock:
        with self._lock:
            return self._locks.setdefault(data, threading.RLock())

    def _resolve(self, data: Data, listener: Listener) -> DataSpec:
        if data.kind != "local":
            return self._resolve_elsewhere(data)
        _check_local(data)
        if not self.is_read(data):
            _require_any(data)
            return _in_place(data)
        from kinetic_flows.code.data.scan import scan

        return self._take(scan(data, self._around.home, listener=listener))

    def _resolve_elsewhere(self, data: Data) -> DataSpec:
        from kinetic_flows.clients.hub import HubClient
        from kinetic_flows.code.data import elsewhere

        around = self._around
        if data.kind == "bucket":
            is_pinned = around.is_pinned and (data.mode == "copy" or around.is_compared)
            found = elsewhere.resolve_bucket(data, around.open_bucket, is_pinned=is_pinned)
        elif data.kind == "hub":
            hub = HubClient.of(around.environ)
            # On this machine, a run asks as its client does.
            has_token = around.run_has_token or (around.sees_files and hub.has_token)
            found = elsewhere.resolve_hub(data, hub, run_has_token=has_token)
        else:
            found = elsewhere.resolve_web(data)
        self._warnings[data] = found.warnings
        return found.spec

    def _send(self, data: Data, listener: Listener) -> DataSpec:
        from kinetic_flows.code.data.upload import upload

        done = upload(self._scans[data], self._around.store, self._around.home, listener)
        self._sent[data] = done.sent_bytes
        self._specs[data] = self._take(done.scan)
        return self._specs[data]

    def _take(self, scan: Scan) -> DataSpec:
        """Note what local data is, and return what a job says of it."""
        data, manifest = scan.data, scan.manifest
        if scan is not self._scans.get(data):
            self._warnings[data] = scan.warnings
        self._scans[data] = scan
        is_sent = self.is_sent(data)
        return replace(
            _in_place(data),
            identity=manifest.identity,
            files=manifest.files,
            size_bytes=manifest.size_bytes,
            manifest=manifest.ref if is_sent else None,
            path=None if is_sent else data.source,
        )


def _check_local(data: Data) -> None:
    """Refuse a source that is no file or directory of this machine.

    Raises:
        PackagingError: It is none.
    """
    path = Path(data.source)
    if path.is_file() or path.is_dir():
        return
    what = "is neither a file nor a directory" if path.exists() else "does not exist"
    raise PackagingError(
        f"{data!r} {what}",
        value=data.source,
        hint="give the path of a file or directory of this machine, or gs://, hf:// or https://",
    )


def _require_any(data: Data) -> None:
    """Refuse patterns that no file matches.

    Raises:
        PackagingError: It is a directory with some, and none does.
    """
    if data.include is None and not data.exclude:
        return
    from kinetic_flows.code.data.walk import Walk

    if next((found for found in Walk(data) if found.kind == "file"), None) is None:
        raise PackagingError(
            f"{data!r}: no file in it matches include and exclude",
            value=data.source,
            hint="look at the path, and at the patterns",
        )


def _in_place(data: Data) -> DataSpec:
    """Return what a job says of a file or directory that its run sees: nothing is read."""
    return DataSpec(
        kind="local",
        identity="",
        source=data.shown_source,
        name=data.name,
        is_file=Path(data.source).is_file(),
        in_memory=data.in_memory,
        include=data.include,
        exclude=data.exclude,
        path=data.source,
    )
