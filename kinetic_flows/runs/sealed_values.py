"""Sealing values for runs: where what is sealed lies, and how its key comes to their processes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.secret_blocks import SecretBlocks
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job import SEAL_BLOCK_VARIABLE, SEAL_KEY_VARIABLE
from kinetic_flows.core.object_names import sealed_object
from kinetic_flows.core.sealing import new_seal_key, seal_values
from kinetic_flows.platforms.base import Platform

BLOCK_PREFIX = "kinetic-seal"
"""What the names of Prefect's blocks begin with that hold keys."""


def seal_for_process(
    values: Mapping[str, str], payload_name: str, store: ArtifactStore
) -> dict[str, str]:
    """Seal values for one run that is launched from here.

    Args:
        values: Its secret variables; nothing is done for none.
        payload_name: Name of its pickled call.
        store: Where its objects are.

    Returns:
        The variable that opens them, which is handed to the run's process alone.
    """
    if not values:
        return {}
    key = new_seal_key()
    store.put_if_absent(sealed_object(payload_name), seal_values(values, key))
    return {SEAL_KEY_VARIABLE: key}


def seal_for_worker(
    values: Mapping[str, str], payload_name: str, store: ArtifactStore, api: PrefectApi
) -> dict[str, str]:
    """Seal values for runs that a Prefect worker starts; again does nothing more.

    What such a run is started with stands in Prefect's database, so its key is in a Secret block,
    which Prefect encrypts, and what is sealed is in the store: neither alone tells anything.

    Args:
        values: Their secret variables; nothing is done for none.
        payload_name: Name of their pickled call.
        store: Where their objects are.
        api: Where they report.

    Returns:
        The variable that names the block.
    """
    if not values:
        return {}
    name = sealed_object(payload_name)
    block = seal_block(name, store.uri)
    # The block first: of two clients at once both seal with the one key that was kept.
    made = new_seal_key()
    key = SecretBlocks(api).keep(block, made)
    if key == made:
        # Somebody may have deleted the key of what is there.
        store.delete(name)
    store.put_if_absent(name, seal_values(values, key))
    return {SEAL_BLOCK_VARIABLE: block}


def forget_seals(object_names: Iterable[str], store_uri: str, api: PrefectApi) -> None:
    """Delete the keys of sealed objects that were removed.

    Args:
        object_names: Names of objects, sealed ones and others.
        store_uri: Where they were.
        api: Where the keys are.
    """
    sealed = [name for name in object_names if name.endswith(sealed_object(""))]
    if sealed:
        SecretBlocks(api).delete(seal_block(name, store_uri) for name in sealed)


def seal_block(object_name: str, store_uri: str) -> str:
    """Name of the block with the key of a sealed object."""
    digest = hashlib.sha256(f"{store_uri}/{object_name}".encode()).hexdigest()
    return f"{BLOCK_PREFIX}-{digest[:32]}"


def identity_key(platform: Platform, home: Path) -> bytes:
    """Return the key with which values are told from others where nobody is to read them.

    That is the key of those who may launch runs on the cluster; where this user does not know it,
    and on this machine, one that this machine alone has.

    Args:
        platform: Where runs are.
        home: `KINETIC_HOME`, which keeps such a key.
    """
    key = platform.store_trust().key
    if key is not None:
        return key
    path = home / "keys" / "values"
    try:
        return bytes.fromhex(path.read_text())
    except (FileNotFoundError, ValueError):
        write_atomically(path, secrets.token_bytes(32).hex().encode())
        return bytes.fromhex(path.read_text())
