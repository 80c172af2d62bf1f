"""Parameters of a deployment as they stand on the command line, typed by its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kinetic_flows.core.errors import UsageError, suggest

ANY = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})


def read_parameters(
    given: Sequence[str], schema: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return parameters that were given as `name=value`.

    Args:
        given: The texts, such as `rate=0.1`. A value is JSON, or a text where the schema has one.
        schema: The JSON schema of all parameters.
        own: The deployment's own parameters, which need not be given.

    Raises:
        UsageError: One has no value, is none of the deployment's, is of another type, or lacks.
    """
    known: Mapping[str, Any] = schema.get("properties") or {}
    parameters: dict[str, Any] = {}
    for text in given:
        name, is_given, value = text.partition("=")
        if not is_given or not name:
            raise UsageError(
                f"--param is {text!r}", value=text, hint="write NAME=VALUE, such as -p rate=0.1"
            )
        if name not in known:
            raise UsageError(
                f"the deployment takes no parameter {name!r}",
                value=name,
                hint=suggest(name, known) if known else "it takes none",
            )
        if name in parameters:
            raise UsageError(
                f"parameter {name!r} is given twice",
                value=text,
                hint="give it once",
            )
        parameters[name] = _value(name, value, _types(known[name], schema))
        _check_choice(name, parameters[name], _choices(known[name], schema))
    _check_required({**own, **parameters}, schema)
    return parameters


def type_words(described: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return which values a parameter may have, or else which types, in JSON schema's words."""
    choices = _choices(described, schema)
    if choices:
        return " or ".join(map(json.dumps, choices))
    types = _types(described, schema)
    if types == ANY:
        return "any"
    return " or ".join(sorted(types, key=lambda name: (name == "null", name)))


def _check_required(parameters: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    known: Mapping[str, Any] = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    missing = [name for name in known if name in required and name not in parameters]
    if missing:
        raise UsageError(
            f"the deployment needs {', '.join(missing)}",
            value=tuple(missing),
            hint="give " + " ".join(f"-p {name}=..." for name in missing),
        )


def _types(described: Mapping[str, Any], schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the JSON types that a part of a schema allows."""
    found = frozenset(_named_types(described, schema))
    return found or ANY


def _choices(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Sequence[Any]:
    """Return the only values that a part of a schema allows; empty where it lists none."""
    if "$ref" in described:
        described = _referred(described, schema)
    return described.get("enum") or ([described["const"]] if "const" in described else ())


def _check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    if choices and value not in choices:
        raise UsageError(
            f"parameter {name!r} is {value!r}",
            value=value,
            hint=suggest(str(value), map(str, choices)),
        )


def _referred(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a reference stands for; nothing where there is no such definition."""
    name = str(described["$ref"]).rpartition("/")[2]
    for group in ("definitions", "$defs"):
        if name in (schema.get(group) or {}):
            found: Mapping[str, Any] = schema[group][name]
            return found
    return {}


def _named_types(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in described:
        yield from _named_types(_referred(described, schema), schema)
        return
    for kind in ("anyOf", "oneOf", "allOf"):
        for each in described.get(kind) or ():
            yield from _types(each, schema)
    kinds = described.get("type")
    yield from [kinds] if isinstance(kinds, str) else kinds or ()
    for value in described.get("enum") or ():
        yield _type_of(value)


def _value(name: str, text: str, types: frozenset[str]) -> Any:
    try:
        value = json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        value = text
    if "string" in types and (types != ANY or isinstance(value, str)):
        kind = _type_of(value)
        return value if kind != "string" and _fits(kind, types) else text
    if not _fits(_type_of(value), types):
        wanted = " or ".join(sorted(types))
        raise UsageError(
            f"parameter {name!r} takes {wanted}, not {text!r}",
            value=text,
            hint=f"give it as JSON, such as -p {name}={_EXAMPLES[min(types)]}",
        )
    return value


def _fits(kind: str, types: frozenset[str]) -> bool:
    return kind in types or (kind == "integer" and "number" in types)


_EXAMPLES = {
    "array": "'[1, 2]'",
    "boolean": "true",
    "integer": "3",
    "null": "null",
    "number": "0.5",
    "object": "'{\"a\": 1}'",
}


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    for kind, name in (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (list, "array"),
    ):
        if isinstance(value, kind):
            return name
    return "object"
