"""The key that signs what the users who may launch runs write to the bucket.

A user who can write to the bucket could otherwise put packages into everyone's images by a lock of
their own. The key is a Secret block of the Prefect API that the team shares: who can read blocks
there can launch runs anyway. It is read once for each machine.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from pathlib import Path
from typing import Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.clients.prefect.sdk import httpx, pydantic
from kinetic_flows.core.files import write_atomically

REFUSED_SECONDS = 600.0
"""For how long a process does not ask again for a key that this user may not read."""

_REFUSALS = (401, 403)
_refused_until: dict[Path, float] = {}

logger = logging.getLogger(__name__)


def load_store_key(bucket: str, api_url: str, home: Path) -> bytes | None:
    """Return the key of a bucket's writers, made and saved if there is none.

    Args:
        bucket: The bucket.
        api_url: The Prefect API that the team shares.
        home: Where the key is kept for the next time, readable by this user alone.

    Returns:
        The key; None when this user may not read blocks, or Prefect does not answer: then what
        others wrote is not believed.
    """
    path = home / "keys" / hashlib.sha256(f"{api_url} {bucket}".encode()).hexdigest()[:32]
    try:
        return bytes.fromhex(path.read_text())
    except (FileNotFoundError, ValueError):
        pass
    if time.monotonic() < _refused_until.get(path, 0.0):
        return None
    try:
        key = _from_prefect(store_key_block(bucket), api_url)
    except PermissionError:
        _refused_until[path] = time.monotonic() + REFUSED_SECONDS
        return None
    if key is not None:
        write_atomically(path, key.hex().encode())
    return key


def _from_prefect(name: str, api_url: str) -> bytes | None:
    """Return the key; None where there is no answer, or none that is a key.

    Raises:
        PermissionError: This user may not read blocks.
    """
    try:
        with connect(api_url):
            try:
                return _load(name)
            except ValueError:  # it is not saved yet
                pass
            try:
                return _save(name)
            except (sdk.exceptions.ObjectAlreadyExists, ValueError):  # another client was faster
                return _load(name)
    except (httpx.HTTPError, RuntimeError, ValueError) as error:
        logger.info("stored locks are not believed: block %s cannot be read: %s", name, error)
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _REFUSALS:
            raise PermissionError(name) from error
        return None


def _load(name: str) -> bytes:
    block_class: Any = sdk.system_blocks.Secret
    block = block_class.load(name, _sync=True)
    return bytes.fromhex(str(block.get()))


def _save(name: str) -> bytes:
    key = secrets.token_bytes(32)
    block: Any = sdk.system_blocks.Secret(value=pydantic.SecretStr(key.hex()))
    block.save(name, _sync=True)
    return key


def store_key_block(bucket: str) -> str:
    """Name of the Prefect block with the key of a bucket."""
    return f"kinetic-store-key-{hashlib.sha256(bucket.encode()).hexdigest()[:12]}"
