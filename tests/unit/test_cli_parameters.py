"""Parameters of deployments on the command line are what the deployment's schema says."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter

from kinetic_flows.cli.parameters import read_parameters, type_words
from kinetic_flows.core.errors import UsageError


class Colour(Enum):
    """Words as people give them."""

    RED = "red"
    BLUE = "blue"


def _schema(**types: Any) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for name, kind in types.items():
        described = TypeAdapter(kind).json_schema(ref_template="#/definitions/{model}")
        definitions |= described.pop("$defs", {})
        properties[name] = described
    return {"properties": properties, "definitions": definitions}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (float, "0.5", 0.5),
        (float, "1e-3", 0.001),
        (float, "7", 7),
        (int, "7", 7),
        (str, "7", "7"),
        (str, "null", "null"),
        (str, "a=b", "a=b"),
        (str, "", ""),
        (str | None, "null", None),
        (str | None, "7", "7"),
        (int | str, "7", 7),
        (int | str, "seven", "seven"),
        (bool, "true", True),
        (bool, "False", False),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Colour, "red", "red"),
        (Literal["1", "2"], "1", "1"),
        (Any, "7", 7),
        (Any, "seven", "seven"),
    ],
)
def test_a_value_is_of_the_schemas_type(kind: Any, text: str, value: Any) -> None:
    read = read_parameters([f"x={text}"], _schema(x=kind), {})["x"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["rate=fast"], "takes number, not 'fast'"),
        (["rate=true"], "takes number, not 'true'"),
        (["steps=1.5", "rate=1"], "takes integer, not '1.5'"),
        (["rat=1"], "did you mean 'rate'"),
        (["rate"], "write NAME=VALUE"),
        (["=1"], "write NAME=VALUE"),
        (["rate=1", "rate=2"], "given twice"),
        (
            ["rate=1", "colour=rde"],
            "is 'rde'\n  hint: did you mean 'red'? Valid:",
        ),
        (["rate=1", "mode=c"], "parameter 'mode' is 'c'\n  hint: valid: a, b"),
        ([], "give -p rate=..."),
    ],
)
def test_what_does_not_fit_is_refused_before_a_run_is_asked_for(
    given: list[str], words: str
) -> None:
    types: Any = {"rate": float, "steps": int, "colour": Colour, "mode": Literal["a", "b"]}
    schema = {**_schema(**types), "required": ["rate", "steps"]}
    with pytest.raises(UsageError) as refused:
        read_parameters(given, schema, {"steps": 3})
    assert words in str(refused.value)


def test_types_are_told_in_words() -> None:
    schema = _schema(a=str | None, b=Any, c=Colour, d=int | str)
    words = {name: type_words(kind, schema) for name, kind in schema["properties"].items()}
    assert words == {
        "a": "string or null",
        "b": "any",
        "c": '"red" or "blue"',
        "d": "integer or string",
    }
