"""Compiled programs in the store: what an entry is, and the key that entries are signed with.

An entry is a line with `ENTRY_MAGIC`, a line with the HMAC-SHA256 of everything behind it in
hexadecimal, a line with its header as canonical JSON (the fields of `EntryHeader`), and then what
jax has written. Its object is called `{prefix}{host}/{name}`. The runner reads and writes entries
(`runner_image/runner/compile_cache.py`); its function's process has the key's derivative alone.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from kinetic_flows.core.job import sha256_hex

ENTRY_MAGIC = b"kinetic-compiled-1\n"
"""First line of an entry."""

KEY_PURPOSE = b"kinetic compile cache 1"
"""What the key of entries is derived for from that of the store."""

DEFAULT_MAX_BYTES = 10 << 30
"""How large the programs of one environment and accelerator may be, of all its hosts together."""

EXPIRE_AFTER_DAYS = 30
"""After how long a program expires that no run has used."""

WRITTEN_ANEW_AFTER_SECONDS = 24 * 60 * 60.0
"""From which age on a program's object is written anew by a run that uses it, so that it stays."""


@dataclass(frozen=True, kw_only=True)
class EntryHeader:
    """What an entry says of the program in it.

    Attributes:
        name: Name of its file in jax's directory.
        prefix_and_host: What the names of its host's entries begin with, with a slash at its end,
            so that nobody can have one read in another's place.
        size_bytes: Size of the file.
        compile_seconds: How long its compilation took; None where jax has not said.
        made_at: When, in seconds since 1970.
    """

    name: str
    prefix_and_host: str
    size_bytes: int
    compile_seconds: float | None
    made_at: float


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
