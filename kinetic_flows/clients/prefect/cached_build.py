"""The record that Prefect keeps of a build, read without trusting whoever wrote it. Pure."""

from __future__ import annotations

import json
from typing import Any

PLAIN_JSON = {"type": "json", "object_encoder": None, "object_decoder": None}
"""Prefect's JSON serializer without the hook that makes objects of what it reads."""

_KEPT = ("storage_key", "expiration", "prefect_version", "storage_block_id")


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
