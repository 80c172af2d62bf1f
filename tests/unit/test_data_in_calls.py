"""`kinetic.Data` in a call: a path in the run, wherever its caller wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from elsewhere import Ran, run_elsewhere
from kinetic_flows.code.data_places import data_in_run
from kinetic_flows.code.payload import pack_call
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError
from shipping import plain_root

A, B = "gs://bucket/a", "gs://bucket/b"

FILES = {
    "requirements.txt": "",
    "lib.py": f"""
        from kinetic_flows.core.data import Data

        def with_default(x, data=Data("{A}"), *, more=[Data("{B}")]):
            return x, kinds(data, more)

        def kinds(*values):
            import json, pathlib
            def told(value):
                is_path = isinstance(value, pathlib.Path)
                return ["path", str(value)] if is_path else list(map(told, value))
            return json.dumps([told(value) for value in values])
    """,
    "main.py": f"""
        import dataclasses
        import numpy
        from kinetic_flows.core.data import Data
        from client import case
        import lib

        A, B = Data("{A}"), Data("{B}", mode="mount")

        @dataclasses.dataclass
        class Config:
            data: object
            def __iter__(self):
                return iter([self.data])

        def kinds(*values):
            return lib.kinds(*values)

        def is_one(first, second):
            return first is second

        def uses_global():
            return lib.kinds(A)

        def closure():
            here = Data("{B}")
            return lambda: lib.kinds(here)

        def default(data=Data("{A}")):
            return lib.kinds(data)

        def with_class(data, kind=Data):
            return lib.kinds(data)

        case("argument", kinds, A)
        case("containers", kinds, [A, (B,)], list({{A: 1}}))
        case("equal", kinds, Data("{A}"), B, Data("{A}"))
        case("identical", is_one, A, A)
        case("dataclass", kinds, Config(Config(A)))
        case("array", kinds, numpy.array([[A, B], [B, A]], dtype=object))
        case("global", uses_global)
        case("closure", closure())
        case("default", default)
        case("default by reference", lib.with_default, 1)
        case("default overridden", lib.with_default, 1, B, more=[])
        case("default by position", lib.with_default, 1, B)
        case("with its class", with_class, A)
        case("none", kinds, [])
    """,
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Calls with data, made in another process."""
    return run_elsewhere(tmp_path_factory.mktemp("data"), FILES)


def path(source: str) -> list[str]:
    return ["path", str(Path(source))]


@pytest.mark.parametrize(
    ("name", "expected", "data"),
    [
        ("argument", [path(A)], [A]),
        ("containers", [[path(A), [path(B)]], [path(A)]], [A, B]),
        ("equal", [path(A), path(B), path(A)], [A, B]),
        ("dataclass", [[[path(A)]]], [A]),
        ("array", [[[path(A), path(B)], [path(B), path(A)]]], [A, B]),
        ("global", [path(A)], [A]),
        ("closure", [path(B)], [B]),
        ("default", [path(A)], [A]),
        ("with its class", [path(A)], [A]),
        ("none", [[]], []),
    ],
)
def test_a_run_has_a_path_where_its_caller_has_data(
    ran: Ran, name: str, expected: Any, data: list[str]
) -> None:
    assert json.loads(eval(ran[name])) == expected
    assert ran.cases[name]["data"] == data


def test_one_object_is_one_path(ran: Ran) -> None:
    assert ran["identical"] == "True"


@pytest.mark.parametrize(
    ("name", "expected", "data"),
    [
        ("default by reference", [path(A), [path(B)]], [A, B]),
        ("default overridden", [path(B), []], [B]),
        ("default by position", [path(B), [path(B)]], [B, B]),
    ],
)
def test_defaults_of_a_function_that_a_run_imports_are_paths_there(
    ran: Ran, name: str, expected: Any, data: list[str]
) -> None:
    number, text = eval(ran[name])
    assert (number, json.loads(text)) == (1, expected)
    assert ran.cases[name]["data"] == data


def test_data_with_other_options_is_other_data() -> None:
    data = (Data(A), Data(A, mode="mount"), Data(A))
    payload = pack_call(print, data, {}, root=plain_root(Path.cwd()))
    assert payload.data == (Data(A), Data(A, mode="mount"))


def test_a_call_is_the_same_bytes_whatever_its_data_is() -> None:
    root = plain_root(Path.cwd())
    first, second = (pack_call(print, (Data(source),), {}, root=root) for source in (A, B))
    assert first.content == second.content


def test_a_pickled_call_is_not_read_here() -> None:
    with pytest.raises(UsageError, match="read in its run alone"):
        data_in_run(0)
