"""The output directory of a run whose arguments nobody knew when its job was written.

It is filled in as a client does that knows them: `kinetic_flows/core/output_dirs.py`, with which
`tests/unit/test_output_dirs.py` holds this together.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from .contract import EXIT_PARAMETERS_UNAVAILABLE, Fault

HASH_FIELD = "arguments_hash"
HASH_CHARACTERS = 16
PART_BYTES = 80

_FIELD = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(r"[^\w.+=@,-]+")


def exact_directory(directory: str, arguments: Mapping[str, Any]) -> str:
    """Return a directory with its fields replaced.

    Args:
        directory: The directory or `gs://` URI.
        arguments: JSON values by name: the run's parameters, and the defaults of others.

    Raises:
        Fault: An argument is not there, or is no text, number or truth value.
    """

    def replaced(field: re.Match[str]) -> str:
        name = field[1]
        if name == HASH_FIELD and name not in arguments:
            return arguments_hash(arguments)
        part = path_part(arguments[name]) if name in arguments else None
        if part is None:
            shown = "is not there" if name not in arguments else f"is {arguments[name]!r:.100}"
            message = f"the output directory is {directory}, and {name} {shown}"
            raise Fault(EXIT_PARAMETERS_UNAVAILABLE, message)
        return part

    return _FIELD.sub(replaced, directory)


def has_fields(directory: str) -> bool:
    """Whether a directory has something in braces."""
    return bool(_FIELD.search(directory))


def arguments_hash(arguments: Mapping[str, Any]) -> str:
    """Return the digest of JSON values by name."""
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARACTERS]


def path_part(value: Any) -> str | None:
    """Return a JSON value as one part of a path; None for lists and mappings."""
    if isinstance(value, bool | float | int) or value is None:
        return repr(value)
    if not isinstance(value, str):
        return None
    part = _UNSAFE.sub("-", value)
    part = "_" + part[1:] if part.startswith(".") else part
    part = part.encode()[:PART_BYTES].decode(errors="ignore")
    if part and part == value:
        return part
    return f"{part}-{hashlib.sha256(value.encode(errors='replace')).hexdigest()[:8]}"
