"""Where the data of a call comes from: everything about it fixed, and brought to the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import PackagingError
from kinetic_flows.core.job_parts import DataSpec


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What resolving data depends on besides the data.

    Attributes:
        home: `KINETIC_HOME`, for what is known of files from before.
        environ: This process's variables: those of the hub, for one.
        store: Where local data is brought to, for runs that do not see this machine's files.
        sees_files: Whether runs see this machine's files.
        is_compared: Whether the result of a run may be another's, so that the identity of all data
            has to be known, that of what is used where it is, too.
    """

    home: Path
    environ: Mapping[str, str] = field(repr=False)
    store: ArtifactStore
    sees_files: bool
    is_compared: bool = False


class DataSources:
    """Resolves the data of a function's calls, each once. Safe to use from any thread.

    Args:
        around: What that depends on.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._specs: dict[Data, DataSpec] = {}
        self._locks: dict[Data, threading.Lock] = {}
        self._lock = threading.Lock()

    def check(self, data: Iterable[Data]) -> None:
        """Refuse what is plainly not there; nobody is asked.

        Raises:
            PackagingError: Something of it is no file or directory of this machine.
        """
        for each in data:
            if each.kind == "local":
                check_local(each)

    def spec(self, data: Data) -> DataSpec:
        """Return what a job says of data, everything about it fixed.

        Raises:
            KineticError: It is not there, or cannot be read.
        """
        return self._once(data, self._resolve)

    def _once(self, data: Data, resolve: Callable[[Data], DataSpec]) -> DataSpec:
        with self._lock:
            lock = self._locks.setdefault(data, threading.Lock())
        with lock:
            if data not in self._specs:
                self._specs[data] = resolve(data)
            return self._specs[data]

    def _resolve(self, data: Data) -> DataSpec:
        self.check([data])
        return in_place(data)


def check_local(data: Data) -> None:
    """Refuse a source that is no file or directory of this machine.

    Raises:
        PackagingError: It is none.
    """
    path = Path(data.source)
    if path.is_file() or path.is_dir():
        return
    what = "is neither a file nor a directory" if path.exists() else "does not exist"
    raise PackagingError(
        f"{data!r}: {data.source} {what}",
        value=data.source,
        hint="give the path of a file or directory of this machine, or gs://, hf:// or https://",
    )


def in_place(data: Data) -> DataSpec:
    """Return what a job says of a file or directory that its run sees: nothing is read."""
    return DataSpec(
        kind="local",
        identity="",
        source=data.source,
        name=data.name,
        is_file=Path(data.source).is_file(),
        in_memory=data.in_memory,
        include=data.include,
        exclude=data.exclude,
        path=data.source,
    )
