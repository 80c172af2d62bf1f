"""Arguments are described briefly, and secrets not at all."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kinetic_flows.code.payload import argument_reprs


def train(lr: float, /, data: Any = None, *rest: Any, password: str = "", **extra: Any) -> None: ...


@dataclasses.dataclass
class Login:
    user: str
    password: str
    hidden: str = dataclasses.field(default="", repr=False)


class Rude:
    def __repr__(self) -> str:
        raise ValueError("no")


class Endless:
    def __repr__(self) -> str:
        return "x" * 10_000_000


def test_arguments_are_named_as_the_function_names_them() -> None:
    described = argument_reprs(train, (0.1, "x", 2, 3), {"depth": 4})
    assert described == {"lr": "0.1", "data": "'x'", "rest": "(2, 3)", "extra": "{'depth': 4}"}


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000_000,
        b"x" * 10_000_000,
        list(range(1_000_000)),
        {str(index): "y" * 1000 for index in range(10_000)},
        Endless(),
        [[["deep" * 1000] * 100] * 100] * 100,
        [10**5000],
    ],
    ids=["text", "bytes", "list", "mapping", "endless", "nested", "integer"],
)
def test_a_large_argument_is_described_briefly(value: Any) -> None:
    assert len(argument_reprs(train, (value,), {})["lr"]) <= 500


def test_a_repr_that_raises_is_no_error() -> None:
    described = argument_reprs(train, (Rude(),), {})
    assert "Rude" in described["lr"]


def test_an_argument_that_contains_itself_is_described() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert len(argument_reprs(train, (loop,), {})["lr"]) < 100


@pytest.mark.parametrize(
    "kwargs",
    [
        {"password": "hush"},
        {"data": {"api_key": "hush"}},
        {"data": Login(user="me", password="hush", hidden="hush")},
        {"token": "hush"},
        {"data": [{"client_secret": b"hush"}]},
    ],
)
def test_what_is_named_like_a_secret_is_masked(kwargs: dict[str, Any]) -> None:
    text = repr(argument_reprs(train, (1,), kwargs))
    assert "hush" not in text
    assert "***" in text or "bytes" in text


def test_numbers_named_like_secrets_are_shown() -> None:
    assert argument_reprs(train, (1,), {"max_tokens": 512})["extra"] == "{'max_tokens': 512}"


def test_many_arguments_stay_below_what_prefect_accepts() -> None:
    kwargs = {f"argument_{index}": "x" * 1000 for index in range(5_000)}
    described = argument_reprs(lambda **many: None, (), kwargs)
    assert sum(len(name) + len(text) for name, text in described.items()) < 100_000


def test_a_call_that_does_not_fit_is_described_all_the_same() -> None:
    assert argument_reprs(train, (), {"x": 1}) == {"extra": "{'x': 1}"}
    assert argument_reprs(lambda x: x, (1, 2), {}) == {"args[0]": "1", "args[1]": "2"}
