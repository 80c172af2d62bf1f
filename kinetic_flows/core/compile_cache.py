"""Compiled programs in the store: the key that they are signed with, and when they expire.

A program's object is called `{prefix}{host}/{name}`, with the prefix of the job's
`CompileCacheSpec` and the name that jax gives it. Runners alone read and write them
(`runner_image/runner/compile_entries.py` says how they are signed).
"""

from __future__ import annotations

import hmac

from kinetic_flows.core.job import sha256_hex

KEY_PURPOSE = b"kinetic compile cache 1"
"""What the key of entries is derived for from that of the store."""

DEFAULT_MAX_BYTES = 10 << 30
"""How large the programs of one environment and accelerator may be, of all its hosts together."""

EXPIRE_AFTER_DAYS = 30
"""After how long a program expires that no run has used."""


def entries_key(store_key: bytes) -> str:
    """Return the key that entries are signed with, in hexadecimal.

    Who has it cannot tell the store's own from it, so runs may have it.

    Args:
        store_key: The key of the users who may launch runs, or this machine's.
    """
    return hmac.digest(store_key, KEY_PURPOSE, "sha256").hex()


def entries_block(key: str, store_uri: str) -> str:
    """Name of the Prefect block that has the key, for runs that a worker starts.

    Args:
        key: The key: those of other machines have blocks of their own.
        store_uri: Where the entries are.
    """
    return f"kinetic-compile-cache-{sha256_hex(f'{store_uri} {key}'.encode())[:32]}"
