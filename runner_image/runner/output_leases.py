"""Having this run alone write to its output directory, where that is named.

The client's side is `kinetic_flows/runs/output_lease.py`, which takes the lease of what it
launches. Here it is taken for runs that nobody launches, and looked at at every start: a run that
was taken for dead may have lost its directory to another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, NamedTuple

from .contract import EXIT_OUTPUT_DIR_UNAVAILABLE, Fault, result_object
from .prefect_api import TIMEOUT_SECONDS, ApiError, PrefectApi
from .stores import BucketStore, DirectoryStore

LOOK_SECONDS = 5.0
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Lease(NamedTuple):
    """A directory that one run at a time writes to.

    Attributes:
        directory: The directory or `gs://` URI.
        waits: Whether to wait for another run's end.
        store: Where it is kept who writes there.
        api: Prefect, which knows how runs are; None where nobody asks it.
        job: The job of the run that wants it.
    """

    directory: str
    waits: bool
    store: DirectoryStore | BucketStore
    api: PrefectApi | None
    job: Mapping[str, Any]


def lease_object(directory: str) -> str:
    """Name of the object that says which run writes to a directory or `gs://` URI."""
    return f"leases/outputs/{hashlib.sha256(directory.encode()).hexdigest()}.json"


def take(lease: Lease, host: int, say: Callable[[str], None]) -> None:
    """Have a run alone write to its directory; the other hosts of a slice await the first.

    Args:
        lease: What is taken.
        host: Number of this host.
        say: Called with a line to print, once for each run that is waited for.

    Raises:
        Fault: Another run writes there, and is not to be waited for.
    """
    told = None
    while True:
        writer = _awaited(lease) if host else _other_writer(lease)
        if writer is None:
            return
        message = f"run {writer} writes to {lease.directory}, and has not ended"
        if not host and not lease.waits:
            told = f"{message} (so says {lease_object(lease.directory)} in the store)"
            raise Fault(EXIT_OUTPUT_DIR_UNAVAILABLE, told)
        if writer != told and not host:
            told = writer
            say(f"{message}: waiting for it")
        time.sleep(LOOK_SECONDS)


def _awaited(lease: Lease) -> str | None:
    """Return who has the directory while this run has not; empty for nobody."""
    holder, _ = _holder(lease.store.read(lease_object(lease.directory)))
    return None if holder == lease.job["run_id"] else holder


def _other_writer(lease: Lease) -> str | None:
    """Take the directory, or return which other run has it."""
    name = lease_object(lease.directory)
    while True:
        found, generation = lease.store.read_generation(name)
        holder, api_url = _holder(found)
        if holder == lease.job["run_id"]:
            return None
        if holder and not _is_over(holder, api_url, lease):
            return holder
        if lease.store.replace(name, _document(lease), generation):
            return None


def _is_over(run_id: str, api_url: str, lease: Lease) -> bool:
    if lease.store.read(result_object(run_id)) is not None:
        return True
    if lease.api is None:
        return False
    try:
        state = lease.api.state_of(run_id, TIMEOUT_SECONDS)
    except ApiError:
        return False
    if state:
        return state in FINAL
    # It was deleted there, unless another API is the one that knows it.
    return api_url in ("", _api_url(lease))


def _holder(data: bytes | None) -> tuple[str, str]:
    """Return which run a lease names, and the Prefect API that knows it.

    Nobody has a directory without a lease, or with a damaged one.
    """
    from uuid import UUID

    try:
        found = json.loads(data or b"null")
        return str(UUID(found["run_id"])), str(found.get("api_url", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", ""


def _api_url(lease: Lease) -> str:
    return str((lease.job["prefect"] or {}).get("api_url", ""))


def _document(lease: Lease) -> bytes:
    from datetime import datetime

    return json.dumps(
        {
            "run_id": lease.job["run_id"],
            "name": lease.job["name"],
            "directory": lease.directory,
            "dispatch": "worker",
            "api_url": _api_url(lease),
            "host": os.uname().nodename,
            "taken": datetime.now(UTC).isoformat(),
        }
    ).encode()
