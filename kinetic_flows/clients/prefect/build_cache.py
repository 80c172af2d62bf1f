"""The storage of Prefect's results of image builds, which a team shares.

Prefect takes a place for results only as a saved block. The block's class is found through an
entry point: this library imports none of its own blocks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.sdk import httpx
from kinetic_flows.core import object_names
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.slug import slug

if TYPE_CHECKING:
    from prefect.filesystems import WritableFileSystem

    from kinetic_flows.core.settings.cloud import CloudSettings

logger = logging.getLogger(__name__)

CACHE_PREFIX = "kinetic-"
"""What every key begins with under which Prefect caches something of ours."""

ENTRY_POINT_GROUP = "kinetic_flows.blocks"
ENTRY_POINT = "build_cache"

_saved: dict[tuple[str, str], WritableFileSystem] = {}
_lock = threading.Lock()


PLAIN_JSON = {"type": "json", "object_encoder": None, "object_decoder": None}
"""Prefect's JSON serializer without the hook that makes objects of what it reads."""

_KEPT = ("storage_key", "expiration", "prefect_version", "storage_block_id")


def shared_build_cache(cloud: CloudSettings, api_url: str) -> WritableFileSystem | None:
    """Return the saved block of a cluster's build cache, saving it if it is not saved yet.

    Args:
        cloud: The settings of Google Cloud; the cache is in its jobs bucket.
        api_url: The Prefect API that blocks are saved in, which is the current one.

    Returns:
        The block; None when this user may not save blocks, or Prefect does not answer: then
        there is no shared cache, and the registry alone knows what is built.
    """
    fields = _fields(cloud)
    name = build_cache_block(cloud.jobs_bucket, _fingerprint(cloud))
    with _lock:
        if (api_url, name) not in _saved:
            block = _load_or_save(name, fields)
            if block is None:
                return None
            _saved[api_url, name] = block
        return _saved[api_url, name]


def _load_or_save(name: str, fields: dict[str, Any]) -> WritableFileSystem | None:
    block_class = _block_class()
    try:
        try:
            return _load(block_class, name)
        except ValueError:  # it is not saved yet
            block: WritableFileSystem = block_class(**fields)
        try:
            block.save(name, _sync=True)  # type: ignore[call-arg]
        except (sdk.exceptions.ObjectAlreadyExists, ValueError):  # another client was faster
            return _load(block_class, name)
    except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: saved by another version
        logger.warning("builds are not cached for others: block %s is not saved: %s", name, error)
        return None
    return block


def _load(block_class: Any, name: str) -> WritableFileSystem:
    block: WritableFileSystem = block_class.load(name, _sync=True)
    return block


def _block_class() -> Any:
    found = next(iter(entry_points(group=ENTRY_POINT_GROUP, name=ENTRY_POINT)), None)
    if found is None:
        raise ConfigurationError(
            "the Prefect blocks of kinetic-flows are not installed",
            value=ENTRY_POINT,
            hint="install the package itself (pip install kinetic-flows) besides its files",
        )
    return found.load()


def _fields(cloud: CloudSettings) -> dict[str, Any]:
    return {
        "bucket": cloud.jobs_bucket,
        "prefix": object_names.BUILD_RESULTS,
        "project": cloud.project,
        "endpoint": cloud.storage_endpoint,
        "profile": cloud.credentials.profile if cloud.credentials else None,
    }


def _fingerprint(cloud: CloudSettings) -> str:
    """Tell apart blocks that reach one bucket by other ways: endpoints and credentials."""
    profile = cloud.credentials.profile if cloud.credentials else None
    ways = json.dumps([cloud.project, cloud.storage_endpoint, profile])
    return hashlib.sha256(ways.encode()).hexdigest()


def build_cache_key(reference: str, dependency_hash: str) -> str:
    """Key under which Prefect caches a build: what is in the image, and where it goes."""
    return f"{CACHE_PREFIX}build-{slug(reference)}-{dependency_hash}"


def upload_cache_key(store_uri: str, dependency_hash: str, *, all_wheels: bool) -> str:
    """Key under which Prefect caches an upload: what is installed, from where, and how much."""
    wheels = "all-wheels" if all_wheels else "own-wheels"
    return f"{CACHE_PREFIX}dependencies-{slug(store_uri)}-{dependency_hash}-{wheels}"


def build_cache_block(bucket: str, fingerprint: str) -> str:
    """Name of the saved block of a bucket's build cache, reached in a certain way."""
    return f"kinetic-{slug(bucket)}-{fingerprint[:8]}"


def plain_record(content: bytes) -> bytes:
    """Return a result record whose value is plain JSON and is read as nothing else.

    A record says itself how it is to be read (`prefect.results.ResultRecord`), by unpickling
    for instance, so one that comes out of a bucket says no such thing any more.

    Args:
        content: The record as it was stored.

    Raises:
        ValueError: Its value is not JSON.
    """
    record: Any = json.loads(content)
    try:
        metadata, result = record["metadata"], record["result"]
        value = json.loads(result)
        kept = {name: metadata[name] for name in _KEPT if name in metadata}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("this is no record of a result") from error
    plain = {"metadata": {**kept, "serializer": PLAIN_JSON}, "result": json.dumps(value)}
    return json.dumps(plain).encode()
