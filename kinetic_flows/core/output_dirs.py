"""`output_dir=`: the directory of a run's outputs, as it is written, checked and filled in.

`runner_image/runner/output_dirs.py` fills it in the same way for runs of deployments, whose
arguments nobody knows before; `tests/unit/test_output_dirs.py` holds the two together.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from kinetic_flows.core import option_values as check

FUNCTION_FIELD, NAME_FIELD, HASH_FIELD = "function", "name", "arguments_hash"

OWN_FIELDS = (FUNCTION_FIELD, NAME_FIELD, HASH_FIELD)
"""Fields that are no argument's name; an argument of such a name comes before them."""

HASH_CHARACTERS = 16
PART_BYTES = 80
"""How long the text of an argument may be as a part of a path."""

_FIELD = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(r"[^\w.+=@,-]+")
_WHERE = "give a name, a path or a gs:// URI"


def check_output_dir(name: str, value: Any) -> str:
    """Check the option `output_dir`.

    Args:
        name: What the option is called.
        value: A name, a path or a `gs://` URI, with fields in braces or not; a path of `pathlib`
            is one of this machine, whatever it looks like.

    Raises:
        UsageError: It cannot be.
    """
    if isinstance(value, PurePath):
        value = str(value) if value.is_absolute() or str(value).startswith("~") else f"./{value}"
    given = check.text(name, value, _WHERE).strip()
    for field in fields_of(given):
        if not field.isidentifier():
            hint = f"a field is a name in braces: {{{'}, {'.join(OWN_FIELDS)}}}, or an argument's"
            check.refuse(name, value, hint)
    if set("{}") & set(_FIELD.sub("", given)):
        check.refuse(name, value, "close every brace; a directory has none in its name")
    scheme, separator, place = given.rpartition("://")
    if separator and (scheme != "gs" or not re.fullmatch(r"[a-z0-9][a-z0-9._-]+(/.*)?", place)):
        check.refuse(name, value, f"{_WHERE}: gs://bucket/directory")
    if re.search(r"[\x00-\x1f\x7f]", given) or ".." in place.split("/"):
        check.refuse(name, value, f"{_WHERE}, without ..")
    path = re.sub(r"(?<=.)/+", "/", place).rstrip("/")
    if not path:
        check.refuse(name, value, f"{_WHERE}, not the root of everything")
    return f"{scheme}{separator}{path}"


def fields_of(template: str) -> tuple[str, ...]:
    """Return what stands in braces in a directory, each once."""
    return tuple(dict.fromkeys(_FIELD.findall(template)))


def filled(template: str, value_of: Callable[[str], str | None]) -> str:
    """Return a directory with its fields replaced.

    Args:
        template: The directory.
        value_of: Returns what takes a field's place; None for what is known later only.
    """

    def replaced(field: re.Match[str]) -> str:
        value = value_of(field[1])
        return field[0] if value is None else value

    return _FIELD.sub(replaced, template)


def path_part(value: Any) -> str | None:
    """Return a value as one part of a path; None for what is no plain value.

    Values that differ have parts that differ: what had to be changed or cut has a digest at its
    end.
    """
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if not isinstance(value, str):
        return None
    text = str.__str__(value)
    part = _UNSAFE.sub("-", text)
    part = "_" + part[1:] if part.startswith(".") else part
    part = part.encode()[:PART_BYTES].decode(errors="ignore")
    if part and part == text:
        return part
    return f"{part}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def plain_arguments_hash(arguments: Mapping[str, Any]) -> str:
    """Return the digest of arguments that are plain JSON, tuples being lists.

    Args:
        arguments: All arguments by name, those that have their defaults among them.

    Raises:
        TypeError: One of them is not plain.
    """
    require_plain(arguments)
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARACTERS]


def require_plain(value: Any) -> None:
    """Refuse a value that JSON does not have; subclasses are more than what they are to JSON.

    Raises:
        TypeError: It is, or has, such a value.
    """
    if type(value) is dict:
        parts: Iterable[Any] = [*value, *value.values()]
        if not all(type(key) is str for key in value):
            raise TypeError("a key that is no text")
    elif type(value) in (list, tuple):
        parts = value
    elif value is None or type(value) in (str, int, float, bool):
        return
    else:
        raise TypeError(f"a {type(value).__name__}")
    for part in parts:
        require_plain(part)
