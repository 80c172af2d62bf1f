"""How the key of compiled programs comes to the processes of runs that keep them.

Compiled programs are code. A run believes those that are signed with a key which users who may
launch runs have, as their own processes do; on this machine the user alone has one. Where this
user does not know the key, a run has no programs of others, and nobody has its own.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from kinetic_flows.clients.prefect.secret_blocks import SecretBlocks
from kinetic_flows.core.compile_cache import entries_block, entries_key
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.files import exclusive_lock, write_atomically
from kinetic_flows.core.job import (
    COMPILE_CACHE_BLOCK_VARIABLE,
    COMPILE_CACHE_KEY_VARIABLE,
    JobTemplate,
)
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.session import Session

BELIEVED_SECONDS = 24 * 60 * 60.0
"""For how long it is taken for granted that a block is there which was."""

logger = logging.getLogger(__name__)


def key_for_process(template: JobTemplate, platform: Platform, home: Path) -> dict[str, str]:
    """Return the variable with the key of compiled programs, for a run that is launched from here.

    Args:
        template: Its job.
        platform: Where it runs.
        home: `KINETIC_HOME`.

    Returns:
        Nothing for runs that keep none, and where this user does not know the key.
    """
    key = _key(platform, home) if template.compile_cache else None
    return {COMPILE_CACHE_KEY_VARIABLE: key} if key else {}


def key_for_worker(templates: Iterable[JobTemplate], session: Session) -> dict[str, str]:
    """Return the variable with the block that has the key, for runs that a worker starts.

    What such runs are started with stands in Prefect's database, whose blocks are encrypted.

    Args:
        templates: Their jobs; one that keeps compiled programs is enough.
        session: Where they run and report.

    Returns:
        Nothing for runs that keep none, and where this user does not know the key, or may save no
        block.
    """
    if not any(template.compile_cache for template in templates):
        return {}
    platform, home = session.platform, session.settings.home
    key = _key(platform, home)
    if key is None:
        return {}
    block = entries_block(key, platform.store.uri)
    if not _is_known(home / "keys" / block):
        try:
            kept = SecretBlocks(session.api).keep(block, key)
        except KineticError as error:
            logger.debug("compiled programs are not kept: no block %s: %s", block, error)
            return {}
        if kept != key:
            logger.debug("compiled programs are not kept: block %s holds another key", block)
            return {}
        write_atomically(home / "keys" / block, b"")
    return {COMPILE_CACHE_BLOCK_VARIABLE: block}


def _key(platform: Platform, home: Path) -> str | None:
    trust = platform.store_trust()
    if trust.key is not None:
        return entries_key(trust.key)
    if trust.is_private:
        return entries_key(_own_key(home / "keys" / "compile-cache"))
    logger.debug("compiled programs are not kept: this user does not know the key of the store")
    return None


def _own_key(path: Path) -> bytes:
    """Return the key that this machine alone has, made when it is asked for first."""
    try:
        return bytes.fromhex(path.read_text())
    except (FileNotFoundError, ValueError):
        pass
    # Of two runs at once both sign with the one key.
    with exclusive_lock(path.with_suffix(".lock")):
        try:
            return bytes.fromhex(path.read_text())
        except (FileNotFoundError, ValueError):
            key = secrets.token_bytes(32)
            write_atomically(path, key.hex().encode())
            return key


def _is_known(mark: Path) -> bool:
    """Whether a block was there lately, which somebody may have deleted since."""
    try:
        return 0 <= time.time() - mark.stat().st_mtime < BELIEVED_SECONDS
    except FileNotFoundError:
        return False
